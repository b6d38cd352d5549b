"""What people and programs see: text or JSON on standard output, the rest on standard error.

A host is trusted with its images, not with the user's terminal: what it says gets there a
printable line at a time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import cast

import msgspec

from virtstore.errors import Error, spelled
from virtstore.model import (
    Changed,
    CopyResult,
    Difference,
    Entry,
    Filesystem,
    FilesystemSupport,
    ImageInfo,
    ImageType,
    StorageInfo,
    Verified,
)
from virtstore.text import json_printable, printable, printable_lines
from virtstore.units import format_size

#: Keys that there are only where they say something.
_NOT_WHERE_EMPTY = ("warnings", "lacks", "moved", "places")


def print_json(value: object) -> None:
    """One JSON document, its keys the fields of our values; what may be lacking, what was moved,
    `places` and `warnings`, only where there are any."""
    whole = _without_what_is_empty(msgspec.to_builtins(value))
    print(json_printable(json.dumps(whole, indent=2, ensure_ascii=False)))


def _without_what_is_empty(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_without_what_is_empty(each) for each in value]
    if isinstance(value, dict):
        return {
            key: _without_what_is_empty(each)
            for key, each in value.items()
            if each or key not in _NOT_WHERE_EMPTY
        }
    return value


def whole_entry(entry: Entry | ImageInfo) -> ImageInfo:
    """One of `list -l`, with all keys: of what is no image there is nothing to say."""
    if isinstance(entry, ImageInfo):
        return entry
    return ImageInfo(
        entry.path, entry.host, cast(ImageType, entry.type), None, 0, state=entry.state
    )


def error_json(error: Error) -> dict[str, dict[str, str | None]]:
    """The JSON of a failure."""
    told = {"code": error.code, "message": error.message, "host": error.host, "path": error.path}
    return {"error": told}


def print_error(error: Error, *, as_json: bool) -> None:
    if as_json:
        print(json_printable(json.dumps(error_json(error), ensure_ascii=False)))
    else:
        # Of several lines are those that tell what to write to a host's configuration.
        print(printable_lines(f"virtstore: {error}"), file=sys.stderr)


def on(host: str, path: str) -> str:
    """A path as a user would type it; what a terminal would obey is shown as `?`."""
    return printable(spelled(host, path))


def changed_text(done: Changed) -> str:
    where = on(done.host, done.path)
    if done.dry_run:
        steps = [f"would {step}" for step in done.plan]
        return _lines([*(steps or [f"{where}: nothing to do"]), *_notes(done)])
    if done.size is None:
        return where
    text = f"{where}  {done.size} bytes ({format_size(done.size)})"
    if done.partition is not None:
        text += f", partition {done.partition}"
    if found := done.filesystem:
        text += f", {found.type} file system {found.size} bytes ({format_size(found.size)})"
    text = text if done.changed else f"{text}, unchanged"
    if moved := done.moved:
        text += f"; partition {moved.number} moved from byte {moved.old_start} to {moved.start}"
    return _lines([text, *_notes(done)])


def _notes(done: Changed) -> list[str]:
    return [f"note: {warning}" for warning in done.warnings]


def copy_text(result: CopyResult, *, dry_run: bool) -> str:
    source, target = printable(result.source), printable(result.target)
    if dry_run:
        return f"would copy {format_size(result.size)} from {source} to {target}"
    rate = format_size(int(result.size / max(result.seconds, 0.001)))
    moved = f" {format_size(result.transferred)} moved," if result.transferred else ""
    line = (
        f"{target}  {format_size(result.size)} in {result.seconds:.1f} s ({rate}/s),"
        f"{moved} {format_size(result.written)} written"
    )
    return _lines([line, *(f"note: {warning}" for warning in result.warnings)])


def verified_text(found: Verified) -> str:
    checked = "whole" if found.checked != "nothing" else "read through; no checksums to check"
    digest = printable(found.digest)
    line = f"{on(found.host, found.path)}: {checked}, {found.size} bytes, digest {digest}"
    return _lines([line, *(f"note: {warning}" for warning in found.warnings)])


def difference_text(found: Difference) -> str:
    both = printable(f"{found.left} and {found.right}")
    share = f"{format_size(found.different)} of {format_size(found.size)}"
    line = f"{both} differ: {share}, {found.different} bytes"
    if not found.different:
        line = f"{both} are equal ({found.size} bytes)"
    return _lines([line, *(f"note: {warning}" for warning in found.warnings)])


def list_text(entries: Sequence[Entry | ImageInfo], *, long: bool) -> str:
    if not long:
        return _lines(_short_line(e) for e in entries)
    rows: list[tuple[str, ...]] = [("TYPE", "SIZE", "ALLOCATED", "CONTENTS", "USE", "PATH")]
    rows += [_long_row(e) for e in entries]
    return _lines(_table(rows))


def info_text(info: ImageInfo) -> str:
    lines = [
        ("path", on(info.host, info.path)),
        ("type", info.type + ("" if info.state == "complete" else f" ({info.state})")),
        ("size", "not known without unpacking it" if info.size is None else _bytes(info.size)),
        ("allocated", _bytes(info.allocated)),
        ("compression", info.compression or "none"),
    ]
    if info.container:
        lines.append(("container", info.container))
    if info.backing:
        lines.append(("backing file", info.backing))
    if info.modified:
        lines.append(("modified", info.modified.isoformat(" ").replace("+00:00", " UTC")))
    if info.snapshot_of:
        lines.append(("snapshot of", info.snapshot_of))
    if info.snapshots:
        lines.append(("snapshots", ", ".join(info.snapshots)))
    looked_into = (info.compression or info.container) is None or info.filesystem is not None
    if info.state == "complete" and looked_into and not info.partitions:
        lines.append(("file system", _filesystem_text(info.filesystem)))
    for each in info.partitions:
        name = f" {each.name!r}" if each.name else ""
        inside = _filesystem_text(each.filesystem)
        lines.append((f"partition {each.number}", f"{_bytes(each.size)}{name}: {inside}"))
    used = [f"{use.by}: {use.detail}" for use in info.in_use]
    lines.append(("in use", "; ".join(used) or "no sign of it"))
    lines += [("warning", warning) for warning in info.warnings]
    width = max(len(name) for name, _ in lines) + 2
    return _lines(f"{name + ':':<{width}}{value}" for name, value in lines)


#: What is done where a directory's file system lacks something (`DirectoryInfo.lacks`).
_INSTEAD = {
    "rename without replacing": "a new image gets its name by a hard link",
    "new names": "nothing new can be made, as there are no hard links either;"
    " 'copy --overwrite' can",
    "holes": "every image is read whole",
    "reserved space": "zeros are written instead, before anything else",
    "zeroing": "zeros are written instead",
    "files without a name": "they have one for a moment",
    "extended attributes": "a resize that was cut short leaves no note of that, nor 'grow' of what"
    " the image had lost",
    "locks": "what was cut short does not go on, but is refused until 'clean' has removed it",
    "flushing of directories": "the whole file system is flushed",
    "file modes": "the mount decides who may read images",
}


def storage_text(info: StorageInfo) -> str:
    lines = [f"{info.host}: virtstore {info.version}"]
    rows: list[tuple[str, ...]] = [("ROOT", "ACCESS", "FILE SYSTEM", "FREE", "TOTAL", "SNAPSHOTS")]
    for each in info.roots:
        sizes = format_size(each.free), format_size(each.total)
        snapshots = "yes" if each.snapshots else "no"
        rows.append((each.path, each.access, each.filesystem, *sizes, snapshots))
    nothing = "no root can be used" if info.warnings else nothing_configured(info.host)
    lines += _table(rows) if len(rows) > 1 else [nothing]
    for directory in info.directories:
        lines += [f"{directory.path} lacks {w}: {_INSTEAD.get(w, '')}" for w in directory.lacks]
    lines += [f"warning: {_one_line(warning)}" for warning in info.warnings]
    for kind in info.filesystems:
        able = [verb for verb, can in (("grow", kind.grow), ("shrink", kind.shrink)) if can]
        missing = f" ({why})" if (why := _why_not(kind)) else ""
        lines.append(f"file system {kind.type}: {', '.join(able) or 'neither'}{missing}")
    formats = [f.name if f.read and f.write else f"{f.name} (not here)" for f in info.formats]
    lines.append(f"archive formats: {', '.join(formats)}")
    return _lines(lines)


def nothing_configured(host: str) -> str:
    """The text for a host that has no root: how to see the lines of configuration that make one."""
    return (
        f"nothing is configured here; 'virtstore list {spelled(host, '/DIRECTORY')}', or"
        f" {spelled(host, '/dev/VG')}, tells the lines of configuration that allow it"
    )


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(map(printable, lines))


def _one_line(text: str) -> str:
    """A message in one line, also one that shows lines of configuration."""
    return " ".join(line for line in text.split("\n") if line)


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
    return "it is recognised, and not resized"


def _bytes(size: int) -> str:
    return f"{size} bytes ({format_size(size)})"


def _filesystem_text(found: Filesystem | None) -> str:
    if found is None:
        return "none recognised"
    facts = [f"label {found.label!r}"] if found.label else []
    facts += [format_size(found.size)] if found.size is not None else []
    facts += [f"minimum {found.minimum} bytes"] if found.minimum is not None else []
    return f"{found.type} ({', '.join(facts)})" if facts else found.type


def _short_line(entry: Entry | ImageInfo) -> str:
    mark = "/" if entry.type == "directory" else " (partial)" if entry.state == "partial" else ""
    return on(entry.host, entry.path) + mark


def _long_row(entry: Entry | ImageInfo) -> tuple[str, ...]:
    where = on(entry.host, entry.path)
    if not isinstance(entry, ImageInfo):
        return (entry.type, "-", "-", "-", "-", where)
    filesystem = entry.filesystem.type if entry.filesystem else "-"
    contents = entry.compression or entry.container or filesystem
    if entry.partitions:
        contents = f"{len(entry.partitions)} partitions"
    return (
        entry.type if entry.state == "complete" else "partial",
        "?" if entry.size is None else format_size(entry.size),
        format_size(entry.allocated),
        contents,
        ",".join(dict.fromkeys(use.by for use in entry.in_use)) or "-",
        where,
    )


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [_line(row, widths) for row in rows]


def _line(row: Iterable[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
