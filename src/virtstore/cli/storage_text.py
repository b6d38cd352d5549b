"""What a person sees of a host's storage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from virtstore.cli.table import Cell, Column, table
from virtstore.cli.terminal import PLAIN, Screen
from virtstore.errors import spelled
from virtstore.lacking import INSTEAD
from virtstore.model import FilesystemSupport, StorageInfo, VolumeGroup
from virtstore.units import format_size

_COLUMNS: Final = (
    Column("ROOT", "path"),
    Column("ACCESS"),
    Column("FILE SYSTEM"),
    Column("FREE", "number"),
    Column("TOTAL", "number"),
    Column("SNAPSHOTS"),
)


def storage_text(info: StorageInfo, *, exact: bool = False, screen: Screen = PLAIN) -> str:
    """The roots as a table, and what the host can do. `exact`: bytes in place of units."""
    lines = [screen.line(f"{info.host}: virtstore {info.version}")]
    if info.roots:
        lines += _roots_table(info, exact=exact, screen=screen)
    else:
        nothing = "no root can be used" if info.warnings else nothing_configured(info.host)
        lines.append(screen.line(nothing, indent=2))
    for directory in info.directories:
        lines += [
            screen.line(f"{directory.path} lacks {lack}: {INSTEAD.get(lack, '')}", indent=2)
            for lack in directory.lacks
        ]
    for warning in info.warnings:
        told = _one_line(warning)
        lines.append(screen.line(told, head="warning: ", head_style="warning", indent=2))
    for pool in info.unmanaged:
        told = f"libvirt's pool {pool.name} ({pool.path}) lies in no root; {pool.remedy}"
        lines += [screen.line(line, indent=2) for line in told.split("\n")]
    for able, types in _abilities(info.filesystems).items():
        told = f"{', '.join(types)}: {able}"
        lines.append(screen.line(told, head="file systems ", indent=2))
    formats = [f.name if f.read and f.write else f"{f.name} (not here)" for f in info.formats]
    lines.append(screen.line(f"archive formats: {', '.join(formats)}", indent=2))
    return "\n".join(lines)


def _roots_table(info: StorageInfo, *, exact: bool, screen: Screen) -> list[str]:
    size = str if exact else format_size
    rows = []
    for root in info.roots:
        # A bucket has no size.
        sizes = (size(root.free), size(root.total)) if root.total else ("-", "-")
        facts = (root.path, root.access, root.filesystem, *sizes)
        rows.append((*facts, "yes" if root.snapshots else "no"))
        for pool in root.thin_pools if isinstance(root, VolumeGroup) else ():
            room = size(pool.free), size(pool.total)
            rows.append((f"{root.path}/{pool.name}", root.access, "thin pool", *room, "yes"))
    return table(_COLUMNS, [list(map(Cell, row)) for row in rows], screen)


def _abilities(kinds: Sequence[FilesystemSupport]) -> dict[str, list[str]]:
    """What can be done with file systems, each with the types of those of which it is true."""
    found: dict[str, list[str]] = {}
    for kind in kinds:
        found.setdefault(_ability(kind), []).append(kind.type)
    return found


def _ability(kind: FilesystemSupport) -> str:
    able = [verb for verb, can in (("grow", kind.grow), ("shrink", kind.shrink)) if can]
    missing = f" ({why})" if (why := _why_not(kind)) else ""
    return f"{' and '.join(able) or 'neither grow nor shrink'}{missing}"


def _why_not(kind: FilesystemSupport) -> str:
    """Why a host cannot resize a file system further, as far as that is known."""
    if kind.missing:
        return f"missing: {', '.join(kind.missing)}"
    if kind.grow:
        return "" if kind.shrink else "it cannot shrink"
    if kind.type in ("xfs", "btrfs"):
        return (
            "that needs it mounted in the host's kernel: by an agent that is root, where [limits]"
            " has mount_guest_filesystems = true"
        )
    return "recognised, and not resized"


def nothing_configured(host: str) -> str:
    """The text for a host that has no root: how to see the lines of configuration that make one."""
    return (
        f"nothing is configured here; 'virtstore list {spelled(host, '/DIRECTORY')}', or"
        f" {spelled(host, '/dev/VG')}, tells the lines of configuration that allow it"
    )


def _one_line(text: str) -> str:
    """A message in one line, also one that shows lines of configuration."""
    return " ".join(line for line in text.split("\n") if line)
