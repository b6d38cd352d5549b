"""The contract of every store: names come and go whole, and a failure leaves what was there."""

from __future__ import annotations

import random

import pytest

from virtstore.backends.base import Store
from virtstore.errors import NoSpace, NotFound, Unsupported

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
    state,
)


def test_a_name_that_is_taken_is_not_overwritten_unasked(store: Store) -> None:
    make(store)
    with store.draft("x.img", 10) as draft:
        draft.zero(0, draft.size)
        draft.write_at(0, b"new")
        assert listed(store) == {("x.img", "complete"), ("x.img", "partial")}
        with pytest.raises(FileExistsError):
            draft.publish(overwrite=False)
        assert contents(store).startswith(DATA)
        draft.publish(overwrite=True)
    assert listed(store) == {("x.img", "complete")}
    assert contents(store) == padded(store, b"new", 10)


NOTE = "4096-1052675-0123456789abcdef:4096-9999999999-fedcba9876543210"


def test_a_note_goes_where_the_image_goes_and_other_contents_have_none(subject: Subject) -> None:
    store = subject.store
    make(store)
    assert store.losses("x.img") == store.losses("none.img") == ""
    assert store.note_losses("x.img", NOTE) == subject.marks
    if not subject.marks:
        assert store.losses("x.img") == ""
        return
    assert store.losses("x.img") == NOTE
    store.grow("x.img", 2 * SIZE)
    if subject.snapshots:
        name = store.snapshot_name("x.img", "s.img")
        store.snapshot("x.img", name, None)
        assert store.losses(name) == NOTE
        store.remove(name)
    assert store.losses("x.img") == NOTE
    assert store.note_losses("x.img", NOTE[:29])
    assert store.losses("x.img") == NOTE[:29]
    with store.draft("x.img", SIZE) as draft:
        draft.zero(0, draft.size)
        draft.publish(overwrite=True)
    assert store.losses("x.img") == ""


def test_a_note_is_given_to_a_draft_and_taken_from_it(subject: Subject) -> None:
    store = subject.store
    with store.draft("x.img", SIZE) as draft:
        draft.zero(0, draft.size)
        assert draft.note_losses(NOTE) == subject.marks
        draft.publish(overwrite=False)
    assert store.losses("x.img") == (NOTE if subject.marks else "")
    with store.rework("x.img") as image:
        image.write_at(0, b"other contents")
        assert image.note_losses("")
        image.publish(overwrite=False)
    assert store.losses("x.img") == ""


def test_whoever_reads_the_old_image_goes_on_reading_the_old(store: Store) -> None:
    make(store)
    with store.open("x.img") as old:
        with store.draft("x.img", SIZE) as draft:
            draft.publish(overwrite=True)
        assert old.read_at(0, len(DATA)) == DATA


def test_a_draft_that_was_left_is_taken_up_with_its_contents(store: Store) -> None:
    with store.draft("x.img", SIZE) as draft:
        draft.zero(0, draft.size)
        draft.write_at(5, b"so far")
    so_far = bytes(5) + b"so far"
    assert state(store) == "partial"
    assert contents(store, partial=True) == padded(store, so_far)
    with store.draft("x.img", SIZE) as draft:
        assert draft.holds == "kept"
        assert draft.read_at(0, draft.size) == padded(store, so_far)


def test_a_draft_that_was_left_is_fitted_to_another_size_or_made_anew(store: Store) -> None:
    with store.draft("x.img", SIZE) as draft:
        draft.zero(0, draft.size)
        draft.write_at(5, b"so far")
    for size in (3 * SIZE, 8):
        with store.draft("x.img", size) as draft:
            assert draft.size == rounded(store, size)
            assert draft.allocated >= reserved(store, size)
            if draft.holds == "kept":
                kept = (bytes(5) + b"so far")[:size]
                assert draft.read_at(0, draft.size) == padded(store, kept, size)
    assert listed(store) == {("x.img", "partial")}


def test_an_archive_takes_over_ranges_of_another(store: Store) -> None:
    if not store.capabilities.archives:
        return
    contents = random.Random(1).randbytes(3 * 4096 + 77)
    with store.archive("old.zst") as draft:
        units = {draft.shared_unit}
        draft.append(contents)
        draft.publish(overwrite=False)
    wanted = bytearray()
    with store.open("old.zst", stored=True) as old, store.archive("new.zst") as draft:
        units.add(draft.shared_unit)
        for before, begin, end in [(0, 0, 12365), (4096 - 77, 4096, 8192), (5, 100, 9000)]:
            draft.append(b"x" * before)
            shared = draft.append_from(old, begin, end - begin)
            assert shared % 4096 == 0
            assert shared <= (end - begin if draft.shared_unit > 1 else 0)
            wanted += b"x" * before + contents[begin:end]
        with pytest.raises(OSError, match="ends"):
            draft.append_from(old, 0, len(contents) + 1)
    with store.archive("new.zst") as draft:
        if left := draft.resumable:
            assert left.read_at(0, len(wanted)) == wanted
    with store.open("old.zst", stored=True) as old:
        assert old.read_at(0, old.size) == contents
    assert units in ({1}, {4096})


def test_an_archive_that_was_left_is_taken_up_and_can_be_cut(store: Store) -> None:
    if not store.capabilities.archives:
        with pytest.raises(Unsupported, match="archive"):
            store.archive("x.zst")
        assert listed(store) == set()
        return
    with store.archive("x.zst") as draft:
        assert draft.size == 0
        assert not draft.resumable or draft.resumable.holds == "zeros"
        draft.append(DATA)
        draft.append(b"more")
        assert draft.size == len(DATA) + 4
        assert draft.allocated <= store.free()
    with store.archive("x.zst") as draft:
        if left := draft.resumable:
            assert left.resumable
            assert (left.size, left.holds) == (len(DATA) + 4, "kept")
            assert left.read_at(0, left.size) == DATA + b"more"
            left.write_at(1, b"new")
            left.write_at(left.size, b"end")
            left.cut(left.size - 1)
            assert left.read_at(0, left.size) == DATA[:1] + b"new" + DATA[4:] + b"moreen"
            left.cut(3)
            left.append(b"again")
            assert left.read_at(0, left.size) == DATA[:1] + b"neagain"
    with store.archive("y.zst") as draft:
        draft.append(DATA)
        draft.cache.write_out(0, len(DATA), wait=True)
        draft.publish(overwrite=False)
    with store.open("y.zst") as image:
        assert image.read_at(0, len(DATA) + 1) == DATA


def test_nothing_is_left_of_an_archive_that_is_abandoned(store: Store) -> None:
    if not store.capabilities.archives:
        return
    make(store)
    with store.archive("x.img.zst") as draft:
        draft.append(DATA)
    draft.abandon()
    assert listed(store) == {("x.img", "complete")}
    with store.archive("x.img.zst") as draft:
        assert draft.size == 0


def test_what_is_set_aside_has_no_name_and_is_gone_when_it_is_closed(store: Store) -> None:
    if not store.capabilities.archives:
        return
    with store.archive("x.zst") as draft:
        if left := draft.resumable:
            with left.scratch() as scratch:
                scratch.write_at(0, DATA)
                scratch.write_at(len(DATA), b"more")
                assert scratch.read_at(0, len(DATA) + 9) == DATA + b"more"
                assert listed(store) == {("x.zst", "partial")}
            assert left.size == 0


def test_what_was_left_is_discarded_and_the_image_beside_it_is_not(store: Store) -> None:
    make(store)
    store.draft("x.img", 10).close()
    store.discard("x.img")
    store.discard("x.img")  # nothing to do is no failure
    assert listed(store) == {("x.img", "complete")}


def test_no_room_is_told_and_leaves_nothing(store: Store) -> None:
    if not reserved(store):
        return  # nothing is promised, so nothing can be refused
    too_much = store.rounded(2 * store.free())  # also where somebody else removes something now
    with pytest.raises(NoSpace):
        store.draft("y.img", too_much)
    assert listed(store) == set()
    make(store)
    with pytest.raises(NoSpace):
        store.grow("x.img", SIZE + too_much)
    assert contents(store) == padded(store)
    assert listed(store) == {("x.img", "complete")}


def test_a_removed_image_is_gone_and_a_partial_one_is_none(store: Store) -> None:
    make(store)
    store.remove("x.img")
    assert listed(store) == set()
    store.draft("x.img", 10).close()
    for name in ("x.img", "y.img"):
        with pytest.raises(NotFound):
            store.remove(name)
    assert listed(store) == {("x.img", "partial")}


def test_an_unknown_name_is_not_found_by_any_method(store: Store) -> None:
    for ask in (store.open, store.remove, store.frozen, store.rework):
        with pytest.raises(NotFound):
            ask("no.img")
    for change in (store.grow, store.shrink):
        with pytest.raises(NotFound):
            change("no.img", 10)
    with pytest.raises(NotFound):
        store.snapshot("no.img", "s.img", None)
    assert listed(store) == set()
