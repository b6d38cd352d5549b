"""What a person sees of images: a listing of many, and all that is known of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from virtstore.cli.render import bytes_text, on
from virtstore.cli.sorting import SortKey
from virtstore.cli.table import Cell, Column, Row, table
from virtstore.cli.terminal import PLAIN, Screen, Style
from virtstore.model import Entry, Filesystem, ImageInfo
from virtstore.units import format_size

#: The columns of `list -l`. Those that say nothing of any of the images are left out.
_COLUMNS: Final = (
    Column("TYPE"),
    Column("SIZE", "number"),
    Column("ALLOCATED", "number"),
    Column("CONTENTS"),
    Column("OWNER", "user"),
    Column("MODIFIED (UTC)", "time"),
    Column("DOMAIN"),
    Column("USE"),
    Column("PATH", "path"),
)
_NOTHING: Final = Cell("-")
_PARTIAL: Final = Cell("partial", "partial")


def list_text(
    entries: Sequence[Entry | ImageInfo],
    *,
    long: bool,
    exact: bool = False,
    sort: SortKey = "name",
    screen: Screen = PLAIN,
) -> str:
    """A line for each entry; with `long` a table. `exact`: bytes in place of units. `sort`: what
    they are sorted by, which is shown however narrow the screen is."""
    if not long:
        return "\n".join(_short_line(entry, screen) for entry in entries)
    images = [entry for entry in entries if isinstance(entry, ImageInfo)]
    shown = {
        "OWNER": len({image.owner for image in images}) > 1,
        "MODIFIED (UTC)": any(image.modified for image in images),
        "DOMAIN": any(image.domain for image in images),
    }
    kept = [at for at, column in enumerate(_COLUMNS) if shown.get(column.title, True)]
    rows = [_cells(entry, exact=exact) for entry in entries]
    heads = [_COLUMNS[at] for at in kept]
    cells = [[row[at] for at in kept] for row in rows]
    return "\n".join(table(heads, cells, screen, keep="time" if sort == "modified" else None))


def _short_line(entry: Entry | ImageInfo, screen: Screen) -> str:
    path = screen.shown(on(entry.host, entry.path))
    if entry.type == "directory":
        return f"{path}/"
    return f"{path} {screen.shown('(partial)', 'partial')}" if entry.state == "partial" else path


def _cells(entry: Entry | ImageInfo, *, exact: bool) -> Row:
    """The cells of an entry, one for each of `_COLUMNS`."""
    kind = _PARTIAL if entry.state == "partial" else Cell(entry.type)
    path = Cell(on(entry.host, entry.path))
    if not isinstance(entry, ImageInfo):
        return [kind, *[_NOTHING] * (len(_COLUMNS) - 2), path]
    size = str if exact else format_size
    used = ",".join(dict.fromkeys(use.by for use in entry.in_use))
    return [
        kind,
        Cell("?" if entry.size is None else size(entry.size)),
        Cell(size(entry.allocated)),
        Cell(_contents(entry)),
        Cell(entry.owner or "-"),
        Cell(_time(entry.modified)[:16]) if entry.modified else _NOTHING,
        Cell(f"{entry.domain.name} ({entry.domain.state})") if entry.domain else _NOTHING,
        Cell(used, "used") if used else _NOTHING,
        path,
    ]


def _contents(image: ImageInfo) -> str:
    if count := len(image.partitions):
        return f"{count} partition" + "s" * (count > 1)
    # Whatever kept the host from looking is a warning.
    nothing = "?" if image.warnings else "-"
    filesystem = image.filesystem.type if image.filesystem else nothing
    return image.compression or image.container or filesystem


class _Fact(NamedTuple):
    name: str
    text: str
    style: Style = "plain"


def info_text(info: ImageInfo, *, exact: bool = False, screen: Screen = PLAIN) -> str:
    """All that is known of an image, a line for each fact. `exact`: no units."""
    facts = [*_facts(info, exact=exact), *_facts_inside(info, exact=exact), *_uses(info)]
    width = max(len(fact.name) for fact in facts) + 2
    lines = [
        screen.line(fact.text, head=f"{fact.name + ':':<{width}}", style=fact.style)
        for fact in facts
    ]
    lines += [
        screen.line(warning, head=f"{'warning:':<{width}}", head_style="warning")
        for warning in info.warnings
    ]
    return "\n".join(lines)


def _facts(info: ImageInfo, *, exact: bool) -> Iterator[_Fact]:
    whole = info.state == "complete"
    yield _Fact("path", on(info.host, info.path))
    yield (
        _Fact("type", info.type)
        if whole
        else _Fact("type", f"{info.type} ({info.state})", "partial")
    )
    yield _Fact("size", _size_text(info, exact=exact))
    if info.stored is not None:
        yield _Fact("archive", bytes_text(info.stored, exact=exact))
    yield _Fact("allocated", _allocated_text(info, exact=exact))
    yield _Fact("compression", info.compression or "none")
    if info.source:
        yield _Fact("made of", info.source)
    if info.made:
        yield _Fact("made", f"{_time(info.made)} UTC{_how_made(info)}")
    if info.container:
        yield _Fact("container", info.container)
    if info.cluster_size:
        yield _Fact("cluster size", bytes_text(info.cluster_size, exact=exact))
    if info.backing:
        yield _Fact("backing file", info.backing)
    if info.overlays:
        yield _Fact("overlays", ", ".join(info.overlays))
    if info.internal_snapshots:
        yield _Fact("snapshots inside", ", ".join(info.internal_snapshots))
    if info.bitmaps:
        yield _Fact("bitmaps inside", ", ".join(info.bitmaps))
    if info.domain:
        yield _Fact("domain", f"{info.domain.name} ({info.domain.state})")
    if info.modified:
        yield _Fact("modified", f"{_time(info.modified)} UTC")
    if info.owner:
        yield _Fact("owner", info.owner)
    if info.snapshot_of:
        yield _Fact("snapshot of", info.snapshot_of)
    if info.snapshots:
        yield _Fact("snapshots", ", ".join(info.snapshots))


def _size_text(info: ImageInfo, *, exact: bool) -> str:
    """What a guest sees, which of an archive is what is in it."""
    if info.size is None:
        how = "; see the warning" if info.container else " without unpacking it"
        return f"not known{how}"
    return bytes_text(info.size, exact=exact) + (" uncompressed" if info.compression else "")


def _how_made(info: ImageInfo) -> str:
    """What made an archive the image of one moment."""
    words = {
        "snapshot": ", from a snapshot",
        "live": ", of a running domain",
        "unused": ", while nobody used it",
        "in-use": ", while it may have been written to",
    }
    how = words.get(info.moment or "", "")
    return f"{how}, quiesced" if info.quiesced else how


def _allocated_text(info: ImageInfo, *, exact: bool) -> str:
    """What an image takes on its host, and of a file how much of it is not reserved."""
    text = bytes_text(info.allocated, exact=exact)
    is_raw_file = info.type == "file" and (info.compression or info.container) is None
    if not is_raw_file or info.size is None or info.allocated >= info.size:
        return text
    rest = info.size - info.allocated
    return f"{text}, sparse: {rest if exact else format_size(rest)} not reserved"


def _facts_inside(info: ImageInfo, *, exact: bool) -> Iterator[_Fact]:
    looked_into = (info.compression or info.container) is None or info.filesystem is not None
    if info.state == "complete" and looked_into and not info.partitions:
        why = "; see the warning" if info.warnings and not info.filesystem else ""
        yield _Fact("file system", _filesystem_text(info.filesystem, exact=exact) + why)
    for each in info.partitions:
        name = f" {each.name!r}" if each.name else ""
        inside = _filesystem_text(each.filesystem, exact=exact)
        size = bytes_text(each.size, exact=exact)
        yield _Fact(f"partition {each.number}", f"{size}{name}: {inside}")


def _uses(info: ImageInfo) -> Iterator[_Fact]:
    used = "; ".join(
        use.detail if use.by == "domain" else f"{use.by}: {use.detail}" for use in info.in_use
    )
    yield _Fact("in use", used, "used") if used else _Fact("in use", "no sign of it")


def _filesystem_text(found: Filesystem | None, *, exact: bool) -> str:
    if found is None:
        return "none recognised"
    facts = [f"label {found.label!r}"] if found.label else []
    if found.size is not None:
        facts.append(bytes_text(found.size, exact=True) if exact else format_size(found.size))
    if found.minimum is not None:
        facts.append(f"minimum {found.minimum} bytes")
    return f"{found.type} ({', '.join(facts)})" if facts else found.type


def _time(moment: datetime) -> str:
    """A time in UTC, without the zone."""
    return moment.isoformat(" ").removesuffix("+00:00")
