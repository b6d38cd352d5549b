"""A week of an administrator who does nothing: the units as they are shipped, started by systemd's
timer, on a logical volume of the lab's own, with its backups on host b.

systemd is process 1 of a namespace of its own in the lab, whose clock is set to each night. In one
the network is cut while the backup is being made, in another the target is full, and each has good
ones around it: five nights, and with VIRTSTORE_TORTURE the whole seven. The volume's agent runs
within the unit: so what the unit forbids keeps no snapshot from being made.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from release import deb

from ...waiting import until
from ..conftest import TORTURE
from ..hosts import Hosts
from .shell import sh

_PROGRAM: Final = str(Path(sys.executable).with_name("virtstore"))
_UNITS: Final = Path("/run/units")
_NIGHTS: Final = Path("/run/nights")
_BACKUPS: Final = Path("/mnt/b/backups")
_LAST: Final = 7 if TORTURE in os.environ else 5
_CUT, _FULL = _LAST - 3, _LAST - 1
#: The mornings on which somebody looks: after those two, and the last.
_LOOKED_AT: Final = (_CUT, _FULL, _LAST)
#: What these units name and the distribution has.
_TARGETS: Final = (
    "sysinit basic timers shutdown network-online local-fs remote-fs time-set time-sync"
)

_JOB: Final = """
sources = ["/dev/vg0/web"]
target = "b:/mnt/b/backups"
max_age = "26h"
bwlimit = "{rate}"

[hooks]
after = "echo $VIRTSTORE_STATUS >> /run/nights"
"""
_DROP_IN: Final = """
[Service]
Environment="VIRTSTORE_RSH={rsh}"
StandardOutput=append:/run/journal
StandardError=append:/run/journal
"""
#: As that unit says that somebody is told.
_TELL: Final = "[Service]\nExecStart=/bin/sh -c 'echo \"$1\" >>/run/told' sh %i\n"
#: At once, so that the lab need not wait.
_AT_ONCE: Final = "[Timer]\nRandomizedDelaySec=0\nAccuracySec=1us\n"


class Night(NamedTuple):
    """What the volume was at that moment (a digest), the exit status of the job, and what the
    check of the morning said was late."""

    digest: str
    status: int
    late: str


def set_clock(day: int, hour: str) -> None:
    sh(f"date -s '2026-11-{20 + day} {hour}'")


@pytest.fixture(scope="module")
def places(hosts: Hosts) -> None:
    sh("vgcreate -qq vg0 /dev/ubda && lvcreate -qq -y -L 16M -n web vg0")
    sh("mkfs.ext4 -q /dev/vg0/web && mkdir -p /mnt/guest /mnt/b")
    sh(f"mkfs.xfs -q /dev/ubdb && mount /dev/ubdb /mnt/b && mkdir {_BACKUPS} /mnt/b/restored")
    hosts.b.configuration.write_text('[[directory]]\npath = "/mnt/b"\naccess = "write"\n')
    Path("/etc/virtstore/backup").mkdir(parents=True)
    own = Path("/etc/virtstore/config.toml")
    own.write_text('[[volume_group]]\nname = "vg0"\naccess = "write"\n')


def job(rate: str = "0") -> None:
    Path("/etc/virtstore/backup/web.toml").write_text(_JOB.format(rate=rate))


@contextmanager
def systemd(hosts: Hosts) -> Iterator[None]:
    """systemd has the units that the package ships, and the timer of the job `web` is enabled."""
    deb.units(_UNITS)
    for service in _UNITS.glob("*.service"):
        service.write_text(service.read_text().replace("=/usr/bin/virtstore ", f"={_PROGRAM} "))
    for target in _TARGETS.split():
        (_UNITS / f"{target}.target").write_text("[Unit]\nDefaultDependencies=no\n")
    rsh = f"{hosts.rsh} -o ServerAliveInterval=1 -o ServerAliveCountMax=2"
    drop_in("virtstore-backup@.service", _DROP_IN.format(rsh=rsh))
    drop_in("virtstore-failed@.service", _TELL)
    drop_in("virtstore-backup@web.timer", _AT_ONCE)
    drop_in("timers.target", "[Unit]\nWants=virtstore-backup@web.timer\n")
    argv = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--cgroup"]
    argv += ["/lib/systemd/systemd", "--unit=timers.target"]
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": str(_UNITS), "container": "lab"}
    process = subprocess.Popen(argv, env=environment)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def drop_in(unit: str, text: str) -> None:
    (_UNITS / f"{unit}.d").mkdir()
    (_UNITS / f"{unit}.d" / "lab.conf").write_text(text)


def work_of_a_day(day: int) -> str:
    """What the guest does. Returns the digest of its disk then."""
    sh("mount /dev/vg0/web /mnt/guest")
    sh(f"echo day {day} >/mnt/guest/diary; head -c 1M /dev/urandom >/mnt/guest/work-{day}")
    sh("umount /mnt/guest")
    return digest(Path("/dev/vg0/web"))


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def night(day: int) -> int:
    """The timer fires. Returns the status of the job, as its hook was told."""
    before = statuses()
    set_clock(day, "00:59:59")
    try:
        if day == _CUT:
            until(
                lambda: [*_BACKUPS.glob(f"*2026-11-{20 + _CUT}*")],
                "the backup of the night of the cut",
            )
            sh("ip link set lab-b down")
        until(lambda: len(statuses()) > len(before), f"the hook of night {day}")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{said('journal')}") from None
    finally:
        sh("ip link set lab-b up")
    return statuses()[-1]


def said(log: str) -> str:
    return Path("/run", log).read_text()[-4000:]


def statuses() -> list[int]:
    return [*map(int, _NIGHTS.read_text().split())] if _NIGHTS.exists() else []


@contextmanager
def open_by_a_guest() -> Iterator[None]:
    """The volume is in use, so nothing but a snapshot of it can be copied."""
    with Path("/dev/vg0/web").open("r+b"):
        yield


@contextmanager
def no_room() -> Iterator[None]:
    sh("fallocate -l $(($(stat -f -c %a*%S /mnt/b) - 1048576)) /mnt/b/filler")
    yield
    sh("rm /mnt/b/filler")


def virtstore(hosts: Hosts, *words: str) -> subprocess.CompletedProcess[str]:
    """What somebody types on the host with the job."""
    environment = {**os.environ, "VIRTSTORE_RSH": hosts.rsh}
    return subprocess.run(
        [_PROGRAM, *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def week(hosts: Hosts, places: None) -> dict[int, Night]:
    """The nights, by their day."""
    nights: dict[int, Night] = {}
    set_clock(0, "12:00:00")
    with systemd(hosts):
        for day in range(1, _LAST + 1):
            job("256K" if day == _CUT else "0")
            moment = work_of_a_day(day)
            with open_by_a_guest(), no_room() if day == _FULL else nullcontext():
                status = night(day)
            set_clock(day, "07:00:00")
            late = virtstore(hosts, "backups", "--job", "web") if day in _LOOKED_AT else None
            nights[day] = Night(moment, status, late.stderr if late and late.returncode else "")
    return nights


@pytest.fixture(scope="module")
def left(hosts: Hosts, week: dict[int, Night]) -> dict[int, Path]:
    """The backups that the rules keep, by their day. They are those of the job on the backup host,
    which prunes for itself."""
    job_there = hosts.b.configuration.with_name("backup") / "web.toml"
    job_there.parent.mkdir()
    job_there.write_text(f'target = "{_BACKUPS}"\n[keep]\ndaily = 3\n')
    done = hosts.ssh(hosts.b, "virtstore prune --job web")
    assert done.returncode == 0, done
    return {int(path.name[12:14]) - 20: path for path in sorted(_BACKUPS.iterdir())}


def test_the_timer_fires_each_night_and_the_nights_that_failed_have_their_status(
    week: dict[int, Night],
) -> None:
    expected = {**dict.fromkeys(week, 0), _CUT: 10, _FULL: 7}
    assert {day: each.status for day, each in week.items()} == expected
    assert said("told").split() == ["virtstore-backup@web.service"] * 2


def test_the_mornings_check_tells_of_the_nights_that_failed(week: dict[int, Night]) -> None:
    told = {day: each.late for day, each in week.items() if each.late}
    assert list(told) == [_CUT, _FULL]
    assert all("web" in text for text in told.values())


def test_the_rules_keep_the_last_three_days_that_have_a_backup(left: dict[int, Path]) -> None:
    assert list(left) == [_LAST - 4, _LAST - 2, _LAST]


def test_each_backup_that_is_left_is_restored_as_the_volume_was(
    hosts: Hosts, week: dict[int, Night], left: dict[int, Path]
) -> None:
    for day in left:
        target, noon = f"/mnt/b/restored/{day}.img", f"2026-11-{20 + day}T12:00Z"
        done = virtstore(hosts, "restore", f"b:{_BACKUPS}/web", f"b:{target}", "--at", noon)
        assert done.returncode == 0, done
        assert digest(Path(target)) == week[day].digest


def test_a_single_file_is_taken_out_of_the_oldest(hosts: Hosts, left: dict[int, Path]) -> None:
    done = virtstore(hosts, "extract", f"b:{left[min(left)]}", "/diary", "-o", "-")
    assert (done.returncode, done.stdout) == (0, f"day {min(left)}\n")
