"""A copy from end to end in memory and on files: what arrives is what was sent, or nothing."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contract.memory import Memory
from zstandard import ZstdCompressor

from virtstore import formats
from virtstore.backends.base import Image, Store
from virtstore.backends.files.directory import Directory
from virtstore.digest import BLOCK, CHUNK, ImageDigest, chunk_digest
from virtstore.errors import Corrupt
from virtstore.formats.chunk_frames import compress_block
from virtstore.model import Compression
from virtstore.protocol import Data, End, Patch, Same, Sent, Zero
from virtstore.transfer.fingerprints import Fingerprints
from virtstore.transfer.hashing import fingerprints
from virtstore.transfer.pieces import Source
from virtstore.transfer.receive import Target, receive
from virtstore.transfer.send import Encoding, send
from virtstore.transfer.sources import RawSource, open_source
from virtstore.transfer.writers import FrameTarget, ImageTarget, StreamTarget

#: Stores whose archives can be read while they are made.
ArchivesHere = Memory | Directory

SIZES = [1, 511, 4096, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 4099]


@pytest.fixture(params=["memory", "directory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield Memory()
        return
    directory = Directory(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY))
    yield directory
    directory.close()


def an_image(size: int, seed: int) -> bytes:
    """Random bytes with runs of zeros that begin and end anywhere."""
    chance = random.Random(seed)
    image = bytearray(chance.randbytes(size))
    for _ in range(4):
        start = chance.randrange(size)
        length = min(chance.randrange(2 * CHUNK), size - start)
        image[start : start + length] = bytes(length)
    return bytes(image)


def digest_of(image: bytes) -> str:
    digest = ImageDigest()
    for start in range(0, len(image), CHUNK):
        digest.add(chunk_digest(image[start : start + CHUNK]))
    return digest.hexdigest()


#: How an archive of ours gets its chunks, and how one of another format does on one host.
KEPT = Encoding(whole_frames=True, level=3)
RAW = Encoding(frames=False)


def stored(store: ArchivesHere, name: str, contents: bytes | bytearray) -> Image:
    with store.draft(name, len(contents)) as draft:
        for start in range(0, len(contents), CHUNK):
            part = contents[start : start + CHUNK]
            if part.strip(b"\0"):
                draft.write_at(start, part)
        draft.publish(overwrite=False)
    return store.open(name, writable=True)


def surveyed(image: Image, size: int) -> Fingerprints:
    """All that an image holds, found out beforehand."""
    existing = Fingerprints(size)
    for zeros, found in fingerprints(RawSource(image, size), blocks=True):
        existing.add(found, zeros)
    return existing


def everything(source: Source) -> bytes:
    return b"".join(
        bytes(piece.length) if piece.read is None else bytes(piece.read())
        for piece in source.pieces()
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("frames", [True, False])
def test_an_image_arrives_as_it_was_sent(store: ArchivesHere, size: int, frames: bool) -> None:
    contents = an_image(size, size)
    with stored(store, "x", contents) as image, store.draft("y", size) as draft:
        sent = send(RawSource(image, size), Encoding(frames=frames), None)
        outcome = receive(sent, size, ImageTarget(draft, size, None))
        assert draft.read_at(0, size + 1) == contents
    assert outcome.digest == digest_of(contents)
    assert outcome.written <= size


@pytest.mark.parametrize("size", SIZES)
def test_within_one_process_a_chunk_is_hashed_once_and_the_digest_is_the_images(
    store: ArchivesHere, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(_: bytes) -> bytes:
        raise AssertionError("a chunk was hashed where it was written")

    monkeypatch.setattr("virtstore.transfer.writers.chunk_digest", twice)
    contents, encoding = an_image(size, size), Encoding(frames=False, proven=True)
    with stored(store, "x", contents) as image, store.draft("y", size) as draft:
        sent = send(RawSource(image, size), encoding, None)
        outcome = receive(sent, size, ImageTarget(draft, size, None))
        assert draft.read_at(0, size + 1) == contents
    assert outcome.digest == digest_of(contents)
    with store.open("x") as image, store.archive("y.gz") as archive:
        target = StreamTarget(archive, formats.STREAMS["gzip"], None)
        outcome = receive(send(RawSource(image, size), encoding, None), size, target)
        assert everything(open_source(archive)) == contents
    assert outcome.digest == digest_of(contents)


@pytest.mark.parametrize("form", formats.FORMATS)
@pytest.mark.parametrize("size", [1, CHUNK, 2 * CHUNK + 77])
def test_every_kind_of_archive_holds_the_image_that_was_sent(
    store: ArchivesHere, form: Compression, size: int
) -> None:
    contents = an_image(size, size)
    with stored(store, "x", contents) as image, store.archive("x.arc") as draft:
        target: Target = (
            FrameTarget(draft)
            if form == "zstd"
            else StreamTarget(draft, formats.STREAMS[form], formats.STREAMS[form].levels.start)
        )
        outcome = receive(
            send(RawSource(image, size), KEPT if form == "zstd" else RAW, None),
            size,
            target,
        )
        source = open_source(draft)
        assert (source.compression, source.size) == (form, size)
        assert everything(source) == contents
        assert outcome.written == draft.size
        assert outcome.digest == digest_of(contents)


def test_an_archive_of_ours_is_passed_on_without_compressing_it_again(
    store: ArchivesHere,
) -> None:
    size = 3 * CHUNK + 5
    contents = an_image(size, 1)
    with stored(store, "x", contents) as image, store.archive("a") as first:
        receive(
            send(RawSource(image, size), KEPT, None),
            size,
            FrameTarget(first),
        )
        with store.archive("b") as second:
            source = open_source(first)
            receive(send(source, KEPT, None), size, FrameTarget(second))
            assert second.read_at(0, second.size) == first.read_at(0, first.size)
        with store.draft("c", size) as third:
            source = open_source(first)
            receive(send(source, Encoding(), None), size, ImageTarget(third, size, None))
            assert third.read_at(0, size) == contents


@settings(max_examples=20, deadline=None)
@given(
    old=st.lists(st.sampled_from("0ab"), min_size=2, max_size=6),
    new=st.lists(st.sampled_from("0ab"), min_size=1, max_size=6),
    cut=st.integers(0, CHUNK - 1),
)
def test_only_what_differs_is_moved_and_the_rest_is_zeroed(
    old: list[str], new: list[str], cut: int
) -> None:
    def chunks(marks: list[str]) -> bytes:
        return b"".join({"0": bytes(CHUNK)}.get(m, m.encode() * CHUNK) for m in marks)

    contents = chunks(new[: len(old)])
    contents = contents[: len(contents) - cut]
    size, store = len(contents), Memory()
    with stored(store, "x", contents) as image, stored(store, "y", chunks(old)) as target:
        existing = surveyed(target, size)
        sent = list(send(RawSource(image, size), Encoding(), existing))
        receive(sent, size, ImageTarget(target, size, existing))
        assert target.read_at(0, target.size) == contents.ljust(len(old) * CHUNK, b"\0")
    moved = {message.offset // CHUNK for message, _ in sent if isinstance(message, Data)}
    whole = size // CHUNK
    assert all(old[n] != new[n] for n in moved if n < whole)


def test_a_target_that_holds_it_all_is_not_written_to() -> None:
    contents, store = an_image(2 * CHUNK, 9), Memory()
    with stored(store, "x", contents) as image, stored(store, "y", contents) as same:
        existing = surveyed(same, 2 * CHUNK)
        target = ImageTarget(same, 2 * CHUNK, existing)
        sent = send(RawSource(image, 2 * CHUNK), Encoding(), existing)
        assert receive(sent, 2 * CHUNK, target).written == 0


A = random.Random(7).randbytes(CHUNK)
SIZE = 2 * CHUNK + 10
DATA = (Data(0, CHUNK, raw=True), A)
ZERO = (Zero(CHUNK, CHUNK + 10), b"")
END = (End(digest_of(A + bytes(CHUNK + 10))), b"")
GOOD: list[Sent] = [DATA, ZERO, END]


def _received(frames: list[Sent]) -> bytes:
    with Memory().draft("x", SIZE) as draft:
        receive(frames, SIZE, ImageTarget(draft, SIZE, None))
        return draft.read_at(0, SIZE)


def test_a_whole_sequence_is_taken() -> None:
    assert _received(GOOD) == A + bytes(CHUNK + 10)


@pytest.mark.parametrize(
    ("why", "frames"),
    [
        ("no end", [DATA, ZERO]),
        ("nothing", []),
        ("an end only", [END]),
        ("a gap", [DATA, (Zero(2 * CHUNK, 10), b""), END]),
        ("an overlap", [DATA, DATA, ZERO, END]),
        ("a wrong order", [ZERO, DATA, END]),
        ("too short", [DATA, (Zero(CHUNK, CHUNK), b""), END]),
        ("too long", [DATA, (Zero(CHUNK, CHUNK + 11), b""), END]),
        ("a negative length", [DATA, (Zero(CHUNK, -CHUNK), b""), ZERO, END]),
        ("no length", [DATA, (Zero(CHUNK, 0), b""), ZERO, END]),
        ("a negative offset", [(Data(-CHUNK, CHUNK, raw=True), A), DATA, ZERO, END]),
        ("half a chunk", [(Data(0, 512, raw=True), A[:512]), END]),
        ("two chunks at once", [(Data(0, 2 * CHUNK, raw=True), A + A), END]),
        ("half a run of zeros", [DATA, (Zero(CHUNK, 512), b""), (Zero(CHUNK + 512, 10), b"")]),
        ("the wrong digest", [DATA, ZERO, (End("00" * 32), b"")]),
        ("no digest", [DATA, ZERO, (End(""), b"")]),
        ("other contents", [(DATA[0], bytes([A[0] ^ 1]) + A[1:]), ZERO, END]),
        ("too few bytes", [(DATA[0], A[:-1]), ZERO, END]),
        ("too many bytes", [(DATA[0], A + b"!"), ZERO, END]),
        ("what was never compared", [(Same(0, CHUNK), b""), ZERO, END]),
        ("no zstd frame", [(Data(0, CHUNK), A), ZERO, END]),
        ("a frame of too much", [(Data(0, CHUNK), ZstdCompressor().compress(A + A)), ZERO, END]),
        ("a frame of too little", [(Data(0, CHUNK), compress_block(A[:-1])), ZERO, END]),
        ("junk behind a frame", [(Data(0, CHUNK), compress_block(A) + b"!"), ZERO, END]),
        ("a damaged frame", [(Data(0, CHUNK), compress_block(A)[:-1] + b"!"), ZERO, END]),
    ],
)
@pytest.mark.parametrize("kind", ["image", "frames", "stream"])
def test_what_is_not_whole_or_not_true_is_refused(why: str, frames: list[Sent], kind: str) -> None:
    if kind == "image":
        with pytest.raises(Corrupt):
            _received(frames)
        return
    with Memory().archive("x") as draft:
        gzip = formats.STREAMS["gzip"]
        target = FrameTarget(draft) if kind == "frames" else StreamTarget(draft, gzip, 1)
        with pytest.raises(Corrupt):
            receive(frames, SIZE, target)
        if isinstance(target, StreamTarget):
            target.abandon()
        assert not _passes_for_an_archive(draft), why


def _passes_for_an_archive(image: Image) -> bool:
    try:
        return open_source(image).compression is not None
    except Corrupt:
        return False


class _Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("stall", [0, 0.6, 50], ids=["steady", "a stall", "a long stall"])
def test_a_rate_is_kept_and_a_stall_is_made_up_for_within_a_second(
    monkeypatch: pytest.MonkeyPatch, stall: float
) -> None:
    clock, rate = _Clock(), CHUNK // 2
    monkeypatch.setattr("virtstore.transfer.send.time", clock)
    with stored(Memory(), "x", random.Random(3).randbytes(8 * CHUNK)) as image:
        sent = send(RawSource(image, image.size), Encoding(bwlimit=rate), None)
        payloads = []
        for number, (_, payload) in enumerate(sent):
            clock.now += stall if number == 4 else 0  # the link, or the target
            payloads.append(len(payload))
    needed = sum(payloads) / rate
    assert clock.now - 100 == pytest.approx(needed + max(0, stall - 1))


def test_zeros_cost_nothing_of_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("virtstore.transfer.send.time", clock := _Clock())
    with stored(Memory(), "x", bytes(8 * CHUNK)) as image:
        sent = list(send(RawSource(image, image.size), Encoding(bwlimit=1), None))
    assert clock.now == 100  # at a byte a second it would be 97 days later
    assert [message for message, _ in sent[:-1]] == [Zero(0, 8 * CHUNK)]


def test_what_does_not_compress_is_sent_as_it_is_unless_it_is_kept() -> None:
    with stored(Memory(), "x", A) as image:
        [(sent, payload), _] = send(RawSource(image, CHUNK), Encoding(), None)
        assert (sent, payload) == (Data(0, CHUNK, raw=True), A)
        [(kept, payload), _] = send(RawSource(image, CHUNK), KEPT, None)
        assert kept == Data(0, CHUNK)


def test_a_raw_chunk_is_no_part_of_an_archive() -> None:
    with Memory().archive("x") as draft, pytest.raises(Corrupt, match="no frame"):
        receive([(Data(0, CHUNK, raw=True), A), (END[0], b"")], CHUNK, FrameTarget(draft))


@pytest.mark.parametrize("encoding", [Encoding(), RAW], ids=["frames", "raw"])
def test_of_a_chunk_only_the_blocks_that_differ_are_moved_and_written(encoding: Encoding) -> None:
    old = bytearray(A * 2)
    new = bytearray(old)
    for at in (0, BLOCK, 5 * BLOCK + 7, CHUNK - 1, CHUNK + BLOCK):
        new[at] ^= 1
    store, size = Memory(), len(old)
    with stored(store, "x", new) as image, stored(store, "y", old) as there:
        existing = surveyed(there, size)
        sent = list(send(RawSource(image, size), encoding, existing))
        outcome = receive(sent, size, ImageTarget(there, size, existing))
        assert there.read_at(0, size) == new
    patches = [message for message, _ in sent if isinstance(message, Patch)]
    assert [p.blocks for p in patches] == [(0, 1, 5, 15), (1,)]
    assert outcome.written == 5 * BLOCK
    assert sum(len(payload) for _, payload in sent) <= 5 * BLOCK


@pytest.mark.parametrize(
    "blocks", [(), (1, 0), (0, 0), (-1,), (16,), (0, 16)], ids=lambda blocks: str(blocks)
)
def test_blocks_that_a_chunk_has_not_are_refused(blocks: tuple[int, ...]) -> None:
    store = Memory()
    with stored(store, "y", A) as there:
        existing = surveyed(there, CHUNK)
        frames: list[Sent] = [(Patch(0, CHUNK, blocks, raw=True), A[: len(blocks) * BLOCK]), END]
        with pytest.raises(Corrupt, match="blocks that the chunk"):
            receive(frames, CHUNK, ImageTarget(there, CHUNK, existing))


def test_a_block_wrongly_taken_for_equal_is_found_at_the_end() -> None:
    store, new = Memory(), bytes([A[0] ^ 1]) + A[1:-1] + bytes([A[-1] ^ 1])
    with stored(store, "y", A) as there:
        existing = surveyed(there, CHUNK)
        frames: list[Sent] = [
            (Patch(0, CHUNK, (0,), raw=True), new[:BLOCK]),
            (End(digest_of(new)), b""),
        ]
        with pytest.raises(Corrupt, match="digests differ"):
            receive(frames, CHUNK, ImageTarget(there, CHUNK, existing))


@pytest.mark.parametrize("size", SIZES)
def test_what_is_proven_makes_the_same_archive(store: ArchivesHere, size: int) -> None:
    image = an_image(size, size)
    made = []
    for name, proven in (("plain", False), ("proven", True)):
        with stored(store, name, image) as source, store.archive(f"{name}.zst") as draft:
            encoding = Encoding(whole_frames=True, proven=proven)
            outcome = receive(
                send(RawSource(source, size), encoding, None), size, FrameTarget(draft)
            )
            assert outcome.digest == digest_of(image)
            made.append(draft.read_at(0, outcome.written))
    assert made[0] == made[1]


def test_a_frame_that_does_not_hold_what_it_was_made_of_is_found(
    store: ArchivesHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(contents: bytes, level: int) -> bytes:
        return compress_block(contents[:-1] + bytes([contents[-1] ^ 1]), level)

    monkeypatch.setattr("virtstore.transfer.send.compress_block", wrong)
    image = random.Random(3).randbytes(2 * CHUNK)
    with stored(store, "x.img", image) as source, store.archive("x.zst") as draft:
        frames = send(RawSource(source, len(image)), Encoding(whole_frames=True, proven=True), None)
        with pytest.raises(Corrupt, match="does not decompress to the same"):
            receive(frames, len(image), FrameTarget(draft))
