"""The contract of every store: what may be done with an open image beside reading and writing."""

from __future__ import annotations

import errno
import subprocess
from contextlib import closing
from mmap import PAGESIZE

import pytest

from virtstore.backends.base import Draft, Store
from virtstore.backends.version import settled
from virtstore.digest import CHUNK

from .stores import DATA, SIZE, Subject, contents, listed, make, padded, rounded


def test_an_image_that_was_changed_has_another_version_where_the_store_can_tell(
    store: Store,
) -> None:
    make(store)
    make(store, "y.img")
    with store.open("x.img", writable=True) as image, store.open("y.img") as other:
        before = settled(image)
        assert image.version == before
        assert other.version != before
        image.write_at(0, b"later")
        image.flush()
        tells = before.changed != 0
        assert (image.version != before) == tells


def test_an_image_that_replaced_another_has_another_version(store: Store) -> None:
    make(store)
    with store.open("x.img") as old:
        with store.draft("x.img", SIZE) as draft:
            draft.publish(overwrite=True)
        with store.open("x.img") as new:
            assert new.version != old.version


def test_whoever_opens_an_image_is_counted_where_the_store_counts(store: Store) -> None:
    make(store)
    with store.open("x.img") as image:
        assert image.open_count is None or image.open_count >= 1
        assert image.read_at(0, len(DATA)) == DATA
        assert not image.watchers  # those are others
        with store.open("x.img") as again:
            assert again.open_count is None or again.open_count >= 2


def test_an_image_that_is_about_to_be_read_is_used_by_nobody_else(store: Store) -> None:
    make(store)
    with store.open("x.img") as image:
        image.announce()
        assert not image.watchers
        assert image.read_at(0, len(DATA)) == DATA
        assert sum(extent.length for extent in image.extents()) == image.size
        image.check()
        assert image.read_at(0, len(DATA)) == DATA  # once more, after all
    with store.open("x.img") as image:
        image.announce()  # and is not read
    assert contents(store) == padded(store, DATA)


def test_no_two_images_are_one_for_who_reaches_them_over_the_network(store: Store) -> None:
    make(store)
    make(store, "y.img")
    with store.open("x.img") as image, store.open("y.img") as other:
        assert image.network is None or image.network != other.network


@pytest.mark.parametrize("wait", [False, True])
def test_what_is_written_out_is_what_was_written(store: Store, wait: bool) -> None:
    make(store)
    with store.open("x.img", writable=True) as image:
        image.write_at(CHUNK - 2, b"later")
        for offset, length in ((0, 1), (CHUNK - 2, 5), (0, image.size), (image.size, CHUNK)):
            image.cache.write_out(offset, length, wait=wait)
        image.flush()
    assert contents(store) == padded(store, DATA.ljust(CHUNK - 2, b"\0") + b"later")


def test_what_is_let_go_of_before_it_is_on_the_disk_is_kept(store: Store) -> None:
    make(store)
    with store.open("x.img", writable=True) as image:
        image.write_at(0, b"later")
        image.cache.let_go(0, image.size + CHUNK)
        assert image.read_at(0, len(DATA)) == b"later" + DATA[5:]
    assert contents(store) == padded(store, b"later" + DATA[5:])


@pytest.mark.parametrize(
    ("offset", "length"), [(0, SIZE), (4097, 9000), (CHUNK, 1), (CHUNK, 99 * CHUNK), (0, 0)]
)
def test_what_is_not_cached_are_parts_of_what_was_asked_about(
    store: Store, offset: int, length: int
) -> None:
    make(store)
    with store.open("x.img") as image:
        image.cache.let_go(0, image.size)
        position = offset // PAGESIZE * PAGESIZE
        for begin, count in image.cache.not_cached(offset, length):
            assert position <= begin
            assert count > 0
            position = begin + count
        end = min(offset + length, image.size)
        assert position <= -(-end // PAGESIZE) * PAGESIZE
        assert image.read_at(0, len(DATA)) == DATA
        assert image.cache.not_cached(image.size, CHUNK) == []
        assert image.cache.not_cached(image.size + CHUNK, CHUNK) == []


def test_what_was_read_of_an_image_that_is_there_is_the_image(store: Store) -> None:
    make(store)
    with store.open("x.img") as image:
        assert image.read_at(0, image.size) == padded(store)
        image.check()


def test_what_is_announced_is_told_as_it_is_when_it_is_opened(store: Store) -> None:
    make(store)
    make(store, "y.img")
    store.announce(["x.img", "y.img"])
    with store.open("y.img", writable=True) as image:
        image.write_at(0, b"later")
        image.flush()
    with store.open("x.img") as image:
        assert (image.size, image.read_at(0, len(DATA))) == (rounded(store), DATA)
    assert contents(store, "y.img") == padded(store, b"later" + DATA[5:])


def test_a_store_whose_images_are_written_in_place_does_not_vouch_for_their_bytes(
    store: Store,
) -> None:
    make(store)
    with store.open("x.img", writable=True) as image:
        assert not image.self_checking


def test_an_image_is_closed_without_a_context_as_well(store: Store) -> None:
    make(store)
    image = store.open("x.img")
    assert image.read_at(0, len(DATA)) == DATA
    image.close()
    store.remove("x.img")  # nobody has it open


def test_a_tool_reads_and_writes_an_image_that_is_lent_to_it(store: Store) -> None:
    make(store)
    with store.open("x.img", writable=True) as image:
        with image.lend() as fd:
            path = f"/proc/self/fd/{fd}"
            said = subprocess.run(["cat", path], pass_fds=[fd], check=True, capture_output=True)
            assert said.stdout == padded(store)
            dd = ["dd", f"of={path}", "conv=notrunc", "status=none"]
            subprocess.run(dd, pass_fds=[fd], check=True, input=b"a tool")
        assert image.read_at(0, len(DATA)) == b"a tool" + DATA[6:]
        assert image.size == rounded(store)
    assert contents(store) == padded(store, b"a tool" + DATA[6:])


def test_an_image_is_flushed_before_and_after_it_is_published(store: Store) -> None:
    with store.draft("x.img", SIZE) as draft:
        draft.zero(0, draft.size)
        draft.write_at(0, DATA)
        draft.flush()
        draft.publish(overwrite=False)
        draft.flush()
    assert contents(store) == padded(store)


@pytest.mark.parametrize("kind", ["draft", "archive", "rework"])
def test_a_draft_is_whole_from_when_it_is_finished_until_it_is_published(
    store: Store, kind: str
) -> None:
    if kind == "archive" and not store.capabilities.archives:
        return
    with _draft(store, kind) as draft:
        before = draft.whole
        draft.finish()
        finished = draft.whole
        assert listed(store) == {("x.img", "partial")}
        draft.publish(overwrite=False)
        assert (before, finished, draft.whole) == (False, True, False)
    assert listed(store) == {("x.img", "complete")}


def _draft(store: Store, kind: str) -> Draft:
    if kind == "archive":
        return store.archive("x.img")
    if kind == "draft":
        return store.draft("x.img", SIZE)
    make(store)
    reworked = store.rework("x.img")
    reworked.write_at(0, b"new")
    return reworked


def test_a_draft_whose_name_is_taken_is_whole(store: Store) -> None:
    make(store)
    with store.draft("x.img", SIZE) as draft:
        with pytest.raises(FileExistsError):
            draft.publish(overwrite=False)
        assert draft.whole


def test_an_end_within_what_is_wanted_whole_is_an_error_of_the_disk(store: Store) -> None:
    make(store)
    with store.open("x.img") as image, pytest.raises(OSError, match=r"(?i)end") as raised:
        image.read_whole(image.size - 1, 2)
    assert raised.value.errno == errno.EIO


def test_a_closed_store_can_be_opened_again(subject: Subject) -> None:
    with closing(subject.again()) as other:
        make(other)
    with closing(subject.again()) as other:
        assert contents(other) == padded(other)
