"""The contract of every store: an image is what was written to it, wherever it lies."""

from __future__ import annotations

import threading

import pytest

from virtstore.backends.base import Store
from virtstore.digest import CHUNK
from virtstore.errors import NotFound, Unsupported

from .stores import (
    DATA,
    SIZE,
    Subject,
    contents,
    listed,
    make,
    padded,
    reserved,
    rounded,
)


def test_a_draft_is_wholly_allocated_shown_as_partial_and_zeros_if_it_says_so(
    store: Store,
) -> None:
    size = rounded(store)
    with store.draft("x.img", SIZE) as draft:
        assert draft.size == size
        assert draft.allocated >= reserved(store)
        if draft.holds != "zeros":
            assert draft.holds == "unknown"
            draft.zero(0, size)
        assert draft.read_at(0, size + 1) == bytes(size)
        assert listed(store) == {("x.img", "partial")}
        with pytest.raises(NotFound):
            store.open("x.img")
        draft.publish(overwrite=False)
    assert listed(store) == {("x.img", "complete")}
    assert contents(store) == bytes(size)


def test_of_a_sparse_draft_nothing_is_reserved_and_its_zeros_take_no_room(
    store: Store, subject: Subject
) -> None:
    if not store.capabilities.sparse:
        with pytest.raises(Unsupported):
            store.draft("x.img", SIZE, sparse=True)
        return
    data = b"\1" * CHUNK
    with store.draft("x.img", 64 * CHUNK, sparse=True) as draft:
        assert (draft.holds, draft.size) == ("zeros", 64 * CHUNK)
        draft.write_at(CHUNK, data + bytes(9 * CHUNK) + data)
        draft.write_at(20 * CHUNK + 5, b"odd" + bytes(CHUNK) + b"end")
        draft.zero(CHUNK + 7, CHUNK - 7)
        draft.flush()
        assert draft.allocated < 4 * CHUNK or not subject.holes
        draft.publish(overwrite=False)
    expected = bytearray(64 * CHUNK)
    expected[CHUNK : CHUNK + 7] = b"\1" * 7
    expected[11 * CHUNK : 12 * CHUNK] = data
    expected[20 * CHUNK + 5 : 21 * CHUNK + 11] = b"odd" + bytes(CHUNK) + b"end"
    assert contents(store) == expected


def test_a_sparse_draft_gives_back_what_an_earlier_one_had_reserved(
    store: Store, subject: Subject
) -> None:
    if not store.capabilities.sparse:
        return
    with store.draft("x.img", 64 * CHUNK) as draft:
        draft.write_at(CHUNK, DATA)
    with store.draft("x.img", 32 * CHUNK, sparse=True) as draft:
        assert (draft.holds, draft.size) == ("kept", 32 * CHUNK)
        assert draft.read_at(CHUNK, len(DATA)) == DATA
        draft.flush()
        assert draft.allocated < 4 * CHUNK or not subject.holes
    with store.draft("x.img", 32 * CHUNK) as draft:
        assert draft.allocated >= 32 * CHUNK
        draft.publish(overwrite=False)
    assert contents(store) == bytes(CHUNK) + DATA + bytes(31 * CHUNK - len(DATA))


def test_what_was_written_is_read_wherever_it_lies(store: Store) -> None:
    make(store, data=b"")
    with store.open("x.img", writable=True) as image:
        end = image.size
        for offset, data in ((0, b"start"), (CHUNK - 3, b"across"), (end - 3, b"end")):
            image.write_at(offset, memoryview(data))
            assert image.read_whole(offset, len(data)) == data
            assert image.read_at(offset, len(data)) == data
        image.flush()
        assert image.size == end == rounded(store)


def test_a_read_that_goes_beyond_the_end_is_short_or_an_error_as_asked(store: Store) -> None:
    make(store)
    end = rounded(store)
    with store.open("x.img") as image:
        assert len(image.read_at(end - 5, 100)) == 5
        assert image.read_at(end, 1) == b""
        assert image.read_at(end + CHUNK, 1) == b""
        with pytest.raises(OSError, match=r"(?i)end"):
            image.read_whole(end - 5, 6)


def test_an_image_opened_for_reading_cannot_be_written(store: Store) -> None:
    make(store)
    with store.open("x.img") as image, pytest.raises(OSError, match="Bad file descriptor"):
        image.write_at(0, b"!")
    assert contents(store) == padded(store)


def test_several_threads_use_one_image_at_once(store: Store) -> None:
    make(store, data=b"", size=8 * 65536)
    with store.open("x.img", writable=True) as image:

        def work(number: int) -> None:
            for offset in range(number * 4096, 8 * 65536, 8 * 4096):
                image.write_at(offset, bytes([number]) * 4096)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    written = b"".join(bytes([n]) * 4096 for n in range(8)) * 16
    assert contents(store) == padded(store, written, len(written))


@pytest.mark.parametrize(("offset", "length"), [(0, SIZE), (1, 1), (4095, 4098), (CHUNK - 1, 4100)])
def test_zeroed_space_reads_as_zeros_and_stays_allocated(
    store: Store, offset: int, length: int
) -> None:
    data = b"\xff" * SIZE
    make(store, data=data)
    with store.open("x.img", writable=True) as image:
        image.zero(offset, length)
        assert image.size == rounded(store)
        assert image.allocated >= reserved(store)
    left = data[:offset] + bytes(length) + data[offset + length :]
    assert contents(store) == padded(store, left)


def test_extents_cover_the_image_and_call_nothing_zero_that_is_not(store: Store) -> None:
    size = 8 * CHUNK
    make(store, data=b"", size=size)
    with store.open("x.img", writable=True) as image:
        image.write_at(3 * CHUNK, DATA)
        position = 0
        for extent in image.extents():
            assert extent.offset == position
            assert extent.length > 0
            if extent.kind == "zero":
                assert image.read_at(extent.offset, extent.length) == bytes(extent.length)
            position = extent.end
        assert position == size


def test_an_image_is_the_same_by_whatever_way_it_is_reached(store: Store) -> None:
    make(store)
    make(store, "y.img")
    with store.open("x.img") as one, store.open("x.img") as same, store.open("y.img") as other:
        assert one.identity == same.identity != other.identity
        found = store.find("x.img")
        assert found
        assert found.identity == one.identity
    assert store.identity("x.img") == store.identity("x.img") != store.identity("y.img")


def test_a_listing_tells_what_an_image_takes(store: Store, subject: Subject) -> None:
    make(store)
    [found] = store.scan()
    assert found == store.find("x.img")
    assert (found.type, found.size) == (subject.type, rounded(store))
    assert found.allocated >= reserved(store)
    assert (found.modified is not None) == (found.owner is not None) == subject.times
    assert store.find("y.img") is None
