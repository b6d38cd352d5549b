"""Directories as they are at one moment, to be compared with what they are later."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

MIB = 1 << 20


class Found(NamedTuple):
    mode: int
    size: int
    modified: int
    contents: str


def snapshot(*trees: Path) -> dict[str, Found]:
    """Every name below `trees`, with its size, time and a hash of its contents."""
    return {str(path): _found(path) for tree in trees for path in _below(tree)}


def digest_of(path: Path) -> str:
    """An image's digest, made from what docs/archive-format.md says of it."""
    whole = blake3()
    with path.open("rb") as file:
        while chunk := file.read(MIB):
            whole.update(blake3(chunk).digest())
    return whole.hexdigest()


def empty(tree: Path) -> None:
    """Remove all that is in a directory."""
    for path in reversed(list(_below(tree))):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def _below(tree: Path) -> Iterator[Path]:
    """A parent comes before what is in it."""
    for path in sorted(tree.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _below(path)


def _found(path: Path) -> Found:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        return Found(status.st_mode, 0, 0, "")
    contents = blake3()
    with path.open("rb") as file:
        for offset, length in _data(file.fileno(), status.st_size):
            contents.update(offset.to_bytes(8, "big"))
            contents.update(os.pread(file.fileno(), length, offset))
    return Found(status.st_mode, status.st_size, status.st_mtime_ns, contents.hexdigest())


def _data(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """All of a file but its holes, in pieces of at most 1 MiB."""
    offset = 0
    while offset < size:
        try:
            offset = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(fd, offset, os.SEEK_HOLE)
        while offset < end:
            yield offset, min(MIB, end - offset)
            offset = min(offset + MIB, end)
