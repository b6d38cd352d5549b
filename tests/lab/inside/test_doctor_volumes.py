"""What `doctor` says of real volume groups: what fills up, what is lost, and LVM's settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import virtstore

from .shell import MIB, sh

_LVM_CONF: Final = Path("/etc/lvm/lvm.conf")


@pytest.fixture
def lvm_conf() -> Iterator[Path]:
    before = _LVM_CONF.read_text()
    yield _LVM_CONF
    _LVM_CONF.write_text(before)


def found(host: virtstore.Host) -> dict[str, str]:
    """What is not in order of volumes and LVM, with its severity."""
    return {
        each.what: each.severity
        for each in host.doctor()
        if each.severity != "ok" and ("/dev/vg" in each.what or "LVM" in each.what)
    }


def severity(host: virtstore.Host, says: str) -> str:
    (told,) = [severity for what, severity in found(host).items() if says in what]
    return told


def test_a_healthy_volume_group_has_nothing_to_be_told(here: virtstore.Host) -> None:
    sh("lvcreate -qq -y --type thin-pool -L 32M -n pool vg0")
    here.create("/dev/vg0/thin", 8 * MIB, thin="pool")
    here.create("/dev/vg0/web", 8 * MIB)
    here.image("/dev/vg0/web").snapshot("web-s1")
    assert found(here) == {}
    assert any(each.what.startswith("/dev/vg0: a volume group, ") for each in here.doctor())


def test_a_thin_pool_that_is_nearly_full_is_a_problem(here: virtstore.Host) -> None:
    sh("lvcreate -qq -y --type thin-pool -L 32M -n pool vg0")
    sh("lvcreate -qq -y -V 32M --thinpool vg0/pool -n thin")
    assert found(here) == {}
    sh("head -c 27M /dev/urandom >/dev/vg0/thin; sync")
    assert severity(here, "/dev/vg0/pool: the data of this thin pool is 84.4 % full") == "warning"
    sh("head -c 31M /dev/urandom >/dev/vg0/thin; sync")
    assert severity(here, "/dev/vg0/pool: the data of this thin pool is 96.9 % full") == "problem"
    remedy = next(each.remedy for each in here.doctor() if "96.9 %" in each.what)
    assert remedy
    assert "'lvextend -L +SIZE vg0/pool'" in remedy


def test_a_pool_of_volumes_beyond_its_size_that_nothing_enlarges_is_told(
    here: virtstore.Host,
) -> None:
    sh("lvcreate -qq -y --type thin-pool -L 32M -n pool vg0")
    sh("lvcreate -qq -y -V 64M --thinpool vg0/pool -n thin")
    assert severity(here, "its volumes may take 64 MiB of a thin pool of 32 MiB") == "warning"


def test_a_snapshot_that_fills_up_is_told_and_one_that_is_lost_too(here: virtstore.Host) -> None:
    sh("lvcreate -qq -y -L 8M -n web vg0 && lvcreate -qq -y -s -L 4M -n snap vg0/web")
    sh("head -c 3500K /dev/urandom >/dev/vg0/web; sync")
    assert severity(here, "/dev/vg0/snap: the room for changes of this snapshot") == "warning"
    sh("head -c 8M /dev/urandom >/dev/vg0/web; sync")
    assert severity(here, "/dev/vg0/snap: this snapshot ran full") == "warning"


def test_little_room_in_a_group_is_a_note(here: virtstore.Host) -> None:
    sh("lvcreate -qq -y -Zn -Wn -l 98%FREE -n all vg0")
    assert severity(here, "/dev/vg0: 8 MiB of 240 MiB are free") == "note"


def test_what_was_cut_short_among_volumes_is_told(here: virtstore.Host) -> None:
    tags = "--addtag virtstore.partial --addtag virtstore.draft"
    sh(f"lvcreate -qq -y -L 8M -n web.virtstore-partial {tags} vg0")
    assert severity(here, "/dev/vg0: interrupted operations left 1 partial image") == "note"


@pytest.mark.parametrize(
    ("line", "says", "how_bad"),
    [
        ("devices { scan_lvs = 1 }", "looks into guests' volumes", "warning"),
        ("global { use_lvmlockd = 1 }", "lvmlockd, which does not run", "problem"),
    ],
)
def test_settings_that_do_harm_are_told(
    here: virtstore.Host, lvm_conf: Path, line: str, says: str, how_bad: str
) -> None:
    lvm_conf.write_text(f"{lvm_conf.read_text()}\n{line}\n")
    assert severity(here, says) == how_bad


def test_a_pool_that_no_restart_would_activate_is_told(
    here: virtstore.Host, lvm_conf: Path
) -> None:
    sh("lvcreate -qq -y --type thin-pool -L 32M -n pool vg0")
    lvm_conf.write_text(
        lvm_conf.read_text().replace(
            'thin_check_executable = ""', 'thin_check_executable = "/nonexistent/thin_check"'
        )
    )
    assert severity(here, "without which LVM activates no thin pool") == "warning"
