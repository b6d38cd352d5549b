"""An archive on a base is the one that it would be without, and what changed is moved alone."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import ours
from tests.contract.memory import Contents, Memory, MemoryImage
from tests.unit.test_partial_archive import a_directory, cut, image

from virtstore.backends.base import Readable
from virtstore.backends.files.directory import Directory
from virtstore.digest import CHUNK
from virtstore.errors import Corrupt, Unsupported
from virtstore.formats.seekable import SeekableArchive
from virtstore.formats.summary import ALIGNMENTS, Label
from virtstore.protocol import Data, Same, Sent
from virtstore.transfer.base_archive import BaseArchive
from virtstore.transfer.fingerprints import Fingerprints
from virtstore.transfer.hashing import fingerprints
from virtstore.transfer.partial_over_base import PartialOverBase
from virtstore.transfer.receive import receive
from virtstore.transfer.resume_archive import PartialArchive
from virtstore.transfer.send import Encoding, send
from virtstore.transfer.sources import RawSource
from virtstore.transfer.writers import FrameTarget

KEPT = Encoding(whole_frames=True)


def in_memory(archive: bytes | bytearray) -> MemoryImage:
    return MemoryImage(Contents(archive))


def based(
    store: Memory | Directory, contents: bytes, base: Readable, label: Label
) -> tuple[list[Sent], BaseArchive, bytes]:
    """Archive an image as x.zst, on this base. Returns what was sent, the base as it was found to
    be, and the archive."""
    size, source = len(contents), Memory()
    with (
        source.draft("x", size) as draft,
        store.archive("x.zst") as archive,
        archive.scratch() as scratch,
    ):
        draft.write_at(0, contents)
        beneath = BaseArchive(base, archive, size)
        there: BaseArchive | PartialOverBase = beneath
        if archive.holds == "kept":
            there = PartialOverBase(PartialArchive(archive, scratch, size), beneath)
        existing = Fingerprints(size)
        for zeros, found in fingerprints(there, blocks=False):
            existing.add(found, zeros)
        existing.finish()
        sent = list(send(RawSource(draft, size), KEPT, existing))
        receive(sent, size, FrameTarget(archive, existing, there, label))
        made = archive.read_at(0, archive.size)
    return sent, beneath, made


@settings(max_examples=60, deadline=None)
@given(
    old=st.text("0abc", min_size=1, max_size=6),
    new=st.text("0abc", min_size=1, max_size=6),
    old_last=st.integers(1, CHUNK),
    new_last=st.integers(1, CHUNK),
    old_align=st.sampled_from(ALIGNMENTS),
    align=st.sampled_from(ALIGNMENTS),
    in_files=st.booleans(),
    kept=st.floats(0, 1),
)
def test_on_any_base_and_cut_anywhere_an_archive_is_what_it_is_without(
    old: str,
    new: str,
    old_last: int,
    new_last: int,
    old_align: int,
    align: int,
    in_files: bool,
    kept: float,
) -> None:
    base = in_memory(ours.archive_of(image(old, old_last), Label(old_align)))
    contents = image(new, new_last)
    wanted = ours.archive_of(contents, Label(align))
    with a_directory() as directory:
        store = directory if in_files else Memory()
        assert based(store, contents, base, Label(align))[2] == wanted
        cut(store, int(len(wanted) * kept))
        assert based(store, contents, base, Label(align))[2] == wanted


def test_what_the_base_has_is_not_sent() -> None:
    base = in_memory(ours.archive_of(image("abcabcab")))
    sent, _, _ = based(Memory(), image("abccbcab"), base, Label())
    kinds = [type(message) for message, _ in sent[:-1]]
    assert kinds == [Same, Same, Same, Data, Same, Same, Same, Same]


def test_a_frame_that_the_disk_cannot_read_is_sent_anew() -> None:
    archive = ours.archive_of(image("bcb"))
    found = SeekableArchive.open(in_memory(archive))
    assert found
    bad = found.frames[1].position

    class Failing(MemoryImage):
        def read_at(self, offset: int, length: int) -> bytes:
            if offset <= bad < offset + length:
                raise OSError(errno.EIO, "Input/output error")
            return super().read_at(offset, length)

    sent, base, made = based(Memory(), image("bcb"), Failing(Contents(archive)), Label())
    assert [type(message) for message, _ in sent[:-1]] == [Same, Data, Same]
    assert base.damaged == 1
    assert made == archive


@pytest.mark.parametrize("align", ALIGNMENTS)
def test_a_damaged_frame_of_the_base_is_sent_anew(align: int) -> None:
    archive = bytearray(ours.archive_of(image("bcb"), Label(align)))
    found = SeekableArchive.open(in_memory(archive))
    assert found
    archive[found.frames[1].position + 1000] ^= 1
    sent, base, made = based(Memory(), image("bcb"), in_memory(archive), Label())
    assert [type(message) for message, _ in sent[:-1]] == [Same, Data, Same]
    assert base.damaged == 1
    assert made == ours.archive_of(image("bcb"))


def test_a_base_in_which_one_frame_was_mended_and_another_broke_is_not_as_it_was() -> None:
    archive = bytearray(ours.archive_of(image("bcb")))
    found = SeekableArchive.open(in_memory(archive))
    assert found
    first, third = (found.frames[number].position + 1000 for number in (0, 2))
    held = in_memory(archive)
    held.contents[first] ^= 1
    _, base, _ = based(Memory(), image("bcb"), held, Label())
    assert base.is_as_it_was(lambda: None)
    held.contents[first] ^= 1
    held.contents[third] ^= 1
    assert not base.is_as_it_was(lambda: None)
    assert base.damaged == 1


def test_a_base_whose_seals_are_damaged_is_refused_before_anything_is_taken_from_it() -> None:
    archive = bytearray(ours.archive_of(image("bcb")))
    found = SeekableArchive.open(in_memory(archive))
    assert found
    archive[found.frames.archive_size + 20] ^= 1
    with Memory().archive("x.zst") as draft, pytest.raises(Corrupt, match="digests"):
        BaseArchive(in_memory(archive), draft, 3 * CHUNK)


@pytest.mark.parametrize(
    "base", [b"no archive", ours.first_version_of(image("ab"))], ids=["other", "version 1"]
)
def test_what_keeps_no_digests_is_no_base(base: bytes) -> None:
    with Memory().archive("x.zst") as draft, pytest.raises(Unsupported, match="base"):
        BaseArchive(in_memory(base), draft, CHUNK)


class SelfChecking(MemoryImage):
    """As a store has it that keeps checksums itself. What is read of it is noted."""

    self_checking = True

    def __init__(self, contents: Contents) -> None:
        super().__init__(contents)
        self.read: list[tuple[int, int]] = []

    def read_at(self, offset: int, length: int) -> bytes:
        self.read.append((offset, length))
        return super().read_at(offset, length)


def test_of_a_base_that_its_store_checks_only_the_end_is_read_and_what_is_taken_over() -> None:
    old, new = image("aaaab", CHUNK), image("aaacb", CHUNK)
    base = SelfChecking(Contents(ours.archive_of(old)))
    end = len(base.contents) // 5 * 4  # the five frames are alike in length
    made, store = ours.archive_of(new), Memory()
    there = BaseArchive(base, store.archive("y.zst"), len(old))
    assert len(list(fingerprints(there, blocks=False)))
    assert all(offset >= end for offset, _ in base.read)
    assert based(Memory(), new, base, Label())[2] == made
