"""What people and programs see: text or JSON on standard output, the rest on standard error.

A host is trusted with its images, not with the user's terminal: what it says gets there a
printable line at a time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import cast

import msgspec

from virtstore.cli.options import Common
from virtstore.cli.terminal import screen_of
from virtstore.errors import Error, spelled
from virtstore.model import (
    Changed,
    CopyResult,
    Difference,
    Entry,
    EntryType,
    ImageInfo,
    ImageType,
    Verified,
)
from virtstore.text import json_printable, printable
from virtstore.units import format_size

#: Keys that there are only where they say something.
NOT_WHERE_EMPTY = ("warnings", "pruned", "lacks", "moved", "places", "unmanaged")


def print_json(value: object) -> None:
    """Print one JSON document. A list in it is printed an entry at a time: it may have a million,
    of which each takes more room as Python's values than as text."""
    for piece in json_pieces(value):
        print(piece, end="")
    print()


def json_pieces(value: object) -> Iterator[str]:
    """`json_text` in pieces: the entries of a list, also of one that is a value's field."""
    if isinstance(value, list | tuple) and value:
        yield from _entries(value, "")
    elif isinstance(value, msgspec.Struct) and not value.__struct_config__.omit_defaults:
        before = "{"
        for field in msgspec.structs.fields(value):
            told = getattr(value, field.name)
            if told or field.encode_name not in NOT_WHERE_EMPTY:
                yield f"{before}\n  {json.dumps(field.encode_name)}: "
                yield from _entries(told, "  ") if isinstance(told, list | tuple) else _inner(told)
                before = ","
        yield "\n}"
    else:
        yield json_text(value)


def _entries(values: Sequence[object], indent: str) -> Iterator[str]:
    before = "["
    for each in values:
        text = json_text(each).replace("\n", f"\n{indent}  ")
        yield f"{before}\n{indent}  {text}"
        before = ","
    yield f"\n{indent}]" if values else "[]"


def _inner(value: object) -> Iterator[str]:
    yield json_text(value).replace("\n", "\n  ")


def json_text(value: object) -> str:
    """One JSON document, its keys the fields of our values; what may be lacking, what was moved or
    pruned, `places`, `unmanaged` and `warnings`, only where there are any."""
    whole = _without_what_is_empty(msgspec.to_builtins(value))
    return json_printable(json.dumps(whole, indent=2, ensure_ascii=False))


def _without_what_is_empty(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_without_what_is_empty(each) for each in value]
    if isinstance(value, dict):
        return {
            key: _without_what_is_empty(each)
            for key, each in value.items()
            if each or key not in NOT_WHERE_EMPTY
        }
    return value


def whole_entry(entry: Entry | ImageInfo) -> ImageInfo:
    """One of `list -l`, with all keys: of what is no image there is nothing to say."""
    if isinstance(entry, ImageInfo):
        return entry
    return ImageInfo(
        entry.path, entry.host, cast(ImageType, entry.type), None, 0, state=entry.state
    )


def short_entry(entry: Entry | ImageInfo) -> Entry:
    """One of `list`, without what only `-l` tells."""
    if isinstance(entry, Entry):
        return entry
    return Entry(entry.path, entry.host, cast(EntryType, entry.type), entry.state)


def error_json(error: Error) -> dict[str, dict[str, str | None]]:
    """The JSON of a failure."""
    told = {"code": error.code, "message": error.message, "host": error.host, "path": error.path}
    return {"error": told}


def print_error(error: Error, *, as_json: bool) -> None:
    if as_json:
        print(json_printable(json.dumps(error_json(error), ensure_ascii=False)))
    else:
        print(_error_text(error), file=sys.stderr)


def print_notice(where: str, text: str, options: Common) -> None:
    """Tell a person that there is nothing to be shown."""
    if not (options.json or options.quiet):
        print(screen_of(sys.stderr).line(text, head=f"{printable(where)}: "), file=sys.stderr)


def _error_text(error: Error) -> str:
    """The message; below it, as they are, the lines that are to be written to a configuration."""
    screen = screen_of(sys.stderr)
    first, *more = str(error).rstrip("\n").split("\n")
    told = screen.line(first, head="virtstore: ", head_style="error", indent=2)
    return "\n".join([told, *map(printable, more)])


def on(host: str, path: str) -> str:
    """A path as a user would type it; what a terminal would obey is shown as `?`."""
    return printable(spelled(host, path))


def bytes_text(size: int, *, exact: bool = False) -> str:
    """A size as a number and, unless that is not wanted, in units."""
    return f"{size} bytes" if exact else f"{size} bytes ({format_size(size)})"


def changed_text(done: Changed, *, was: str = "") -> str:
    """What a change led to. `was`: where the image was before it was renamed."""
    where = on(done.host, done.path)
    if done.dry_run:
        steps = [f"would {step}" for step in done.plan] or [f"{where}: nothing to do"]
        return lines_text(steps, done.warnings)
    if done.size is None:
        return where
    where = f"{was} -> {where}" if was and done.changed else where
    text = f"{where}  {bytes_text(done.size)}"
    if done.partition is not None:
        text += f", partition {done.partition}"
    if found := done.filesystem:
        text += f", {found.type} file system {bytes_text(found.size)}"
    text = text if done.changed else f"{text}, unchanged"
    if moved := done.moved:
        text += f"; partition {moved.number} moved from byte {moved.old_start} to {moved.start}"
    return lines_text([text], done.warnings)


def copy_text(
    result: CopyResult, *, plan: str | None = None, shared: bool = False, origin: bool = False
) -> str:
    """What a copy led to. `plan`: of a dry run, what becomes of the target; `shared`: the copy
    shares its source's blocks; `origin`: the source is told as well."""
    source, target = printable(result.source), printable(result.target)
    size = format_size(result.size)
    if plan is not None:
        return f"would copy {size} from {source} to {target}{plan}"
    moved = f" {format_size(result.transferred)} moved," if result.transferred else ""
    written = f"{format_size(result.written)} written"
    if not result.written:
        why = "blocks are shared" if shared else "zeros, or there already"
        written = f"nothing to write ({why})"
    line = f"{target}  {size} in {result.seconds:.1f} s{_rate(result)},{moved} {written}"
    line += f", from {source}" if origin else ""
    return lines_text([line], result.warnings)


def _rate(result: CopyResult) -> str:
    """How fast a whole image was written; nothing where zeros, or what a resumed copy found there,
    took no time, or an archive is smaller."""
    if not 0 < result.size <= result.written:
        return ""
    return f" ({format_size(int(result.size / max(result.seconds, 0.001)))}/s)"


def verified_text(found: Verified) -> str:
    checked = "whole" if found.checked != "nothing" else "read through; no checksums to check"
    line = f"{on(found.host, found.path)}: {checked}, {found.size} bytes, digest {found.digest}"
    return lines_text([line], found.warnings)


def difference_text(found: Difference) -> str:
    both = f"{found.left} and {found.right}"
    share = f"{format_size(found.different)} of {format_size(found.size)}"
    line = f"{both} differ: {share}, {found.different} bytes"
    if not found.different:
        line = f"{both} are equal ({found.size} bytes)"
    return lines_text([line], found.warnings)


def lines_text(lines: Sequence[str], warnings: Sequence[str] = ()) -> str:
    """What was done, and what there is to know of it."""
    screen = screen_of(sys.stdout)
    notes = [
        screen.line(warning, head="note: ", head_style="warning", indent=2) for warning in warnings
    ]
    return "\n".join([*(screen.line(line, indent=2) for line in lines), *notes])
