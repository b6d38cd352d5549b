"""Files on ext2, ext3 and ext4.

Directories are read from start to end, without their index, whose blocks look like empty entries to
whoever does not know it. Source: the kernel's Documentation/filesystems/ext4.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from typing import Final

from virtstore.errors import Corrupt, Unsupported
from virtstore.filesystems.reading.base import (
    MOST_TARGET,
    Node,
    Place,
    Run,
    Steps,
    Window,
    read_runs,
    whole,
)
from virtstore.filesystems.reading.kinds import kind_of

TYPES: Final = ("ext2", "ext3", "ext4")

_MAGIC: Final = 0xEF53
_ROOT: Final = 2
_RECOVER: Final = 0x4
_META_BG: Final = 0x10
_64BIT: Final = 0x80
#: Incompatible features under which all is as read here (ext4.h, EXT4_FEATURE_INCOMPAT_…).
_KNOWN: Final = 0x2 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000
_KNOWN_TOO: Final = 0x8000 | 0x10000 | 0x20000
_ENCRYPTED: Final = 0x800
_EXTENTS: Final = 0x80000
_INLINE: Final = 0x10000000
_EXTENT_MAGIC: Final = 0xF30A
_DEEPEST: Final = 5
_UNWRITTEN: Final = 32768
_INLINE_BYTES: Final = 60
_XATTR_MAGIC: Final = 0xEA020000


class ExtReader:
    def __init__(self, disk: Window) -> None:
        self._disk = disk
        sb = disk.read(1024, 1024)
        (magic,) = struct.unpack_from("<H", sb, 56)
        incompatible = struct.unpack_from("<I", sb, 96)[0]
        if magic != _MAGIC:
            raise Corrupt("it has no superblock of ext4")
        if unknown := incompatible & ~(_KNOWN | _KNOWN_TOO):
            raise Unsupported(f"its ext4 has features that are not known here ({unknown:#x})")
        self._inodes, self._first, log = (struct.unpack_from("<I", sb, at)[0] for at in (0, 20, 24))
        if log > 6:
            raise Corrupt("the blocks of its ext4 have a size that cannot be")
        self._block = 1024 << log
        self._per_group, self._inodes_per_group = (
            struct.unpack_from("<I", sb, at)[0] for at in (32, 40)
        )
        revision = struct.unpack_from("<I", sb, 76)[0]
        self._inode_size = struct.unpack_from("<H", sb, 88)[0] if revision else 128
        wide = incompatible & _64BIT
        self._descriptor = max(struct.unpack_from("<H", sb, 254)[0], 64) if wide else 32
        self._first_meta = (
            struct.unpack_from("<I", sb, 260)[0] if incompatible & _META_BG else 1 << 62
        )
        self._sparse = struct.unpack_from("<I", sb, 100)[0] & 1
        if not 128 <= self._inode_size <= self._block or not self._inodes_per_group:
            raise Corrupt("the inodes of its ext4 have a size or number that cannot be")
        self.root: Place = (_ROOT,)
        self.notes = (_UNREPLAYED,) if incompatible & _RECOVER else ()

    def node(self, place: Place) -> Node:
        raw = self._inode(place[0])
        mode, low = struct.unpack_from("<H2xI", raw)
        (high,) = struct.unpack_from("<I", raw, 108)
        kind = kind_of(mode)
        size = low | high << 32 if kind == "file" or stat.S_ISDIR(mode) else low
        return Node(place, kind, size, _modified(raw))

    def entries(self, node: Node) -> Iterator[tuple[bytes, Place]]:
        raw = self._inode(node.place[0])
        flags = struct.unpack_from("<I", raw, 32)[0]
        if flags & _ENCRYPTED:
            raise Unsupported("that directory is encrypted (fscrypt)")
        if flags & _INLINE:
            first, more = self._inline(raw)
            yield from _listed(first[4:])
            yield from _listed(more)
            return
        steps = Steps()
        for _, piece in self.pieces(node):
            for begin in range(0, len(piece), self._block):
                steps.take()
                yield from _listed(piece[begin : begin + self._block])

    def pieces(self, node: Node) -> Iterator[tuple[int, bytes]]:
        raw = self._inode(node.place[0])
        flags = struct.unpack_from("<I", raw, 32)[0]
        if flags & _ENCRYPTED:
            raise Unsupported("that file is encrypted (fscrypt)")
        if flags & _INLINE:
            yield 0, b"".join(self._inline(raw))[: node.size]
            return
        blocks = raw[40:100]
        mapped = (
            self._extents(blocks, Steps()) if flags & _EXTENTS else self._mapped(blocks, node.size)
        )
        yield from read_runs(self._disk, mapped, node.size)

    def target(self, node: Node) -> bytes:
        raw = self._inode(node.place[0])
        flags = struct.unpack_from("<I", raw, 32)[0]
        if node.size < _INLINE_BYTES and not flags & (_EXTENTS | _INLINE):
            return raw[40 : 40 + node.size]
        return whole(self.pieces(node), node.size, MOST_TARGET)

    def _inode(self, number: int) -> bytes:
        if not 0 < number <= self._inodes:
            raise Corrupt(f"its ext4 names inode {number}, and has {self._inodes}")
        group, index = divmod(number - 1, self._inodes_per_group)
        at = self._described(group)
        descriptor = self._disk.read(at, self._descriptor)
        (table,) = struct.unpack_from("<I", descriptor, 8)
        if self._descriptor >= 64:
            table |= struct.unpack_from("<I", descriptor, 0x28)[0] << 32
        return self._disk.read(table * self._block + index * self._inode_size, self._inode_size)

    def _described(self, group: int) -> int:
        """The byte where a group's descriptor is."""
        per_block = self._block // self._descriptor
        meta, index = divmod(group, per_block)
        block = self._first + 1 + meta
        if meta >= self._first_meta:
            head = meta * per_block
            block = self._first + head * self._per_group + self._has_superblock(head)
        return int(block * self._block + index * self._descriptor)

    def _has_superblock(self, group: int) -> bool:
        if not self._sparse or group in (0, 1):
            return True
        return any(_is_power(group, base) for base in (3, 5, 7))

    def _extents(self, node: bytes, steps: Steps, depth: int | None = None) -> Iterator[Run]:
        steps.take()
        magic, count, _, level = struct.unpack_from("<4H", node)
        if magic != _EXTENT_MAGIC or (level > _DEEPEST if depth is None else level != depth):
            raise Corrupt("the extents of a file are damaged")
        for at in range(12, 12 + count * 12, 12):
            if level == 0:
                begin, length, high, low = struct.unpack_from("<IHHI", node, at)
                if length <= _UNWRITTEN:  # what is reserved only reads as zeros
                    yield self._run(begin, length, high << 32 | low)
                continue
            low, high = struct.unpack_from("<4xIH", node, at)
            below = self._disk.read((high << 32 | low) * self._block, self._block)
            yield from self._extents(below, steps, level - 1)

    def _mapped(self, blocks: bytes, size: int) -> Iterator[Run]:
        """The runs of a file that has a map of its blocks, as ext2 and ext3 keep it."""
        pointers = struct.unpack("<15I", blocks)
        per_block, index = self._block // 4, 0
        end = -(-size // self._block)
        for level, pointer in ((0, p) for p in pointers[:12]):
            yield from self._below(pointer, level, index, end)
            index += 1
        for level, pointer in enumerate(pointers[12:], 1):
            if index < end:
                yield from self._below(pointer, level, index, end)
            index += per_block**level

    def _below(self, pointer: int, level: int, index: int, end: int) -> Iterator[Run]:
        if pointer == 0:
            return
        if level == 0:
            yield self._run(index, 1, pointer)
            return
        step = (self._block // 4) ** (level - 1)
        data = self._disk.read(pointer * self._block, self._block)
        for (each,) in struct.iter_unpack("<I", data):
            if index >= end:
                return
            yield from self._below(each, level - 1, index, end)
            index += step

    def _run(self, index: int, count: int, block: int) -> Run:
        return Run(index * self._block, count * self._block, block * self._block)

    def _inline(self, raw: bytes) -> tuple[bytes, bytes]:
        """What is kept in the inode itself, and what is in its attribute `system.data`."""
        return raw[40:100], _attribute(raw)


def _attribute(raw: bytes) -> bytes:
    begin = 128 + struct.unpack_from("<H", raw, 128)[0] if len(raw) > 128 else len(raw)
    if begin + 4 > len(raw) or struct.unpack_from("<I", raw, begin)[0] != _XATTR_MAGIC:
        return b""
    first = at = begin + 4
    while at + 16 <= len(raw) and raw[at : at + 4] != bytes(4):
        length, index, offset = struct.unpack_from("<BBH", raw, at)
        (size,) = struct.unpack_from("<I", raw, at + 8)
        if index == 7 and raw[at + 16 : at + 16 + length] == b"data":
            return raw[first + offset : first + offset + size]
        at += (16 + length + 3) // 4 * 4
    return b""


def _listed(block: bytes) -> Iterator[tuple[bytes, Place]]:
    at = 0
    while at + 8 <= len(block):
        inode, length, name_length = struct.unpack_from("<IHB", block, at)
        if length in (0, 0xFFFF) and len(block) >= 1 << 16:
            length = 1 << 16
        if length < 8 or at + length > len(block) or name_length + 8 > length:
            raise Corrupt("a directory is damaged")
        name = block[at + 8 : at + 8 + name_length]
        if inode and name not in (b".", b".."):
            yield name, (inode,)
        at += length


def _modified(raw: bytes) -> int:
    (seconds,) = struct.unpack_from("<i", raw, 16)
    extra = 0
    if len(raw) >= 140 and struct.unpack_from("<H", raw, 128)[0] >= 12:
        (extra,) = struct.unpack_from("<I", raw, 136)
    return int((seconds + ((extra & 3) << 32)) * 10**9 + (extra >> 2))


def _is_power(number: int, base: int) -> bool:
    while number % base == 0:
        number //= base
    return number == 1


_UNREPLAYED: Final = (
    "its journal was not replayed, as the machine was running or was not shut down: what it wrote"
    " in its last seconds may be missing or incomplete here"
)
