"""The contract of every store: a snapshot is what its image was, and not lost with it unasked."""

from __future__ import annotations

from contextlib import closing

import pytest

from virtstore.backends.base import Store, Stored
from virtstore.errors import Exists, InUse, Unsupported

from .stores import SIZE, Subject, contents, listed, make, padded, rounded


def test_a_snapshot_is_what_the_image_was_or_is_refused_without_a_trace(subject: Subject) -> None:
    store = subject.store
    make(store)
    if not subject.snapshots:
        with pytest.raises(Unsupported, match="reflink"):
            store.snapshot("x.img", "s.img", None)
        assert listed(store) == {("x.img", "complete")}
        return
    name = store.snapshot_name("x.img", "s.img")
    store.snapshot("x.img", name, None)
    with store.open("x.img", writable=True) as image:
        image.write_at(0, b"later")
    assert contents(store, name) == padded(store)
    with pytest.raises(Exists):
        store.snapshot("x.img", name, None)
    assert contents(store, name) == padded(store)
    assert listed(store) == {("x.img", "complete"), (name, "complete")}


def test_a_snapshot_that_nobody_names_gets_a_name_that_is_free(subject: Subject) -> None:
    store = subject.store
    make(store)
    if not subject.snapshots:
        assert store.snapshot_name("x.img", None) == "x-s1.img"
        return
    names = []
    for _ in range(2):
        names.append(store.snapshot_name("x.img", None))
        store.snapshot("x.img", names[-1], None)
    assert names in (["x-s1.img", "x-s2.img"], ["x.img@s1", "x.img@s2"])
    assert listed(store) == {(name, "complete") for name in ("x.img", *names)}


def test_a_frozen_image_stays_as_it_was_and_leaves_no_trace(subject: Subject) -> None:
    store = subject.store
    make(store)
    before = _names(store)
    if not subject.snapshots:
        with pytest.raises(Unsupported, match="reflink"):
            store.frozen("x.img")
        assert _names(store) == before
        return
    with store.frozen("x.img") as frozen, store.open("x.img", writable=True) as image:
        image.write_at(0, b"later")
        assert frozen.read_at(0, frozen.size) == padded(store)
        assert _names(store) == before
    assert _names(store) == before


def test_a_draft_shares_the_blocks_of_an_image_or_is_refused_without_a_trace(
    subject: Subject,
) -> None:
    store = subject.store
    make(store)
    before = _names(store)
    with store.open("x.img") as source:
        if not (store.capabilities.sparse and subject.snapshots):
            with pytest.raises(Unsupported):
                store.require_sharing(source)
            assert _names(store) == before
            with store.draft("y.img", SIZE) as draft, pytest.raises(Unsupported):
                draft.share(source)
            return
        store.require_sharing(source)
        assert _names(store) == before
        with store.draft("y.img", SIZE, sparse=True) as draft:
            draft.write_at(1, b"left")
            draft.share(source)
            draft.publish(overwrite=False)
        with store.open("y.img", writable=True) as copy:
            assert (copy.size, copy.read_at(0, copy.size)) == (source.size, padded(store))
            copy.write_at(0, b"later")
    assert contents(store) == padded(store)


def test_a_draft_that_shares_blocks_is_not_taken_for_one_whose_space_is_reserved(
    subject: Subject,
) -> None:
    store = subject.store
    if not (store.capabilities.sparse and subject.snapshots):
        return
    make(store)
    with store.open("x.img") as source, store.draft("y.img", SIZE, sparse=True) as draft:
        draft.share(source)
    with store.draft("y.img", SIZE) as draft:
        assert (draft.holds, draft.read_at(0, SIZE)) == ("zeros", bytes(SIZE))
    with store.draft("y.img", SIZE) as draft:
        draft.write_at(0, b"so far")
    with store.draft("y.img", SIZE) as draft:
        assert (draft.holds, draft.read_at(0, 6)) == ("kept", b"so far")


def test_an_image_gets_back_what_its_snapshot_has_also_after_a_cut(subject: Subject) -> None:
    if not subject.snapshots:
        return
    store = subject.store
    make(store)
    name = store.snapshot_name("x.img", "s.img")
    store.snapshot("x.img", name, None)
    with closing(subject.again()) as other:  # a copy opens its source's store apart
        for cut in (True, False):
            with other.open(name) as snapshot, store.rework("x.img") as draft:
                old = snapshot.read_at(0, snapshot.size)
                assert not draft.watchers
                draft.write_at(0, b"half" if cut else old)
                if not cut:
                    draft.publish(overwrite=False)
            other.refresh()
            state = "partial" if cut else "complete"
            assert listed(store) == {("x.img", state), (name, "complete")}
    assert contents(store) == padded(store)


def _names(store: Store) -> set[Stored]:
    return {Stored(found.name, found.type, found.state) for found in store.scan()}


def test_an_image_is_not_removed_while_a_snapshot_would_be_lost_with_it(subject: Subject) -> None:
    if not subject.snapshots:
        return
    store = subject.store
    make(store)
    name = store.snapshot_name("x.img", "s.img")
    store.snapshot("x.img", name, None)
    found = store.find("x.img")
    assert found
    if found.dependents:
        with pytest.raises(InUse):
            store.remove("x.img")
        assert listed(store) == {("x.img", "complete"), (name, "complete")}
        assert contents(store) == padded(store)
        store.remove(name)
    store.remove("x.img")
    assert name not in dict(listed(store)) or contents(store, name) == padded(store)


def test_an_image_goes_with_the_snapshots_that_it_is_listed_with(subject: Subject) -> None:
    if not subject.snapshots:
        return
    store = subject.store
    make(store)
    make(store, "y.img")
    name = store.snapshot_name("x.img", "s.img")
    store.snapshot("x.img", name, None)
    found, snapshot = store.find("x.img"), store.find(name)
    assert found
    assert snapshot
    assert set(found.dependents) <= set(found.snapshots)
    assert (snapshot.snapshot_of is not None) == bool(found.snapshots)
    store.remove("x.img", with_snapshots=True)
    left = {("y.img", "complete")} | (set() if found.snapshots else {(name, "complete")})
    assert listed(store) == left


def test_an_image_changes_its_size_with_snapshots_that_do_not_hold_it(subject: Subject) -> None:
    if not subject.snapshots:
        return
    store = subject.store
    make(store)
    name = store.snapshot_name("x.img", "s.img")
    store.snapshot("x.img", name, None)
    found = store.find("x.img")
    assert found
    assert set(found.held_by) <= set(found.snapshots)
    if not found.held_by:
        store.grow("x.img", 3 * SIZE)
        assert contents(store) == padded(store, size=3 * SIZE)
        store.shrink("x.img", SIZE)
        assert contents(store) == padded(store)
    assert contents(store, name) == padded(store)


def test_what_says_that_its_size_is_fixed_is_neither_grown_nor_cut(subject: Subject) -> None:
    if not subject.snapshots:
        return
    store = subject.store
    make(store)
    name = store.snapshot_name("x.img", "s.img")
    store.snapshot("x.img", name, rounded(store))
    found = store.find(name)
    assert found
    if found.fixed:
        for change, size in ((store.grow, 3 * SIZE), (store.shrink, 1)):
            with pytest.raises(Unsupported, match=found.fixed):
                change(name, size)
        assert contents(store, name) == padded(store)
    else:
        store.grow(name, 3 * SIZE)
        assert contents(store, name) == padded(store, size=3 * SIZE)
        store.shrink(name, SIZE)
        assert contents(store, name) == padded(store)
    assert contents(store) == padded(store)
