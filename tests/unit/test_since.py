"""Where it is known what has changed since the base, nothing else is read, and the archive is the
one that reading everything makes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import ours
from tests.contract.memory import Contents, Memory, MemoryImage, MemoryMoment
from tests.unit.test_partial_archive import image

from virtstore.agent.operations.copy_kept import Keeping, kept_name
from virtstore.backends.base import Changed, Readable
from virtstore.digest import CHUNK
from virtstore.errors import Unsupported
from virtstore.formats.seekable import SeekableArchive
from virtstore.protocol import Data, End, Same, Sent, Zero
from virtstore.transfer.base_archive import BaseArchive
from virtstore.transfer.fingerprints import Fingerprints
from virtstore.transfer.frame_source import FrameSource
from virtstore.transfer.hashing import fingerprints
from virtstore.transfer.page_cache import Reading
from virtstore.transfer.pieces import Source
from virtstore.transfer.receive import receive
from virtstore.transfer.send import Encoding, send
from virtstore.transfer.since import Since
from virtstore.transfer.sources import RawSource
from virtstore.transfer.writers import FrameTarget

_PLACE = "0badcafe"
_DIGEST = "d" * 64


class Read(MemoryImage):
    """An image that notes where it is read."""

    def __init__(self, contents: bytes) -> None:
        super().__init__(Contents(contents))
        self.read: set[int] = set()  # numbers of chunks

    def read_at(self, offset: int, length: int) -> bytes:
        self.read.add(offset // CHUNK)
        return super().read_at(offset, length)


def digest_of(contents: bytes) -> str:
    archive = SeekableArchive.open(MemoryImage(Contents(ours.archive_of(contents))))
    assert archive
    return archive.digest


def archived(source: Source, base: Readable) -> tuple[list[Sent], bytes]:
    """What is sent of an archive on a base, and the archive."""
    with Memory().archive("x.zst") as archive:
        there = BaseArchive(base, archive, source.size)
        existing = Fingerprints(source.size)
        for zeros, found in fingerprints(there, blocks=False):
            existing.add(found, zeros)
        existing.finish()
        sent = list(send(source, Encoding(whole_frames=True), existing))
        receive(sent, source.size, FrameTarget(archive, existing, there))
        return sent, archive.read_at(0, archive.size)


@dataclass(frozen=True)
class Change:
    """Bytes that are written; `size`: that the image has from then on, before they are."""

    at: int
    data: bytes
    size: int | None = None


def changes(most: int) -> st.SearchStrategy[list[Change]]:
    places = st.integers(0, most - 1)
    # The ends of chunks are where it is easy to be wrong.
    near = st.integers(0, most // CHUNK).flatmap(
        lambda chunk: st.integers(-2, 2).map(lambda more: max(0, chunk * CHUNK + more))
    )
    one = st.builds(
        Change,
        at=places | near,
        data=st.sampled_from([b"x", b"\0", b"word", bytes(5000), b"y" * (CHUNK + 1)]),
        size=st.none() | st.integers(1, most) | near.map(lambda size: max(1, size)),
    )
    return st.lists(one, max_size=4)


@settings(max_examples=80, deadline=None)
@given(
    old=st.text("0ab", min_size=1, max_size=5),
    last=st.integers(1, CHUNK) | st.just(CHUNK),
    done=changes(5 * CHUNK),
    more=st.lists(st.integers(0, 5), max_size=2),
)
def test_the_archive_is_the_one_that_reading_everything_makes(
    old: str, last: int, done: list[Change], more: list[int]
) -> None:
    before = image(old, last)
    base = MemoryImage(Contents(ours.archive_of(before)))
    store = Memory()
    store.images["x"] = Contents(before)
    with store.moment("x") as moment:
        moment.keep("kept", "kept")
    contents = store.images["x"]
    for change in done:
        if change.size is not None:
            del contents[change.size :]
            contents.extend(bytes(change.size - len(contents)))
        data = change.data[: max(0, len(contents) - change.at)]
        contents[change.at : change.at + len(data)] = data
    with store.moment("x") as moment:
        changed = moment.changed_since("kept")
        assert changed
        # More may be told than has changed.
        extra = {(chunk * CHUNK, 1) for chunk in more if chunk * CHUNK < len(contents)}
        changed = Changed(changed.size, tuple(sorted({*changed.ranges, *extra})))
        source = Read(bytes(contents))
        sent, made = archived(Since(RawSource(source, source.size), changed), base)
    assert made == ours.archive_of(bytes(contents))
    touched = {at // CHUNK for at, _ in changed.ranges}
    if changed.size != len(contents):  # the last chunk of the shorter, and all behind it
        shorter = min(changed.size, len(contents))
        touched |= set(range(shorter // CHUNK, len(contents) // CHUNK + 1))
    assert source.read <= touched
    [end] = [message for message, _ in sent if isinstance(message, End)]
    assert end.read == sum(min(CHUNK, len(contents) - chunk * CHUNK) for chunk in source.read)


def test_what_has_not_changed_is_not_read() -> None:
    before, now = image("abcabc"), image("abbabc")
    base = MemoryImage(Contents(ours.archive_of(before)))
    source = Read(now)
    changed = Changed(len(before), ((2 * CHUNK + 5, 7),))
    sent, made = archived(Since(RawSource(source, len(now)), changed), base)
    kinds = [type(message) for message, _ in sent[:-1]]
    assert kinds == [Same, Same, Data, Same, Same, Same]
    assert source.read == {2}
    assert sent[-1][0] == End(digest_of(now), CHUNK)
    assert made == ours.archive_of(now)


def test_zeros_that_have_not_changed_are_zeros_in_the_archive_and_not_read() -> None:
    contents = image("a00b0")
    base = MemoryImage(Contents(ours.archive_of(contents)))
    source = Read(contents)
    sent, made = archived(Since(RawSource(source, len(contents)), Changed(len(contents), ())), base)
    assert [type(message) for message, _ in sent[:-1]] == [Same, Zero, Same, Zero]
    assert source.read == set()
    assert made == ours.archive_of(contents)


def test_a_chunk_of_which_the_base_is_damaged_is_read() -> None:
    contents = image("abc")
    archive = bytearray(ours.archive_of(contents))
    found = SeekableArchive.open(MemoryImage(Contents(archive)))
    assert found
    archive[found.frames[1].position + 1000] ^= 1
    source = Read(contents)
    unchanged = Since(RawSource(source, len(contents)), Changed(len(contents), ()))
    _, made = archived(unchanged, MemoryImage(Contents(archive)))
    assert source.read == {1}
    assert made == ours.archive_of(contents)


def keeping(store: Memory, moment: MemoryMoment) -> Keeping:
    return Keeping("/dev/rbd/vms/x", moment, RawSource(moment, moment.size), _PLACE)


@pytest.mark.parametrize("base", ["", "0" * 64, "../../x", _DIGEST[:32], "D" * 64])
def test_a_base_that_is_not_the_state_of_the_snapshot_is_not_believed(base: str) -> None:
    store = Memory()
    store.images["x"] = Contents(image("ab"))
    with store.moment("x") as moment:
        assert keeping(store, moment).keep(_DIGEST) == ()
    assert [*store.kept["x"]] == [kept_name(_PLACE, _DIGEST)]
    with store.moment("x") as moment:
        assert isinstance(keeping(store, moment).since(_DIGEST), Since)
        assert isinstance(keeping(store, moment).since(base), RawSource)


def test_each_place_of_archives_keeps_a_snapshot_of_its_own() -> None:
    store = Memory()
    store.images["x"] = Contents(image("ab"))
    for place, digest in (("00000001", "a" * 64), ("00000002", "b" * 64), ("00000001", "c" * 64)):
        with store.moment("x") as moment:
            source = RawSource(moment, moment.size)
            Keeping("/dev/rbd/vms/x", moment, source, place).keep(digest)
    assert set(store.kept["x"]) == {
        kept_name("00000002", "b" * 64),
        kept_name("00000001", "c" * 64),
    }


def test_a_snapshot_that_cannot_be_kept_is_said_and_no_failure_of_the_copy() -> None:
    class Full(MemoryMoment):
        def keep(self, kept: str, beginning: str) -> None:
            raise OSError(28, "No space left on device")

    moment = Full(Contents(image("a")), {})
    [told] = keeping(Memory(), moment).keep(_DIGEST)
    assert "the next one reads all of it" in told


def test_no_snapshot_is_kept_of_an_archive_in_an_images_place() -> None:
    stored = MemoryMoment(Contents(ours.archive_of(image("a"))), {})
    archive = SeekableArchive.open(stored)
    assert archive
    with pytest.raises(Unsupported, match="--keep-snapshot"):
        Keeping("/dev/rbd/vms/x", stored, FrameSource(archive, Reading(stored)), _PLACE)
