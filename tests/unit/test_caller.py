"""Who started an agent: whoever came by sudo, its like or ssh chooses no configuration."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from virtstore.agent import caller, config
from virtstore.agent.policy import Policy
from virtstore.errors import Denied

STRANGER = os.geteuid() + 4711


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A configuration that VIRTSTORE_CONFIG and XDG_CONFIG_HOME name, on a host that has none."""
    for name in ("SYSTEM_FILE", "SYSTEM_DIRECTORY"):
        monkeypatch.setattr(config, name, f"{tmp_path}/none")
    file = tmp_path / "virtstore" / "config.toml"
    file.parent.mkdir()
    file.write_text('[[directory]]\npath = "/srv/images"\n')
    file.chmod(0o600)
    monkeypatch.setenv("VIRTSTORE_CONFIG", str(file))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return str(file)


def having(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


OTHERS = [
    {"SUDO_UID": str(STRANGER)},
    {"SUDO_USER": "no-such-user-here"},
    {"SUDO_UID": ""},
    {"SUDO_UID": "0", "SUDO_USER": "no-such-user-here"},
    {"DOAS_USER": "no-such-user-here"},
    {"PKEXEC_UID": str(STRANGER)},
    {"SUDO_UID": str(STRANGER), "SUDO_COMMAND": "/usr/bin/virtstore-agent --config /srv/i/bash"},
    {"SUDO_UID": str(STRANGER), "SUDO_COMMAND": "/bin/bash -c virtstore-agent --config /srv/i"},
    {"DOAS_USER": "no-such-user-here", "SUDO_COMMAND": "/bin/bash"},
]


@pytest.mark.parametrize("variables", OTHERS)
def test_another_caller_names_no_configuration(
    named: str, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    having(monkeypatch, **variables)
    with pytest.raises(Denied, match=r"--config .* is refused: .*started by somebody else"):
        config.load(named)
    assert config.load(None).roots == ()


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"SUDO_UID": "0", "SUDO_USER": "root"},
        {"SUDO_UID": str(os.geteuid())},
        {"SUDO_UID": str(STRANGER), "SUDO_COMMAND": "/bin/bash"},  # sudo -i, sudo -s
        {"SUDO_UID": str(STRANGER), "SUDO_COMMAND": "/usr/bin/su"},
    ],
)
def test_the_agents_own_user_names_one(
    named: str, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    having(monkeypatch, **variables)
    assert config.load(named).sources == (named,)
    assert config.load(None).sources == (named,)


def test_what_a_set_user_id_program_starts_has_another_caller(
    named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: STRANGER)
    with pytest.raises(Denied, match="set-user-ID"):
        config.load(named)
    assert config.load(None).roots == ()


def test_over_ssh_only_the_command_line_names_one(
    named: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    having(monkeypatch, SSH_CONNECTION="192.0.2.1 50000 192.0.2.2 22")
    assert config.load(None).roots == ()
    assert "VIRTSTORE_CONFIG" in caplog.text
    with pytest.raises(Denied, match="no configuration was found; VIRTSTORE_CONFIG is ignored"):
        Policy(config.load(None)).require("/srv/images/x.img", "read")
    assert "command=" in caplog.text
    assert config.load(named).sources == (named,)


def test_python_is_not_told_what_to_import_by_another_caller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "environ", {"PYTHONPATH": "/srv/images", "PYTHONSTARTUP": "/srv/x"})
    caller.drop_foreign_environment()
    assert os.environ["PYTHONPATH"] == "/srv/images"
    os.environ["SSH_CONNECTION"] = "192.0.2.1 50000 192.0.2.2 22"
    caller.drop_foreign_environment()
    assert list(os.environ) == ["SSH_CONNECTION"]


def test_another_caller_does_not_say_where_programs_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for foreign in ({"SUDO_UID": str(STRANGER)}, {}):
        monkeypatch.setattr(os, "environ", {"PATH": "/home/alice/bin:/usr/bin", **foreign})
        caller.drop_foreign_environment()
        assert ("/home/alice/bin" in os.environ["PATH"]) == (not foreign)


def test_an_empty_config_option_is_not_the_hosts_own(named: str) -> None:
    with pytest.raises(Denied, match="without a file's name"):
        config.load("")


def test_a_configuration_below_its_own_root_is_refused(named: str, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    for root in (f"{tmp_path}/virtstore", f"{tmp_path}//./", str(link), str(tmp_path.parent)):
        Path(named).write_text(f'[[directory]]\npath = "{root}"\n')
        for way in (named, f"{link}/virtstore/config.toml"):
            with pytest.raises(Denied, match="lies below"):
                config.load(way)
        with pytest.raises(Denied, match="lies below"):
            config.load(None)


def test_a_configuration_below_a_root_of_the_host_is_refused(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = tmp_path / "host.toml"
    host.write_text(f'[[directory]]\npath = "{tmp_path}/virtstore"\n')
    host.chmod(0o600)
    monkeypatch.setattr(config, "SYSTEM_FILE", str(host))
    with pytest.raises(Denied, match=f"lies below {tmp_path}/virtstore"):
        config.load(named)


def test_the_hosts_own_configuration_below_its_root_is_refused(
    named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    having(monkeypatch, VIRTSTORE_CONFIG="", XDG_CONFIG_HOME="/nonexistent")
    monkeypatch.setattr(config, "SYSTEM_DIRECTORY", os.path.dirname(named))
    Path(named).write_text(f'[[directory]]\npath = "{os.path.dirname(named)}"\n')
    with pytest.raises(Denied, match="lies below"):
        config.load(None)
