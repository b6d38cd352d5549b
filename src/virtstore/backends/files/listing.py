"""What a listing shows of the files in a directory, none of which is opened for that."""

from __future__ import annotations

import os
import stat
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from virtstore.backends.base import Stored
from virtstore.backends.files import final_names, leftovers
from virtstore.backends.files.final_names import missing_suppressed


def scan(directory: int) -> Iterator[Stored]:
    """All of them. The names are read at once, and each file is looked at when it is wanted: of a
    million there is no more in memory than their names."""
    with final_names.opened_anew(directory) as fd:
        files = sorted(os.listdir(fd))
    for file in files:
        found = _look_at(directory, file)
        if found:
            yield found
        elif leftovers.is_named(file):
            yield from _published_since(directory, leftovers.image_name(file), files)


def _published_since(directory: int, name: str, files: Sequence[str]) -> list[Stored]:
    """What was partial when the `files` were read, and has its final name now."""
    at = bisect_left(files, name)
    if files[at : at + 1] == [name]:
        return []
    return [each for each in named(directory, name) if each.state == "complete"]


def named(directory: int, name: str) -> list[Stored]:
    """The image of that name, and what is partial beside it."""
    found = (_look_at(directory, file) for file in (name, *leftovers.names(name)))
    return [each for each in found if each and each.name == name]


def find(directory: int, name: str) -> Stored | None:
    """The first of them, as `Store.find` has it."""
    device = os.fstat(directory).st_dev
    for candidate in (name, *leftovers.names(name)):
        with missing_suppressed():
            status = os.stat(candidate, dir_fd=directory, follow_symlinks=False)
            return _stored(directory, candidate, status, device)
    return None


def _look_at(directory: int, file: str) -> Stored | None:
    """What is shown of a file; None for nothing: one of our own, or an image's other name."""
    with missing_suppressed():
        if not (final_names.is_internal(file) or final_names.is_other_name(directory, file)):
            status = os.stat(file, dir_fd=directory, follow_symlinks=False)
            return _stored(directory, file, status, os.fstat(directory).st_dev)
    return None


def _stored(directory: int, file: str, status: os.stat_result, device: int) -> Stored:
    text = os.fsencode(file).decode("utf-8", "backslashreplace")
    if text != file:  # a name that no request and no JSON can have
        return Stored(text, "other", identity=(status.st_dev, status.st_ino))
    partial = leftovers.is_named(file) and stat.S_ISREG(status.st_mode)
    is_directory = stat.S_ISDIR(status.st_mode) and status.st_dev == device
    regular = stat.S_ISREG(status.st_mode) and status.st_dev == device
    found = Stored(
        name=leftovers.image_name(file) if partial else file,
        type="directory" if is_directory else "file" if regular else "other",
        state="partial" if partial else "complete",
        size=status.st_size if regular else 0,
        allocated=status.st_blocks * 512 if regular else 0,
        identity=(status.st_dev, status.st_ino),
        modified=status.st_mtime_ns if regular else None,
        owner=status.st_uid if regular else None,
    )
    return replace(found, was_image=leftovers.was_image(directory, file)) if partial else found
