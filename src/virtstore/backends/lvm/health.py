"""What could go wrong in a volume group: its disks, its room, its thin pools and snapshots, and
the settings of this host's LVM.

Sources: lvs(8), lvmthin(7), lvmconfig(8), lvmlockd(8). Host tools needed: lvm.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import msgspec

from virtstore import run
from virtstore.backends.lvm.report import CONFIG, Group
from virtstore.errors import Error
from virtstore.findings import note, ok, problem, warning
from virtstore.model import Access, Finding
from virtstore.units import format_size

_TIMEOUT: Final = 120
#: Percent of a pool or an exception store that are much, and too much.
_MUCH: Final = 80.0
_TOO_MUCH: Final = 95.0
#: The share of a volume group below which there is little room for snapshots and new volumes.
_LITTLE: Final = 0.05

_COLUMNS: Final = (
    "lv_name,lv_layout,lv_role,lv_size,pool_lv,data_percent,metadata_percent,seg_monitor,"
    "lv_snapshot_invalid,lv_health_status"
)
_SETTINGS: Final = (
    "devices/scan_lvs",
    "global/use_lvmlockd",
    "global/thin_check_executable",
    "activation/thin_pool_autoextend_threshold",
)
_LOCKD: Final = "/run/lvm/lvmlockd.socket"


class _Row(msgspec.Struct, frozen=True):
    """A logical volume, as lvs(8) shows it."""

    lv_name: str
    lv_layout: str
    lv_role: str
    lv_size: str
    pool_lv: str
    data_percent: str
    metadata_percent: str
    seg_monitor: str
    lv_snapshot_invalid: str
    lv_health_status: str

    @property
    def is_pool(self) -> bool:
        return {"thin", "pool"} <= set(self.lv_layout.split(","))


class _Section(msgspec.Struct, frozen=True):
    lv: tuple[_Row, ...]


class _Output(msgspec.Struct, frozen=True):
    report: tuple[_Section, ...]


class _Seen(NamedTuple):
    """A volume group of which `path` is /dev/NAME, and this host's settings of LVM."""

    path: str
    group: Group
    access: Access
    volumes: tuple[_Row, ...]
    settings: dict[str, str]

    @property
    def pools(self) -> list[_Row]:
        return [each for each in self.volumes if each.is_pool]


def examine(path: str, group: Group, access: Access) -> Iterator[Finding]:
    """The findings of the volume group at `path`."""
    seen = _Seen(path, group, access, _volumes(path.removeprefix("/dev/")), _settings())
    found = [each for check in _CHECKS for each in check(seen)]
    yield from found
    if not any(each.is_wrong for each in found):
        free = f"{format_size(group.free)} of {format_size(group.size)} free"
        yield ok(f"{path}: a volume group, {free} (access {access})")


def _disks(seen: _Seen) -> Iterator[Finding]:
    if seen.group.missing:
        yield problem(
            f"{seen.path}: {seen.group.missing}",
            "connect that disk again, or have LVM give up what lay on it: vgreduce(8),"
            " --removemissing",
        )


def _room(seen: _Seen) -> Iterator[Finding]:
    if seen.access != "read" and not seen.pools and seen.group.free < seen.group.size * _LITTLE:
        free = f"{format_size(seen.group.free)} of {format_size(seen.group.size)}"
        yield note(
            f"{seen.path}: {free} are free, which may be too little for snapshots, and the backup"
            " of a running machine needs one",
            f"give it another disk: 'vgextend {seen.path.removeprefix('/dev/')} DISK'",
        )


def _pools(seen: _Seen) -> Iterator[Finding]:
    for pool in seen.pools:
        name = f"{seen.path}/{pool.lv_name}"
        lv = name.removeprefix("/dev/")
        for what, percent, remedy in (
            ("data", pool.data_percent, f"'lvextend -L +SIZE {lv}'"),
            ("metadata", pool.metadata_percent, f"'lvextend --poolmetadatasize +SIZE {lv}'"),
        ):
            yield from _filling(
                f"{name}: the {what} of this thin pool",
                percent,
                f"enlarge it: {remedy}; or remove snapshots in it. When it is full, every volume in"
                " it stops, or loses what is written",
            )


def _overcommitted(seen: _Seen) -> Iterator[Finding]:
    """Thin pools whose volumes may grow beyond them, and that nothing enlarges then."""
    threshold = seen.settings.get("thin_pool_autoextend_threshold", "100")
    for pool in seen.pools:
        volumes = [each for each in seen.volumes if each.pool_lv == pool.lv_name]
        promised, size = sum(int(each.lv_size) for each in volumes), int(pool.lv_size)
        grows = pool.seg_monitor == "monitored" and threshold != "100"
        if promised > size and not grows:
            most = f"{format_size(promised)} of a thin pool of {format_size(size)}"
            yield warning(
                f"{seen.path}/{pool.lv_name}: its volumes may take {most}, and nothing enlarges it",
                "set thin_pool_autoextend_threshold = 80 in the section activation of"
                " /etc/lvm/lvm.conf, and have it watched: 'lvchange"
                " --monitor y VG/POOL'",
            )


def _snapshots(seen: _Seen) -> Iterator[Finding]:
    for each in seen.volumes:
        if "thicksnapshot" not in each.lv_role.split(","):
            continue
        name = f"{seen.path}/{each.lv_name}"
        if each.lv_snapshot_invalid not in ("", "unknown"):
            yield warning(
                f"{name}: this snapshot ran full, and what it held is lost",
                f"remove it: 'virtstore delete {name}'",
            )
        else:
            yield from _filling(
                f"{name}: the room for changes of this snapshot",
                each.data_percent,
                f"enlarge it: 'lvextend -L +SIZE {name.removeprefix('/dev/')}'; or remove it. When"
                " it is full, what it holds is lost",
            )


def _health(seen: _Seen) -> Iterator[Finding]:
    for each in seen.volumes:
        if each.lv_health_status not in ("", "partial"):  # a missing disk is said of the group
            yield problem(
                f"{seen.path}/{each.lv_name}: LVM says that its health is"
                f" '{each.lv_health_status}'",
                "see lvs(8), lv_attr, on what that means, and the kernel's log (dmesg) on why",
            )


def _configuration(seen: _Seen) -> Iterator[Finding]:
    if seen.settings.get("scan_lvs") == "1":
        yield warning(
            "LVM of this host looks into guests' volumes (scan_lvs = 1), and may activate what is"
            " in them while a guest uses it",
            "set scan_lvs = 0 in the section devices of /etc/lvm/lvm.conf",
        )
    if seen.settings.get("use_lvmlockd") == "1" and not os.path.exists(_LOCKD):
        yield problem(
            "LVM of this host is to ask lvmlockd, which does not run: shared volume groups cannot"
            " be used",
            "start it: 'systemctl start lvmlockd'; or set use_lvmlockd = 0 in /etc/lvm/lvm.conf"
            " where nothing is shared",
        )
    checker = seen.settings.get("thin_check_executable", "")
    if seen.pools and checker and not os.path.exists(checker):
        yield warning(
            f"{checker} is missing, without which LVM activates no thin pool after a restart",
            "install it (Debian: apt install thin-provisioning-tools)",
        )


def _filling(what: str, percent: str, remedy: str) -> Iterator[Finding]:
    """What is to be said of something that is full by so much; nothing of what is not active."""
    if percent and float(percent) >= _MUCH:
        told = problem if float(percent) >= _TOO_MUCH else warning
        yield told(f"{what} is {float(percent):.1f} % full", remedy)


def _volumes(group: str) -> tuple[_Row, ...]:
    argv = ("lvm", "lvs", "--reportformat", "json", "--units", "b", "--nosuffix", *CONFIG)
    said = run.run((*argv, "-o", _COLUMNS, "--", group), timeout=_TIMEOUT)
    try:
        rows = msgspec.json.decode(said.stdout, type=_Output).report
    except msgspec.DecodeError:
        raise Error(f"lvm lvs failed: {said.complaint}") from None
    named = {row.lv_name: row for section in rows for row in section.lv}  # one of each segment
    return tuple(named.values())


def _settings() -> dict[str, str]:
    """This host's settings of LVM by their names, also those that nobody has set."""
    said = run.run(("lvm", "lvmconfig", "--type", "full", *_SETTINGS), timeout=_TIMEOUT)
    lines = (line.partition("=") for line in said.stdout.decode(errors="replace").splitlines())
    return {name.strip(): value.strip().strip('"') for name, equals, value in lines if equals}


_CHECKS: Final[tuple[Callable[[_Seen], Iterator[Finding]], ...]] = (
    _disks,
    _room,
    _pools,
    _overcommitted,
    _snapshots,
    _health,
    _configuration,
)
