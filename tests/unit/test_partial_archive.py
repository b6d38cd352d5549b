"""An archive that was cut is gone on with, wherever it was cut and whatever changed since."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contract.memory import Memory

from virtstore.backends.files.directory import Directory
from virtstore.digest import CHUNK, chunk_digest
from virtstore.errors import Corrupt
from virtstore.formats.seekable import SeekableArchive, SeekableWriter
from virtstore.protocol import Same, Sent
from virtstore.transfer.fingerprints import Fingerprints
from virtstore.transfer.hashing import fingerprints
from virtstore.transfer.receive import Outcome, receive
from virtstore.transfer.resume_archive import PartialArchive, _View
from virtstore.transfer.send import Encoding, send
from virtstore.transfer.sources import RawSource
from virtstore.transfer.writers import FrameTarget

KEPT = Encoding(whole_frames=True)
PATTERNS = {
    "0": bytes(CHUNK),
    "a": b"a" * CHUNK,
    "b": random.Random(1).randbytes(CHUNK),
    "c": random.Random(2).randbytes(CHUNK // 2) * 2,
}


@contextmanager
def a_directory() -> Iterator[Directory]:
    with tempfile.TemporaryDirectory() as path:
        directory = Directory(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
        try:
            yield directory
        finally:
            directory.close()


def image(marks: str, last: int = CHUNK) -> bytes:
    whole = b"".join(PATTERNS[mark] for mark in marks)
    return whole[: len(whole) - CHUNK + last]


def archived(store: Memory | Directory, contents: bytes) -> tuple[Outcome, list[Sent]]:
    """Archive an image as x.zst, or go on with what there is of that."""
    size, source = len(contents), Memory()
    with (
        source.draft("x", size) as draft,
        store.archive("x.zst") as archive,
        archive.scratch() as scratch,
    ):
        draft.write_at(0, contents)
        existing = partial = None
        if archive.holds == "kept":
            existing = Fingerprints(size)
            partial = PartialArchive(archive, scratch, size)
            for zeros, found in fingerprints(partial, blocks=False):
                existing.add(found, zeros)
            existing.finish()
        sent = list(send(RawSource(draft, size), KEPT, existing))
        outcome = receive(sent, size, FrameTarget(archive, existing, partial))
        found_archive = SeekableArchive.open(archive)
        assert found_archive is not None
        assert b"".join(found_archive.read()) == contents
    return outcome, sent


def cut(store: Memory | Directory, length: int) -> None:
    with store.archive("x.zst") as archive:
        archive.cut(length)


@settings(max_examples=60, deadline=None)
@given(
    old=st.text("0abc", min_size=1, max_size=6),
    new=st.text("0abc", min_size=1, max_size=6),
    last=st.integers(1, CHUNK),
    cuts=st.lists(st.floats(0, 1), min_size=1, max_size=3),
    in_memory=st.booleans(),
)
def test_whatever_was_left_becomes_the_archive_that_is_wanted(
    old: str, new: str, last: int, cuts: list[float], in_memory: bool
) -> None:
    with a_directory() as directory:
        store: Memory | Directory = Memory() if in_memory else directory
        archived(store, image(old, last))
        for where in cuts:
            with store.archive("x.zst") as archive:
                length = int(archive.size * where)
            cut(store, length)
            archived(store, image(new, last))


def test_what_is_there_is_neither_sent_nor_written_again() -> None:
    store, contents = Memory(), image("ab0cbb00ca")
    archived(store, contents)
    whole = store.archive("x.zst").size
    cut(store, whole * 9 // 10)
    outcome, sent = archived(store, contents)
    assert sum(isinstance(message, Same) for message, _ in sent) >= 5
    assert outcome.written < whole * 0.3
    assert store.archive("x.zst").size == whole


def test_frames_behind_a_change_are_used_as_well() -> None:
    store = Memory()
    archived(store, image("abcbcbcb"))
    cut(store, store.archive("x.zst").size - 200)
    _, sent = archived(store, image("bbcbcbcb"))
    assert sum(isinstance(message, Same) for message, _ in sent) == 7


@pytest.mark.parametrize("where", ["header", "middle", "end"])
def test_a_frame_that_was_damaged_since_is_made_again(where: str) -> None:
    store, contents = Memory(), image("bcb")
    archived(store, contents)
    at = {"header": 2, "middle": 500_000, "end": (1 << 20) + 10}[where]
    store.partials["x.zst"][at] ^= 4
    cut(store, store.archive("x.zst").size - 100)
    archived(store, contents)


def test_what_was_set_aside_is_read_as_it_was_and_so_is_what_was_not() -> None:
    with a_directory() as store, store.archive("x.zst") as archive:
        archive.write_at(0, b"0123456789")
        with archive.scratch() as scratch:
            view = _View(archive, scratch)
            view.set_aside(4)
            archive.write_at(4, b"new and longer")
            parts = [(0, 3), (0, 4), (2, 5), (4, 2), (8, 9), (10, 1)]
            found = [view.read_at(offset, length) for offset, length in parts]
    assert found == [b"012", b"0123", b"23456", b"45", b"89", b""]


def test_a_frame_that_changes_before_it_is_moved_is_refused() -> None:
    store, contents = Memory(), image("bcb")
    archived(store, contents)
    with store.archive("x.zst") as archive:
        partial = PartialArchive(archive, archive.scratch(), len(contents))
        assert len(list(fingerprints(partial, blocks=False))) == 1
        digest = chunk_digest(PATTERNS["c"])
        partial.put(1, CHUNK, digest, SeekableWriter(bytearray().extend))  # not where it was
        store.partials["x.zst"][(1 << 20) + 5000] ^= 1
        with pytest.raises(Corrupt, match="run the copy again"):
            partial.put(1, CHUNK, digest, SeekableWriter(bytearray().extend))
        with pytest.raises(Corrupt):
            partial.put(7, CHUNK, digest, SeekableWriter(bytearray().extend))
