"""A note of what an image had lost when it was made longer.

An image that was cut and has grown again has zeros where data was. Where only files lay there,
nothing on the disk tells (signs.py), so whoever makes it longer notes it first. The note names the
byte where the image ended, and each file system or partition that reached further: by a digest of
its type, UUID and first byte. It says nothing of what somebody has put in the place of that since.

A note is text that a tag or an extended attribute can have: `START-END-DIGEST`, joined by `:`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from virtstore.filesystems.detect import Contents
from virtstore.filesystems.partitions.table import is_container
from virtstore.units import format_size

#: An LVM tag has 1024 characters at most (lvm(8), "Valid names").
_MOST: Final = 16
_ENTRY: Final = re.compile(r"(\d{1,19})-(\d{1,19})-([0-9a-f]{16})")


class Loss(NamedTuple):
    """One thing that is missing, in the bytes of the disk from `start` to `end`, and in which
    partition that is."""

    number: int | None
    message: str


class _Entry(NamedTuple):
    start: int
    end: int
    key: str


class _Place(NamedTuple):
    """A file system, or a partition in which none was recognised; it claims the bytes of the disk
    before `end`."""

    name: str
    number: int | None
    end: int
    key: str


def valid(note: str) -> str:
    """Those entries of a note that can be ones; anybody may have written it."""
    return _text(_entries(note))


def after_growth(note: str, contents: Contents, size: int) -> str:
    """The note for an image of `size` bytes that is about to be made longer. It keeps what is still
    true of the note that the image has."""
    known = {entry.key: entry for entry in _entries(note)}
    found = []
    for place in _places(contents):
        entry = known.get(place.key)
        if place.end > size:
            start = min(entry.start, size) if entry else size
            found.append(_Entry(start, place.end, place.key))
        elif entry and entry.start < place.end:
            found.append(entry)
    if not contents.measured:  # nobody knows what is no longer there
        keys = {entry.key for entry in found}
        found += [entry for entry in known.values() if entry.key not in keys]
    return _text(found[:_MOST])


def losses_noted(note: str, contents: Contents, size: int) -> Iterator[Loss]:
    """What a note tells about an image that has `size` bytes and holds `contents`."""
    known = {entry.key: entry for entry in _entries(note)}
    for place in _places(contents):
        entry = known.get(place.key)
        if entry is None or entry.start >= min(place.end, size):
            continue
        end = min(entry.end, place.end)
        lost = end - entry.start
        yield Loss(
            place.number,
            f"{place.name} lacks {lost} bytes ({format_size(lost)}): the image had been cut at byte"
            f" {entry.start} when it was made longer, and up to byte {end} zeros took their place."
            " Take them from another copy of the image",
        )


def _entries(note: str) -> tuple[_Entry, ...]:
    found = (_ENTRY.fullmatch(part) for part in note.split(":")[:_MOST])
    entries = (_Entry(int(each[1]), int(each[2]), each[3]) for each in found if each)
    return tuple(entry for entry in entries if entry.start < entry.end)


def _text(entries: Iterable[_Entry]) -> str:
    return ":".join(f"{each.start}-{each.end}-{each.key}" for each in entries)


def _places(contents: Contents) -> Iterator[_Place]:
    if inside := contents.filesystem:
        key = _key(f"{inside.type} {inside.uuid} at 0")
        yield _Place(f"its {inside.type} file system", None, inside.size or 0, key)
    for each in contents.partitions:
        if is_container(each):
            continue
        inside = each.filesystem
        if inside is None:
            key = _key(f"{each.size} at {each.start}")
            yield _Place(f"partition {each.number}", each.number, each.start + each.size, key)
            continue
        key = _key(f"{inside.type} {inside.uuid} at {each.start}")
        end = each.start + (inside.size or each.size)
        name = f"the {inside.type} file system in partition {each.number}"
        yield _Place(name, each.number, end, key)


def _key(what: str) -> str:
    return hashlib.blake2b(what.encode(), digest_size=8).hexdigest()
