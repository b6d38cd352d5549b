"""Files on Btrfs, on one device. Subvolumes and snapshots are directories where they are.

Source: "On-disk Format" of Btrfs's developer documentation, and linux/btrfs_tree.h.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

import zstandard

from virtstore.errors import Corrupt, Unsupported
from virtstore.filesystems.reading import lzo
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

TYPES: Final = ("btrfs",)

_SUPERBLOCK: Final = 0x10000
#: Incompatible features under which all is as read here (BTRFS_FEATURE_INCOMPAT_…): all up to
#: metadata-uuid but for those of RAID on several devices, zones and the second extent tree.
_KNOWN: Final = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800
_SIMPLE_QUOTA: Final = 0x10000
_SPREAD: Final = 0x8 | 0x40 | 0x80 | 0x100  # RAID0, 10, 5, 6
_KEY: Final = struct.Struct("<QBQ")
_INODE, _INDEX, _EXTENT, _ROOT, _CHUNK = 1, 96, 108, 132, 228
_TOP: Final = 5
_FIRST: Final = 256
_DEEPEST: Final = 8
_INLINE, _REGULAR, _RESERVED = 0, 1, 2
_ZLIB, _LZO, _ZSTD = 1, 2, 3
_MOST_COMPRESSED: Final = 128 << 10
_LAST: Final = (1 << 64) - 1

_Key = tuple[int, int, int]


class _Chunk(NamedTuple):
    logical: int
    length: int
    start: int | None


class BtrfsReader:
    def __init__(self, disk: Window) -> None:
        self._disk = disk
        sb = disk.read(_SUPERBLOCK, 4096)
        if sb[64:72] != b"_BHRfS_M":
            raise Corrupt("it has no superblock of Btrfs")
        root, chunk_root, log = struct.unpack_from("<3Q", sb, 80)
        (incompatible,) = struct.unpack_from("<Q", sb, 188)
        if unknown := incompatible & ~(_KNOWN | _SIMPLE_QUOTA):
            raise Unsupported(f"its Btrfs has features that are not known here ({unknown:#x})")
        (self._node_size,) = struct.unpack_from("<I", sb, 148)
        if not 4096 <= self._node_size <= 65536:
            raise Corrupt("the nodes of its Btrfs have a size that cannot be")
        (self._device,) = struct.unpack_from("<Q", sb, 201)
        self._chunks = list(self._first_chunks(sb))
        self._chunks += list(self._all_chunks(chunk_root))
        self._root_tree = root
        self._trees: dict[int, int] = {}
        self.root: Place = (_TOP, _FIRST)
        self.notes = (_UNREPLAYED,) if log else ()

    def node(self, place: Place) -> Node:
        tree, number = place
        found = next(self._items(self._tree(tree), (number, _INODE, 0), (number, _INODE, 0)), None)
        if found is None:
            raise Corrupt(f"its Btrfs has no inode {number}")
        _, raw = found
        (size,) = struct.unpack_from("<Q", raw, 16)
        (mode,) = struct.unpack_from("<I", raw, 52)
        seconds, nanoseconds = struct.unpack_from("<qI", raw, 136)
        return Node(place, kind_of(mode), size, seconds * 10**9 + nanoseconds)

    def entries(self, node: Node) -> Iterator[tuple[bytes, Place]]:
        tree, number = node.place
        span = (number, _INDEX, 0), (number, _INDEX, _LAST)
        for _, raw in self._items(self._tree(tree), *span):
            where, kind, _ = _KEY.unpack_from(raw)
            (length,) = struct.unpack_from("<H", raw, 27)
            yield raw[30 : 30 + length], (where, _FIRST) if kind == _ROOT else (tree, where)

    def pieces(self, node: Node) -> Iterator[tuple[int, bytes]]:
        tree, number = node.place
        span = (number, _EXTENT, 0), (number, _EXTENT, _LAST)
        reached = 0
        for (_, _, offset), raw in self._items(self._tree(tree), *span):
            if offset < reached:
                raise Corrupt("the parts of a file overlap, so its Btrfs is damaged")
            for at, data in self._extent(offset, raw, node.size):
                reached = at + len(data)
                yield at, data

    def target(self, node: Node) -> bytes:
        return whole(self.pieces(node), node.size, MOST_TARGET)

    def _extent(self, offset: int, raw: bytes, size: int) -> Iterator[tuple[int, bytes]]:
        (unpacked,) = struct.unpack_from("<Q", raw, 8)
        packing, encrypted, other, kind = struct.unpack_from("<BBHB", raw, 16)
        if encrypted or other:
            raise Unsupported("a file of its Btrfs is encoded in a way that is not known here")
        if kind == _INLINE:
            data = _unpacked(packing, raw[21:], unpacked)
            yield offset, data[: max(size - offset, 0)]
        elif kind == _REGULAR:
            start, stored, skipped, length = struct.unpack_from("<4Q", raw, 21)
            length = min(length, size - offset)
            if start == 0 or length <= 0:  # a hole
                return
            if packing == 0:
                yield from self._plain(offset, start + skipped, length)
                return
            if max(stored, unpacked) > _MOST_COMPRESSED:
                raise Corrupt("a compressed part of a file is longer than any can be")
            data = _unpacked(packing, self._logical(start, stored), unpacked)
            yield offset, data[skipped : skipped + length]
        elif kind != _RESERVED:
            raise Corrupt("the extents of a file are damaged")

    def _plain(self, offset: int, logical: int, length: int) -> Iterator[tuple[int, bytes]]:
        end = offset + length
        while offset < end:
            at, left = self._physical(logical)
            step = min(left, end - offset)
            yield from read_runs(self._disk, [Run(offset, step, at)], end)
            offset, logical = offset + step, logical + step

    def _logical(self, logical: int, length: int) -> bytes:
        found = b""
        while len(found) < length:
            at, left = self._physical(logical + len(found))
            found += self._disk.read(at, min(left, length - len(found)))
        return found

    def _physical(self, logical: int) -> tuple[int, int]:
        """The byte of the disk where a logical one is, and how many follow it there."""
        for chunk in self._chunks:
            if chunk.logical <= logical < chunk.logical + chunk.length:
                if chunk.start is None:
                    raise Unsupported(
                        "its Btrfs is on several disks, and what is needed is not on this one alone"
                    )
                skipped = logical - chunk.logical
                return chunk.start + skipped, chunk.length - skipped
        raise Corrupt(f"its Btrfs tells of byte {logical}, which it has nowhere")

    def _first_chunks(self, sb: bytes) -> Iterator[_Chunk]:
        (length,) = struct.unpack_from("<I", sb, 160)
        at, end = 811, 811 + min(length, 2048)
        while at < end:
            _, _, logical = _KEY.unpack_from(sb, at)
            (stripes,) = struct.unpack_from("<H", sb, at + 17 + 44)
            yield self._chunk(logical, sb[at + 17 :])
            at += 17 + 48 + 32 * stripes

    def _all_chunks(self, chunk_root: int) -> Iterator[_Chunk]:
        for (_, kind, logical), raw in self._items(chunk_root, (0, 0, 0), (_LAST, 255, _LAST)):
            if kind == _CHUNK:
                yield self._chunk(logical, raw)

    def _chunk(self, logical: int, raw: bytes) -> _Chunk:
        length, _, _, kind = struct.unpack_from("<4Q", raw)
        (stripes,) = struct.unpack_from("<H", raw, 44)
        if not kind & _SPREAD:
            for device, start in (
                struct.unpack_from("<QQ", raw, 48 + 32 * n) for n in range(stripes)
            ):
                if device == self._device:
                    return _Chunk(logical, length, start)
        return _Chunk(logical, length, None)

    def _tree(self, number: int) -> int:
        """The root node of a tree of files."""
        if number not in self._trees:
            span = (number, _ROOT, 0), (number, _ROOT, _LAST)
            found = next(self._items(self._root_tree, *span), None)
            if found is None or not (number == _TOP or number >= _FIRST):
                raise Corrupt(f"its Btrfs has no subvolume {number}")
            self._trees[number] = struct.unpack_from("<Q", found[1], 176)[0]
        return self._trees[number]

    def _items(
        self,
        node: int,
        first: _Key,
        last: _Key,
        level: int | None = None,
        steps: Steps | None = None,
    ) -> Iterator[tuple[_Key, bytes]]:
        """The items of a tree from one key to another, in order."""
        steps = steps or Steps()
        steps.take()
        data = self._logical(node, self._node_size)
        at, count, found = *struct.unpack_from("<Q", data, 48), *struct.unpack_from("<IB", data, 96)
        if at != node or (found > _DEEPEST if level is None else found != level):
            raise Corrupt("a tree of its Btrfs is damaged")
        if found == 0:
            yield from _leaf(data, count, first, last)
            return
        for index in range(count):
            begin = 101 + 33 * index
            following = _KEY.unpack_from(data, begin + 33) if index + 1 < count else None
            if _KEY.unpack_from(data, begin) > last:
                return
            if following is None or following > first:
                (below,) = struct.unpack_from("<Q", data, begin + 17)
                yield from self._items(below, first, last, found - 1, steps)


def _leaf(data: bytes, count: int, first: _Key, last: _Key) -> Iterator[tuple[_Key, bytes]]:
    for index in range(count):
        begin = 101 + 25 * index
        key: _Key = _KEY.unpack_from(data, begin)
        if key > last:
            return
        if key >= first:
            offset, size = struct.unpack_from("<II", data, begin + 17)
            yield key, data[101 + offset : 101 + offset + size]


def _unpacked(packing: int, data: bytes, size: int) -> bytes:
    if packing == 0:
        return data
    if size > _MOST_COMPRESSED:
        raise Corrupt("a compressed part of a file is longer than any can be")
    if packing == _ZLIB:
        return zlib.decompressobj().decompress(data, size)
    if packing == _ZSTD:
        with zstandard.ZstdDecompressor(max_window_size=1 << 20).stream_reader(data) as stream:
            return stream.read(size)
    if packing == _LZO:
        return lzo.unpacked(data, size)
    raise Unsupported(f"a file is compressed in a way that is not known here ({packing})")


_UNREPLAYED: Final = (
    "the log of its Btrfs was not replayed, as the machine was running or was not shut down: what"
    " it flushed in its last seconds may be missing or incomplete here"
)
