"""What could go wrong in a directory of images: its file system's room, and what that can do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Final

from virtstore.backends.files import places
from virtstore.backends.files.directory import Directory
from virtstore.findings import note, ok, problem, warning
from virtstore.lacking import INSTEAD
from virtstore.model import Access, Finding
from virtstore.units import format_size

_GIB: Final = 1 << 30
#: The share of a file system below which its free space is said to be little, and very little;
#: but of a large one no more than so many bytes.
_LITTLE: Final = (0.05, 50 * _GIB)
_VERY_LITTLE: Final = (0.01, _GIB)
#: The same of inodes.
_FEW: Final = (0.01, 1000)


def examine(path: str, store: Directory, access: Access) -> Iterator[Finding]:
    """The findings of a root `path`. Where nothing may be written, its room is nobody's worry."""
    found = [each for check in _CHECKS for each in check(path, store)] if access != "read" else []
    yield from found
    if not any(each.is_wrong for each in found):
        free = f"{format_size(store.free())} of {format_size(store.total())} free"
        # The most common file system, ext4, has none: so that is no note.
        snapshots = f"{'' if store.shares_blocks() else 'no '}snapshots of files"
        kind = store.filesystem() or "a file system"
        yield ok(f"{path}: {kind}, {free}, {snapshots} (access {access})")


def _read_only(path: str, store: Directory) -> Iterator[Finding]:
    if store.space().f_flag & os.ST_RDONLY:
        yield problem(
            f"{path} is mounted read-only, and its configuration allows more than to read",
            "see in that host's kernel log (dmesg) whether an error made it so; mount -o"
            ' remount,rw, or configure access = "read"',
        )
    elif not store.is_writable():
        yield problem(
            f"{path}: this agent's user may not make files there, and its configuration allows to",
            "let the agent run as the directory's owner (VIRTSTORE_AGENT='sudo virtstore-agent' for"
            ' root), or configure access = "read"',
        )


def _room(path: str, store: Directory) -> Iterator[Finding]:
    total, free = store.total(), store.free()
    told = f"{path}: {format_size(free)} of {format_size(total)} are free"
    remedy = "remove what nobody needs ('virtstore list -l' shows what takes room), or enlarge it"
    if free < _least(total, *_VERY_LITTLE):
        yield problem(told, remedy)
    elif free < _least(total, *_LITTLE):
        yield warning(told, remedy)


def _inodes(path: str, store: Directory) -> Iterator[Finding]:
    space = store.space()
    if space.f_files and space.f_favail < _least(space.f_files, *_FEW):
        yield warning(
            f"{path}: {space.f_favail} of {space.f_files} inodes are free: no more files than that"
            " can be made, however much room there is",
            "remove small files that nobody needs from that file system; df -i shows where it is",
        )


def _memory(path: str, store: Directory) -> Iterator[Finding]:
    kind = store.filesystem()
    if kind in places.MEMORY:
        yield note(
            f"{path} is on {kind}, in memory: a reboot takes every image there",
            "keep nothing there that is nowhere else",
        )


def _abilities(path: str, store: Directory) -> Iterator[Finding]:
    kind = store.filesystem() or "its file system"
    for lack in store.lacks():
        told = f"{path}: {kind} has no {lack}" if lack != "new names" else f"{path}: no new images"
        remedy = f"{INSTEAD.get(lack, 'virtstore does without')}. ext4, XFS and Btrfs have it"
        yield (warning if lack == "new names" else note)(told, remedy)


def _least(whole: int, share: float, most: int) -> int:
    return min(int(whole * share), most)


#: Each is given the root's path and the opened directory.
_CHECKS: Final[tuple[Callable[[str, Directory], Iterator[Finding]], ...]] = (
    _read_only,
    _room,
    _inodes,
    _memory,
    _abilities,
)
