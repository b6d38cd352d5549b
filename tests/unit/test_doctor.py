"""The checks of the agent's doctor that need no real host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from virtstore.agent import doctor, libvirt_pools, locks
from virtstore.agent.config import Config
from virtstore.agent.doctor import configuration, libvirt, programs, system
from virtstore.agent.policy import Policy
from virtstore.backends.files.root import DirectoryRoot
from virtstore.errors import Denied, Error
from virtstore.findings import ok
from virtstore.libvirt import virsh
from virtstore.model import Finding

_POOL = """<pool type='{kind}'><name>{name}</name><source><name>vg7</name></source>
<target><path>{path}</path></target></pool>"""


def policy(*roots: Path, restrict_to: tuple[str, ...] = (), log: str = "none") -> Policy:
    configured = tuple(DirectoryRoot(str(root), "write") for root in roots)
    return Policy(Config(configured, log=log, sources=("/etc/x.toml",)), restrict_to)


def nothing() -> None:
    pass


def test_what_one_package_brings_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("virtstore.programs.find", lambda tool: None)
    told = {each.what: each.remedy for each in programs.optional()}
    ext = "e2fsck, resize2fs are missing; they are for resizing ext2, ext3, ext4"
    assert told[ext] == "install them (Debian: apt install e2fsprogs)"
    lzop = "lzop is missing; it is for archives in lzop"
    assert told[lzop] == "install it (Debian: apt install lzop)"


def test_a_check_that_fails_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Iterator[Finding]:
        yield ok("first")
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(doctor, "_HOST", (broken, system.kernel))
    monkeypatch.setattr(doctor, "_CONFIGURED", ())
    told = doctor.examine(policy, nothing)
    assert [each.severity for each in told] == ["warning", "ok", "ok"]
    assert "the check of broken failed" in told[0].what


def test_no_more_is_said_than_a_message_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [Finding("", "ok", "x" * 5000)] * 400 + [Finding("", "problem", "y\x1b[2J", "z")]
    monkeypatch.setattr(doctor, "_HOST", (lambda: many,))
    monkeypatch.setattr(doctor, "_CONFIGURED", ())
    told = doctor.examine(policy, nothing)
    assert told[0] == Finding("", "problem", "y?[2J", "z")
    assert told[-1].what == "there are 151 more findings"
    assert sum(len(each.what) for each in told) < 300_000


def test_whoever_went_away_is_examined_no_further() -> None:
    def gone() -> None:
        raise Error("the client went away")

    with pytest.raises(Error, match="went away"):
        doctor.examine(policy, gone)


def test_a_pool_of_libvirts_in_no_root_is_told_with_the_lines_that_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools, images = tmp_path / "storage", tmp_path / "images"
    pools.mkdir()
    images.mkdir()
    monkeypatch.setattr(libvirt_pools, "POOLS", str(pools))
    monkeypatch.setattr(libvirt_pools, "DEFAULT", str(images))
    assert list(libvirt.pools(policy())) == []
    for name, kind, path in (
        ("dir", "dir", "/srv/pool"),
        ("lv", "logical", "/dev/vg7"),
        ("rbd", "rbd", ""),
    ):
        (pools / f"{name}.xml").write_text(_POOL.format(kind=kind, name=name, path=path))
    (pools / "broken.xml").write_text("<pool")
    (images / "web.img").write_bytes(b"")
    told = {each.what.split()[2]: each for each in libvirt.pools(policy(Path("/srv")))}
    assert {name: each.severity for name, each in told.items()} == {
        "default": "note",
        "dir": "ok",
        "lv": "note",
    }
    assert '[[volume_group]]\nname = "vg7"' in (told["lv"].remedy or "")
    assert f'[[directory]]\npath = "{images}"' in (told["default"].remedy or "")
    assert list(libvirt.pools(policy(Path("/srv"), restrict_to=("/srv/x",)))) == []


def test_a_libvirt_that_tells_nothing_of_its_domains_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(virsh, "SOCKETS", (str(tmp_path / "socket"),))
    assert list(libvirt.answers()) == []
    (tmp_path / "socket").touch()
    monkeypatch.setattr("virtstore.programs.find", lambda tool: None)
    (missing,) = libvirt.answers()
    assert (missing.severity, missing.remedy) == (
        "warning",
        "install it (Debian: apt install libvirt-clients)",
    )
    monkeypatch.setattr(
        "virtstore.programs.find", lambda tool: f"/bin/{'false' if tool == 'virsh' else tool}"
    )
    (silent,) = libvirt.answers()
    assert silent.severity == "warning"
    assert "protects the disks" in silent.what


def test_a_kernel_that_is_too_old_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "_has_openat2", lambda: False)
    (told,) = system.kernel()
    assert (told.severity, "openat2" in told.what) == ("problem", True)


def test_little_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "_WANTED", 1 << 60)
    (told,) = system.memory()
    assert told.severity == "warning"


def test_locks_that_cannot_be_kept_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> list[str]:
        raise Denied("/run/virtstore is not a directory of root's alone")

    monkeypatch.setattr(locks, "_directories", refuse)
    (told,) = system.locks()
    assert (told.severity, "locks cannot be kept" in told.what) == ("problem", True)


def test_a_host_without_any_log_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configuration, "_has_syslog", lambda: False)
    (told,) = configuration.log(policy(log="syslog"))
    assert told.severity == "note"
    monkeypatch.setattr(configuration, "_has_syslog", lambda: True)
    (told,) = configuration.log(policy(log="syslog"))
    assert told.severity == "ok"


def test_the_setting_that_keeps_bubblewrap_from_working_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "setting").write_text("1\n")
    monkeypatch.setattr(programs, "_WALLS", ((f"{tmp_path}/setting", "1", "turn it off"),))
    assert programs._opening() == "turn it off"
    (tmp_path / "setting").write_text("0\n")
    assert programs._opening() == ""
