"""lzop: read and written by its program, confined, with our own look at its structure.

`lzop -d` ignores what follows the last member and says nothing useful about an archive
that is cut off. So the headers of an archive are walked first: that finds both, and the
image's size, before the program is started.

Host tools needed: lzop, and what `run` confines it with.
Source: lzop 1.04, src/lzop.c (x_compress, read_header) and src/conf.h (the flags).
"""

from __future__ import annotations

import os
import select
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final, NamedTuple

from virtstore import programs, run
from virtstore.digest import CHUNK
from virtstore.errors import Corrupt, Error
from virtstore.formats.base import ArchiveSource, Sink, Trailing
from virtstore.formats.cursor import PAGE, Cursor, Section
from virtstore.formats.header_budget import HeaderBudget, OverBudget
from virtstore.model import Compression
from virtstore.names import SUFFIXES

_MAGIC: Final = b"\x89LZO\x00\r\n\x1a\n"
_MOST_IN_A_BLOCK: Final = 64 << 20  # lzop's MAX_BLOCK_SIZE
_MOST_FROM_A_BYTE: Final = 256  # a byte of a match length adds 255

# Flags of a member's header.
_ADLER32_OF_CONTENTS: Final = 0x0001
_ADLER32_OF_STORED: Final = 0x0002
_EXTRA_FIELD: Final = 0x0040
_CRC32_OF_CONTENTS: Final = 0x0100
_CRC32_OF_STORED: Final = 0x0200
_FILTER: Final = 0x0800

_VERSIONS: Final = struct.Struct(">HHH")  # lzop, its library, the lzop needed to read it
_OLDEST: Final = 0x0940  # before, the header was shorter
_WORD: Final = struct.Struct(">I")


class Lzop:
    name: Compression = "lzop"
    suffix = SUFFIXES["lzop"]
    levels = range(1, 10)
    default_level = 3

    def missing(self) -> tuple[str, ...]:
        return programs.missing("lzop", "bwrap", "prlimit")

    def recognises(self, head: bytes) -> bool:
        """By the nine bytes of the magic number."""
        return head.startswith(_MAGIC)

    def image_size(self, source: ArchiveSource) -> int | None:
        try:
            found = _walk(source, HeaderBudget())
        except OverBudget:
            return None
        if found.trailing:
            raise found.trailing
        return found.size

    def read(self, source: ArchiveSource) -> Iterator[bytes]:
        found, got = _walk(source, HeaderBudget.unlimited()), 0
        with run.filter_process(["lzop", "-d", "-c", "-q"]) as process:
            lzop = _Filter(process)
            cursor = Cursor(Section(source, 0, found.end))
            while data := cursor.take_some():
                for piece in lzop.exchange(data):
                    got += len(piece)
                    yield piece
            for piece in lzop.end():
                got += len(piece)
                yield piece
            if complaint := lzop.complaint():
                raise Corrupt(f"the archive fails lzop's checks: {complaint}")
        if got != found.size:
            raise Corrupt(f"the archive states {found.size} bytes and holds {got}")
        if found.trailing:
            raise found.trailing

    def writer(self, sink: Sink, level: int | None = None) -> LzopWriter:
        return LzopWriter(sink, self.default_level if level is None else level)


class LzopWriter:
    """An lzop process that is fed the image, with what it makes going to the sink."""

    def __init__(self, sink: Sink, level: int) -> None:
        self._sink = sink
        self._stack = ExitStack()
        argv = ["lzop", f"-{level}", "--crc32", "-c"]
        self._lzop = _Filter(self._stack.enter_context(run.filter_process(argv)))

    def write(self, data: bytes) -> None:
        for piece in self._lzop.exchange(data):
            self._sink(piece)

    def finish(self) -> None:
        for piece in self._lzop.end():
            self._sink(piece)
        if complaint := self._lzop.complaint():
            raise Error(f"lzop failed: {complaint}")
        self.abandon()

    def abandon(self) -> None:
        self._stack.close()


class _Filter:
    """A process to be written to and read from in turns, by one thread, without either
    side ever waiting for the other."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._in, self._out, self._err = (
            stream.fileno() for stream in (process.stdin, process.stdout, process.stderr) if stream
        )
        self._said = b""
        self._poll = select.poll()
        self._poll.register(self._in, select.POLLOUT)
        self._poll.register(self._out, select.POLLIN)
        self._poll.register(self._err, select.POLLIN)
        os.set_blocking(self._in, False)

    def exchange(self, data: bytes) -> Iterator[bytes]:
        """Give the process all of `data`; yields what it gives meanwhile. Ends early if
        the process does: `complaint` says why."""
        rest = memoryview(data)
        while rest:
            ready = self._ready()
            if self._out in ready and (piece := os.read(self._out, CHUNK)):
                yield piece
            if self._in in ready:
                try:
                    rest = rest[os.write(self._in, rest) :]
                except BrokenPipeError:
                    return

    def end(self) -> Iterator[bytes]:
        """Say that there is no more; yields all that is left."""
        self._poll.unregister(self._in)
        if self._process.stdin:
            self._process.stdin.close()
        while True:
            if self._out not in self._ready():
                continue
            if not (piece := os.read(self._out, CHUNK)):
                return
            yield piece

    def _ready(self) -> set[int]:
        """Wait until the process reads or writes something. What it writes to its standard error is
        kept."""
        ready = {descriptor for descriptor, _ in self._poll.poll()}
        if self._err in ready:
            said = os.read(self._err, PAGE)
            self._said = (self._said + said)[-PAGE:]
            if not said:
                self._poll.unregister(self._err)
        return ready

    def complaint(self) -> str:
        """What the process wrote to its standard error if it failed; empty if it did its work.
        Called after its end."""
        status = self._process.wait()
        while len(self._said) < PAGE and (said := os.read(self._err, PAGE)):
            self._said += said
        done = run.Completed(("lzop",), status, b"", self._said)
        # 2 is a warning, which lzop gives for an archive of several members; that nothing
        # else follows them, the walk over their headers has found.
        return "" if status in (0, 2) else done.complaint


class _Member(NamedTuple):
    """A member's header: the checksums that stand before each of its blocks."""

    contents_checksums: int
    stored_checksums: int


class _Found(NamedTuple):
    """What the members hold together, in bytes, where the last ends, and why what follows is
    none."""

    size: int
    end: int
    trailing: Trailing | None


def _walk(source: ArchiveSource, steps: HeaderBudget) -> _Found:
    """Walk over the members by their headers. Raises `Corrupt` where the structure of one is not
    sound, and `OverBudget`."""
    if not source.size:
        raise Corrupt("the archive is empty")
    cursor = Cursor(source, ahead=PAGE)
    total = members = 0
    while not cursor.at_end:
        if members and cursor.peek(len(_MAGIC)) != _MAGIC:
            return _Found(total, cursor.position, cursor.trailing("lzop", members))
        total += _skip_member(cursor, steps)
        members += 1
    return _Found(total, cursor.position, None)


def _skip_member(cursor: Cursor, steps: HeaderBudget) -> int:
    """Move over a member. Returns the bytes that it holds."""
    steps.take()
    member = _take_header(cursor)
    total = 0
    while size := _word(cursor):
        steps.take()
        stored = _word(cursor)
        if not 0 < stored <= size <= _MOST_IN_A_BLOCK or size > stored * _MOST_FROM_A_BYTE:
            raise Corrupt(f"a damaged block begins at byte {cursor.position - 8}")
        # A block that did not compress is stored as it is, with one kind of checksum.
        kinds = member.contents_checksums + (member.stored_checksums if stored < size else 0)
        cursor.skip(4 * kinds + stored)
        total += size
    return total


def _take_header(cursor: Cursor) -> _Member:
    begin = cursor.position
    if cursor.peek(len(_MAGIC)) != _MAGIC:
        raise Corrupt(f"no lzop member begins at byte {begin}")
    cursor.skip(len(_MAGIC))
    if _VERSIONS.unpack(cursor.take(_VERSIONS.size))[0] < _OLDEST:
        raise Corrupt("a member says that a version of lzop before 0.940 made it: it is damaged")
    cursor.skip(2)  # method and level
    flags = _word(cursor)
    # A filter, then mode and two words of time; the name; the checksum of all that.
    cursor.skip(4 * (3 + bool(flags & _FILTER)))
    cursor.skip(cursor.take(1)[0])
    cursor.skip(4)
    if flags & _EXTRA_FIELD:
        cursor.skip(_word(cursor) + 4)
    return _Member(
        bool(flags & _ADLER32_OF_CONTENTS) + bool(flags & _CRC32_OF_CONTENTS),
        bool(flags & _ADLER32_OF_STORED) + bool(flags & _CRC32_OF_STORED),
    )


def _word(cursor: Cursor) -> int:
    number: int = _WORD.unpack(cursor.take(_WORD.size))[0]
    return number
