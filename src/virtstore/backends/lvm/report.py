"""What LVM says of a volume group, as values: one `lvm fullreport` in its JSON form, so that the
group and all of its volumes are those of one moment.

Explicit columns, bytes without suffix. Logical volumes are not scanned for physical ones
(`devices/scan_lvs=0`), so a guest's own volume groups are never seen.

What the kernel is to do in a thin pool (make a volume, delete one) LVM first writes down in
its metadata, with a transaction number that the pool has only once it is done. A report waits for
whoever is changing the group; so a pool whose own number is one less, asked afterwards, was
left behind by a crash.

Source: lvm-fullreport(8), lvmreport(7); the kernel's thin-provisioning.rst, "Status". Host tools
needed: lvm, dmsetup.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from virtstore import run
from virtstore.errors import Error, NotFound
from virtstore.model import ImageType, ThinPool
from virtstore.text import remark

#: Never into a guest: its physical volumes lie on our logical ones. And a report looks as it does
#: by default, whatever this host's lvm.conf makes of reports: lvmconfig(8) lists what it can.
CONFIG: Final = (
    "--config",
    "devices { scan_lvs=0 }"
    " log { report_command_log=0 }"
    ' report { output_format="basic" compact_output=0 compact_output_cols="" aligned=1 buffered=1'
    ' headings=1 list_item_separator="," prefixes=0 quoted=1 columns_as_rows=0'
    ' binary_values_as_numeric=0 mark_hidden_devices=1 vgs_sort_full="vg_name"'
    ' pvs_sort_full="pv_uuid" lvs_sort_full="lv_name" pvsegs_sort_full="pvseg_start"'
    ' segs_sort_full="seg_start" }',
)

_UNITS: Final = ("--reportformat", "json", "--units", "b", "--nosuffix")
#: Of the parts that a full report has: all of them, as there is no leaving out of one.
_COLUMNS: Final = {
    "vg": "vg_size,vg_free,vg_extent_size",
    "lv": "lv_name,lv_uuid,vg_uuid,lv_size,lv_tags,lv_role,lv_layout,origin,origin_size,pool_lv,"
    "data_percent,lv_active,lv_device_open,lv_kernel_major,lv_kernel_minor,lv_snapshot_invalid,"
    "lv_health_status",
    "seg": "lv_uuid,zero,transaction_id",
    "pv": "pv_uuid",
    "pvseg": "pv_uuid",
}
_TIMEOUT: Final = 120
_MISSING: Final = re.compile(rb"is missing PV (\S+) \(last written to ([^)]+)\)")


class Volume(msgspec.Struct, frozen=True):
    """One logical volume. `size`: bytes that a reader sees; `allocated`: bytes that it takes
    in its VG or pool; `active`: it has a device, `device`, its number (major, minor);
    `partial`: a physical volume that it lies on is missing;
    `transaction`: of a thin pool, the number of LVM's last change to it."""

    name: str
    uuid: str
    size: int
    allocated: int
    tags: frozenset[str]
    type: ImageType | None
    origin: str | None
    pool: str | None
    active: bool
    open: bool
    device: tuple[int, int]
    invalid: bool
    zeroes: bool
    transaction: int | None
    partial: bool


class Group(msgspec.Struct, frozen=True):
    """One volume group, sizes in bytes. `missing`: what LVM says of the physical volumes that it
    lacks, for a message; empty where it has all."""

    size: int
    free: int
    extent_size: int
    missing: str


class Report(msgspec.Struct, frozen=True):
    """A volume group and its volumes, but for internal ones, as they were at one moment."""

    group: Group
    volumes: tuple[Volume, ...]


class _LvRow(msgspec.Struct, frozen=True):
    lv_name: str
    lv_uuid: str
    vg_uuid: str
    lv_size: str
    lv_tags: str
    lv_role: str
    lv_layout: str
    origin: str
    origin_size: str
    pool_lv: str
    data_percent: str
    lv_active: str
    lv_device_open: str
    lv_kernel_major: str
    lv_kernel_minor: str
    lv_snapshot_invalid: str
    lv_health_status: str


class _SegmentRow(msgspec.Struct, frozen=True):
    """A segment of a volume, which may have several. Those of a thin pool or volume say the
    same."""

    lv_uuid: str = ""
    zero: str = ""
    transaction_id: str = ""


class _VgRow(msgspec.Struct, frozen=True):
    vg_size: str
    vg_free: str
    vg_extent_size: str


class _Section(msgspec.Struct, frozen=True):
    vg: tuple[_VgRow, ...]
    lv: tuple[_LvRow, ...]
    seg: tuple[_SegmentRow, ...]


class _Output(msgspec.Struct, frozen=True):
    report: tuple[_Section, ...]


def report(group: str) -> Report:
    """What LVM says of a volume group, by one call however many volumes there are. Raises
    `NotFound` if there is no such group."""
    said = _said(group)
    found = [(row, section) for section in parse(said.stdout) for row in section.vg]
    if len(found) != 1:
        raise Error(f"LVM reports {len(found)} volume groups called {group}")
    row, section = found[0]
    segments = {segment.lv_uuid: segment for segment in section.seg}
    with _refusing_nonsense():
        return Report(
            Group(
                size=int(row.vg_size),
                free=int(row.vg_free),
                extent_size=int(row.vg_extent_size),
                missing=missing_from(said.stderr),
            ),
            tuple(_volume(lv, segments.get(lv.lv_uuid, _SegmentRow())) for lv in section.lv),
        )


def thin_pools(report: Report) -> tuple[ThinPool, ...]:
    """The thin pools of a VG, with the room that is left in them."""
    pools = [volume for volume in report.volumes if volume.transaction is not None]
    return tuple(ThinPool(pool.name, pool.size, pool.size - pool.allocated) for pool in pools)


def missing_from(complaint: bytes) -> str:
    """The physical volumes that LVM complains to miss, as a clause; "" for none."""
    found = dict(_MISSING.findall(complaint))
    return ", ".join(
        f"the physical volume {uuid.decode()} is missing"
        # LVM forgets where it was once it has written its metadata without it.
        + (f" (it was {remark(last.decode())})" if last != b"[unknown]" else "")
        for uuid, last in found.items()
    )


def is_behind(pool: Volume) -> bool:
    """Whether the kernel has not yet done to a thin pool what LVM last wrote down for it."""
    said = run.run(("dmsetup", "status", "--uuid", f"{pool.uuid}-tpool"), timeout=_TIMEOUT)
    if said.status != 0:
        return False  # it is not active
    with _refusing_nonsense():
        _, _, target, transaction, *_ = said.stdout.split()
        return target == b"thin-pool" and int(transaction) + 1 == pool.transaction


def _said(group: str) -> run.Completed:
    columns = [word for part, of in _COLUMNS.items() for word in ("--configreport", part, "-o", of)]
    argv = ("lvm", "fullreport", *_UNITS, *CONFIG, *columns, "--", group)
    for attempt in range(3):
        said = run.run(argv, timeout=_TIMEOUT)
        if said.status == 0:
            return said
        if b"not found" in said.stderr:
            raise NotFound(f"there is no volume group {group} ({said.complaint})")
        time.sleep(attempt)  # a report can fail because something is being changed
    raise Error(f"lvm fullreport failed: {said.complaint}")


def parse(output: bytes) -> tuple[_Section, ...]:
    """LVM's report as values. Raises `Error` for what is none."""
    with _refusing_nonsense():
        return msgspec.json.decode(output, type=_Output).report


@contextmanager
def _refusing_nonsense() -> Iterator[None]:
    try:
        yield
    except (msgspec.DecodeError, ValueError) as error:
        raise Error(f"lvm answered with something that is no report ({error})") from None


def _volume(row: _LvRow, segment: _SegmentRow) -> Volume:
    size = int(row.lv_size)
    thin = "thin" in row.lv_layout.split(",")
    thick_snapshot = "thicksnapshot" in row.lv_role.split(",")
    return Volume(
        name=row.lv_name,
        uuid=f"LVM-{row.vg_uuid}{row.lv_uuid}".replace("-", "").replace("LVM", "LVM-", 1),
        size=int(row.origin_size) if thick_snapshot else size,
        allocated=_percent(row) if thin else size,
        tags=frozenset(tag for tag in row.lv_tags.split(",") if tag),
        type=_type(row),
        origin=row.origin or None,
        pool=row.pool_lv or None,
        active=row.lv_active == "active",
        open=row.lv_device_open == "open",
        device=(int(row.lv_kernel_major), int(row.lv_kernel_minor)),
        invalid=row.lv_snapshot_invalid not in ("", "unknown"),
        zeroes=segment.zero == "zero",
        transaction=int(segment.transaction_id) if _is_pool(row) else None,
        partial=row.lv_health_status == "partial",
    )


def _is_pool(row: _LvRow) -> bool:
    return {"thin", "pool"} <= set(row.lv_layout.split(","))


def _type(row: _LvRow) -> ImageType | None:
    """The type of the image that a volume is; None for pools, and for parts of other volumes."""
    roles, layout = row.lv_role.split(","), row.lv_layout.split(",")
    if "public" not in roles:
        return None
    if "thin" in layout:
        return "lvm-thin-snapshot" if "snapshot" in roles else "lvm-thin"
    return "lvm-snapshot" if "snapshot" in roles else "lvm"


def _percent(row: _LvRow) -> int:
    """Bytes that are used of a thin volume or a pool; all of it where that is not known
    (inactive)."""
    used = float(row.data_percent) if row.data_percent else 100.0
    return int(int(row.lv_size) * used / 100)
