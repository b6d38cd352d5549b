"""The hosts that a user may mean, by the files that name them."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtstore.client import host_names


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("VIRTSTORE_RSH", raising=False)
    (tmp_path / ".ssh").mkdir()
    (tmp_path / "xdg" / "virtstore").mkdir(parents=True)
    return tmp_path


def named(home: Path) -> set[str]:
    """The names, but for those that this machine has for everybody."""
    return {name for name in host_names.names() if name.startswith("vs-")}


def test_hosts_of_the_configuration_of_ssh_are_known(home: Path) -> None:
    (home / ".ssh" / "config").write_text(
        'Host vs-a vs-b *.vs-c !vs-d\n  host = "vs-e" # vs-f\nInclude more/*\nMatch host vs-g\n'
        "Host 'vs-unfinished\n"
    )
    (home / ".ssh" / "more").mkdir()
    (home / ".ssh" / "more" / "x").write_text("HOST\tvs-h\nInclude more/x\n")
    assert named(home) == {"vs-a", "vs-b", "vs-e", "vs-h"}


def test_a_configuration_that_is_named_takes_the_place_of_the_users(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / ".ssh" / "config").write_text("Host vs-a\n")
    (home / "other").write_text("Host vs-b\n")
    monkeypatch.setenv("VIRTSTORE_RSH", f"ssh -F {home}/other")
    assert named(home) == {"vs-b"}


def test_hosts_whose_keys_are_known_are_known(home: Path) -> None:
    (home / ".ssh" / "known_hosts").write_text(
        "vs-a,[vs-b]:2222,192.0.2.1,2001:db8::1 ssh-ed25519 AAAA\n"
        "|1|aGFzaGVk|aGFzaGVk= ssh-ed25519 AAAA\n"
        "@revoked vs-c ssh-ed25519 AAAA\n# vs-d\n\n*.vs-e ssh-ed25519 AAAA\n"
    )
    assert named(home) == {"vs-a", "vs-b"}
    assert "192.0.2.1" in host_names.names()


def test_hosts_of_the_hosts_file_are_known_and_this_machine_is_none(home: Path) -> None:
    file = home / "xdg" / "virtstore" / "hosts.toml"
    file.write_text('[hosts.vs-a]\nagent = "x"\n[hosts.local]\nagent = "y"\n')
    assert named(home) == {"vs-a"}
    assert "local" not in host_names.names()
    file.write_text("no TOML")
    assert named(home) == set()
