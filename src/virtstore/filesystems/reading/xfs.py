"""Files on XFS, version 4 and 5.

Of a large directory only its data blocks are read, which list everything; its index is not needed.
Source: "XFS Filesystem Disk Structures" (xfs-documentation). All numbers are big-endian.
"""

from __future__ import annotations

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

TYPES: Final = ("xfs",)

#: Incompatible features under which all is as read here (xfs_format.h, XFS_SB_FEAT_INCOMPAT_…).
_KNOWN: Final = 0xFF
_FTYPE: Final = 0x1
_FTYPE_OF_4: Final = 0x200
_NEEDS_REPAIR: Final = 0x10
_LOCAL, _EXTENTS, _BTREE = 1, 2, 3
_REALTIME: Final = 0x1
_BIGTIME: Final = 0x8
_MANY_EXTENTS: Final = 0x10
_BIGTIME_BEGINS: Final = -(1 << 31) * 10**9
_LEAVES_FROM: Final = 32 << 30
_FREE: Final = 0xFFFF
_DEEPEST: Final = 9
_LINK_HEADER: Final = 56
_SECTOR: Final = 512
_LOG_MAGIC: Final = b"\xfe\xed\xba\xbe"
_UNMOUNTED: Final = 0x20
_LAST_RECORD: Final = 64


class XfsReader:
    def __init__(self, disk: Window) -> None:
        self._disk = disk
        sb = disk.read(0, 512)
        if sb[:4] != b"XFSB":
            raise Corrupt("it has no superblock of XFS")
        (self._block,) = struct.unpack_from(">I", sb, 4)
        root, self._group_blocks, self._groups = (
            struct.unpack_from(">Q", sb, 56)[0],
            *struct.unpack_from(">II", sb, 84),
        )
        version, self._inode_size = struct.unpack_from(">H2xH", sb, 100)
        self._new = version & 0xF == 5
        self._per_block_log, self._group_log = sb[123], sb[124]
        self._directory_block = self._block << sb[192]
        (more,) = struct.unpack_from(">I", sb, 200)
        (incompatible,) = struct.unpack_from(">I", sb, 216)
        self._check(sb, incompatible if self._new else 0)
        self._typed = bool(incompatible & _FTYPE if self._new else more & _FTYPE_OF_4)
        self.root: Place = (root,)
        notes = () if self._log_is_clean(sb) else (_UNREPLAYED,)
        damaged = self._new and incompatible & _NEEDS_REPAIR
        self.notes = (*notes, _DAMAGED) if damaged else notes

    def _check(self, sb: bytes, incompatible: int) -> None:
        if unknown := incompatible & ~_KNOWN:
            raise Unsupported(f"its XFS has features that are not known here ({unknown:#x})")
        if not 512 <= self._block <= 65536 or not 256 <= self._inode_size <= self._block:
            raise Corrupt("the blocks or inodes of its XFS have a size that cannot be")
        if self._per_block_log > 8 or self._group_log > 32 or sb[192] > 7:
            raise Corrupt("the superblock of its XFS is damaged")

    def _log_is_clean(self, sb: bytes) -> bool:
        """Whether the last that was written to the log is that it was unmounted. Each sector of it
        tells, in its first word, in which round it was written: where that changes is the end."""
        (begin,) = struct.unpack_from(">Q", sb, 48)
        (blocks,) = struct.unpack_from(">I", sb, 96)
        if not begin or not blocks:  # it is on another device
            return False
        start, count = self._at(begin), blocks * self._block // _SECTOR
        first, low, high = self._round(start), 0, count
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (
                (middle, high) if self._round(start + middle * _SECTOR) == first else (low, middle)
            )
        for sector in range(high - 1, max(high - _LAST_RECORD, 0) - 1, -1):
            head = self._disk.read(start + sector * _SECTOR, _SECTOR)
            if head[:4] == _LOG_MAGIC:
                end = self._disk.read(start + (sector + 1) * _SECTOR, 12)
                return int.from_bytes(head[40:44]) == 1 and bool(end[9] & _UNMOUNTED)
        return False

    def _round(self, at: int) -> bytes:
        head = self._disk.read(at, 8)
        return head[4:] if head[:4] == _LOG_MAGIC else head[:4]

    def node(self, place: Place) -> Node:
        raw = self._inode(place[0])
        (mode,) = struct.unpack_from(">H", raw, 2)
        (size,) = struct.unpack_from(">Q", raw, 56)
        return Node(place, kind_of(mode), size, self._modified(raw))

    def entries(self, node: Node) -> Iterator[tuple[bytes, Place]]:
        raw = self._inode(node.place[0])
        if raw[5] == _LOCAL:
            yield from self._short(self._fork(raw)[: node.size])
            return
        for block in self._directory_blocks(raw):
            yield from self._listed(block)

    def pieces(self, node: Node) -> Iterator[tuple[int, bytes]]:
        raw = self._inode(node.place[0])
        if raw[5] == _LOCAL:
            yield 0, self._fork(raw)[: node.size]
            return
        if struct.unpack_from(">H", raw, 90)[0] & _REALTIME:
            raise Unsupported("that file is on XFS's realtime device, which is another disk")
        yield from read_runs(self._disk, self._runs(raw), node.size)

    def target(self, node: Node) -> bytes:
        raw = self._inode(node.place[0])
        if node.size > MOST_TARGET:
            raise Corrupt("a link of its XFS is longer than any can be")
        if raw[5] == _LOCAL:
            return self._fork(raw)[: node.size]
        if not self._new:
            return whole(self.pieces(node), node.size, MOST_TARGET)
        found = b""
        for run in self._runs(raw):
            for at in range(run.start, run.start + run.length, self._block):
                block = self._disk.read(at, self._block)
                (length,) = struct.unpack_from(">I", block, 8)
                found += block[_LINK_HEADER : _LINK_HEADER + length]
                if len(found) >= node.size:
                    return found[: node.size]
        raise Corrupt("a link of its XFS is damaged")

    def _inode(self, number: int) -> bytes:
        low = self._per_block_log
        group, rest = divmod(number, 1 << (self._group_log + low))
        block, index = rest >> low, rest & ((1 << low) - 1)
        self._check_block(group, block)
        at = (group * self._group_blocks + block) * self._block + index * self._inode_size
        raw = self._disk.read(at, self._inode_size)
        if raw[:2] != b"IN":
            raise Corrupt(f"inode {number} of its XFS is damaged")
        return raw

    def _check_block(self, group: int, block: int) -> None:
        if group >= self._groups or block >= self._group_blocks:
            raise Corrupt("its XFS tells of a block that it has not")

    def _at(self, block: int) -> int:
        """The byte where a block of the file system is."""
        group, index = block >> self._group_log, block & ((1 << self._group_log) - 1)
        self._check_block(group, index)
        return int((group * self._group_blocks + index) * self._block)

    def _fork(self, raw: bytes) -> bytes:
        begin = 176 if raw[4] >= 3 else 100
        return raw[begin : begin + raw[82] * 8] if raw[82] else raw[begin:]

    def _count(self, raw: bytes) -> int:
        many = raw[4] >= 3 and struct.unpack_from(">Q", raw, 120)[0] & _MANY_EXTENTS
        return int.from_bytes(raw[24:32] if many else raw[76:80])

    def _runs(self, raw: bytes) -> Iterator[Run]:
        fork = self._fork(raw)
        if raw[5] == _EXTENTS:
            yield from self._records(fork, 0, self._count(raw))
        elif raw[5] == _BTREE:
            level, count = struct.unpack_from(">HH", fork)
            most = (len(fork) - 4) // 16
            yield from self._pointed(fork, 4 + most * 8, min(count, most), level, Steps())
        else:
            raise Corrupt("a file of its XFS is damaged")

    def _pointed(self, data: bytes, at: int, count: int, level: int, steps: Steps) -> Iterator[Run]:
        if not 0 < level <= _DEEPEST:
            raise Corrupt("the extents of a file are damaged")
        for (block,) in struct.iter_unpack(">Q", data[at : at + count * 8]):
            yield from self._branch(block, level - 1, steps)

    def _branch(self, block: int, level: int, steps: Steps) -> Iterator[Run]:
        steps.take()
        data = self._disk.read(self._at(block), self._block)
        found, count = struct.unpack_from(">HH", data, 4)
        if data[:4] not in (b"BMAP", b"BMA3") or found != level:
            raise Corrupt("the extents of a file are damaged")
        header = 72 if data[:4] == b"BMA3" else 24
        if level == 0:
            yield from self._records(data, header, count)
            return
        most = (self._block - header) // 16
        yield from self._pointed(data, header + most * 8, min(count, most), level, steps)

    def _records(self, data: bytes, at: int, count: int) -> Iterator[Run]:
        for high, low in struct.iter_unpack(">QQ", data[at : at + count * 16]):
            if high >> 63:  # reserved, not written
                continue
            offset = high >> 9 & (1 << 54) - 1
            block = (high & 0x1FF) << 43 | low >> 21
            length = (low & (1 << 21) - 1) * self._block
            yield Run(offset * self._block, length, self._at(block))

    def _directory_blocks(self, raw: bytes) -> Iterator[bytes]:
        """A directory's data blocks. One may lie in several runs, so runs are read block by block
        of the file system."""
        held, steps = b"", Steps()
        for run in self._runs(raw):
            if run.offset >= _LEAVES_FROM:
                return
            for at in range(run.start, run.start + run.length, self._block):
                steps.take()
                held += self._disk.read(at, self._block)
                if len(held) == self._directory_block:
                    yield held
                    held = b""

    def _short(self, data: bytes) -> Iterator[tuple[bytes, Place]]:
        count, wide = data[0], data[1] > 0
        width = 8 if wide else 4
        at = 2 + width
        for _ in range(count):
            length = data[at]
            begin = at + 3
            after = begin + length + self._typed
            yield data[begin : begin + length], (int.from_bytes(data[after : after + width]),)
            at = after + width

    def _listed(self, block: bytes) -> Iterator[tuple[bytes, Place]]:
        magic = block[:4]
        if magic not in (b"XD2B", b"XD2D", b"XDB3", b"XDD3"):
            raise Corrupt("a directory of its XFS is damaged")
        at, end = 64 if magic in (b"XDB3", b"XDD3") else 16, len(block)
        if magic in (b"XD2B", b"XDB3"):
            end -= 8 + 8 * int.from_bytes(block[-8:-4])
        while at + 11 < end:
            if int.from_bytes(block[at : at + 2]) == _FREE:
                length = int.from_bytes(block[at + 2 : at + 4])
                if length < 8:
                    raise Corrupt("a directory of its XFS is damaged")
                at += length
                continue
            number, size = struct.unpack_from(">QB", block, at)
            name = block[at + 9 : at + 9 + size]
            if name not in (b".", b".."):
                yield name, (number,)
            at += (8 + 1 + size + 2 + self._typed + 7) // 8 * 8

    def _modified(self, raw: bytes) -> int:
        if raw[4] >= 3 and struct.unpack_from(">Q", raw, 120)[0] & _BIGTIME:
            return int(struct.unpack_from(">Q", raw, 40)[0] + _BIGTIME_BEGINS)
        seconds, nanoseconds = struct.unpack_from(">iI", raw, 40)
        return int(seconds * 10**9 + nanoseconds)


_UNREPLAYED: Final = (
    "the log of its XFS was not replayed, as the machine was running or was not shut down: what it"
    " wrote in its last seconds may be missing or incomplete here"
)
_DAMAGED: Final = "its XFS says that it needs xfs_repair, so what is read may be wrong"
