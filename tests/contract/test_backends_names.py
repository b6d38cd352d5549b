"""The contract of every store: what a name can be, and what stands behind it."""

from __future__ import annotations

from contextlib import closing, suppress

import pytest

from virtstore.backends.base import Store
from virtstore.errors import NotFound, Unsupported, UsageError

from .stores import (
    DATA,
    SIZE,
    Stopped,
    Subject,
    contents,
    listed,
    make,
    padded,
    require_several,
    rounded,
    state,
    stop,
)


def test_what_another_made_is_there_once_what_was_known_is_forgotten(subject: Subject) -> None:
    store = subject.store
    require_several(store)
    assert listed(store) == set()
    with closing(subject.again()) as other:
        make(other)
        store.refresh()
        assert contents(store) == padded(store)
        other.remove("x.img")
    store.refresh()
    assert listed(store) == set()


def test_a_lock_stands_for_the_same_image_whatever_way_the_store_was_reached(
    subject: Subject,
) -> None:
    with closing(subject.again()) as other:
        assert other.identity("x.img") == subject.store.identity("x.img")
        require_several(other)
        assert other.identity("y.img") != subject.store.identity("x.img")


def test_the_longest_name_can_be_worked_with_and_no_longer_one(subject: Subject) -> None:
    store = subject.store
    require_several(store)
    name = "x" * max(length for length in range(300) if _is_taken(store, "x" * length))
    assert not _is_taken(store, f"{name}x")
    make(store, name)
    with store.draft(name, SIZE) as draft:
        draft.zero(0, draft.size)
        draft.publish(overwrite=True)
    with store.rework(name) as draft:
        draft.write_at(0, DATA)
        assert state(store, name) == "partial"
        draft.publish(overwrite=False)
    store.grow(name, 3 * SIZE)
    with suppress(Stopped), store.guarded(name, SIZE, "") as changed:
        assert state(store, name) != "partial" or changed != name
        raise Stopped
    if subject.snapshots:
        with store.frozen(name) as frozen:
            assert frozen.read_at(0, 5) == DATA[:5]
    assert listed(store) == {(name, "complete")}
    assert contents(store, name) == padded(store, size=3 * SIZE)
    store.remove(name)
    assert listed(store) == set()


def _is_taken(store: Store, name: str) -> bool:
    try:
        store.require_name(name)
    except UsageError:
        return False
    return True


def test_new_names_and_attributes_are_tried_without_a_trace(store: Store) -> None:
    before = listed(store)
    store.require_new_names()
    store.require_attributes("x.img")
    assert listed(store) == before
    make(store)
    store.require_new_names()
    store.require_attributes("x.img")
    store.require_attributes("y.img", like="x.img")
    assert listed(store) == {("x.img", "complete")}


def test_a_draft_is_published_with_the_attributes_of_another_image(store: Store) -> None:
    make(store)
    with store.draft("y.img", SIZE) as draft:
        draft.zero(0, draft.size)
        draft.publish(overwrite=False, like="x.img")
    assert listed(store) == {("x.img", "complete"), ("y.img", "complete")}
    assert contents(store) == padded(store)


def test_one_name_has_what_the_whole_listing_shows_of_it(store: Store) -> None:
    require_several(store)
    make(store)
    make(store, "y.img")
    store.draft("x.img", SIZE).close()
    store.draft("z.img", SIZE).close()
    everything = list(store.scan())
    assert {each.state for each in store.named("x.img")} == {"complete", "partial"}
    for name in ("x.img", "y.img", "z.img", "no.img"):
        found = store.named(name)
        wanted = [each for each in everything if each.name == name]
        assert sorted(found, key=str) == sorted(wanted, key=str)


def test_an_image_in_a_thin_pool_is_made_where_there_is_one(subject: Subject) -> None:
    store = subject.store
    assert store.capabilities.thin_pools == (subject.pool is not None)
    if subject.pool is None:
        with pytest.raises(Unsupported, match="thin pool"):
            store.draft("x.img", SIZE, thin="pool")
        assert listed(store) == set()
        return
    with store.draft("x.img", SIZE, thin=subject.pool) as draft:
        assert (draft.size, draft.allocated) == (rounded(store), 0)
        draft.publish(overwrite=False)
    found = store.find("x.img")
    assert found
    assert found.type == "lvm-thin"


def test_an_image_gets_another_name_with_all_that_belongs_to_it(subject: Subject) -> None:
    store = subject.store
    require_several(store)
    make(store)
    noted = store.note_losses("x.img", "gpt:1")
    if subject.snapshots:
        store.snapshot("x.img", store.snapshot_name("x.img", "s.img"), None)
    store.rename("x.img", "y.img")
    assert state(store) is None
    assert state(store, "y.img") == "complete"
    assert contents(store, "y.img") == padded(store)
    assert store.losses("y.img") == ("gpt:1" if noted else "")
    if subject.snapshots:
        assert contents(store, store.snapshot_name("y.img", "s.img")) == padded(store)
    assert store.interrupted() == []
    with closing(subject.again()) as other:
        assert listed(other) == listed(store)


def test_a_renamed_image_replaces_nothing(store: Store) -> None:
    require_several(store)
    make(store)
    make(store, "y.img", b"another")
    with pytest.raises(FileExistsError):
        store.rename("x.img", "y.img")
    assert listed(store) == {("x.img", "complete"), ("y.img", "complete")}
    assert contents(store) == padded(store)
    assert contents(store, "y.img") == padded(store, b"another")


def test_what_is_missing_or_partial_gets_no_other_name(store: Store) -> None:
    require_several(store)
    store.draft("p.img", SIZE).close()
    for name in ("p.img", "no.img"):
        with pytest.raises(NotFound):
            store.rename(name, "y.img")
    assert listed(store) == {("p.img", "partial")}


def test_a_draft_keeps_the_name_that_it_will_have(store: Store) -> None:
    require_several(store)
    make(store)
    store.draft("x.img", SIZE).close()
    store.rename("x.img", "y.img")
    assert listed(store) == {("y.img", "complete"), ("x.img", "partial")}


def test_where_old_data_may_show_is_known_under_the_new_name(store: Store) -> None:
    require_several(store)
    make(store)
    with suppress(Stopped):
        store.grow("x.img", 3 * SIZE, in_use=True, between=stop)
    start = store.unzeroed("x.img")
    store.rename("x.img", "y.img")
    assert store.unzeroed("y.img") == start


def test_only_what_is_partial_is_opened_as_such(store: Store) -> None:
    make(store)
    store.draft("y.img", SIZE).close()
    for name, partial in (("x.img", True), ("y.img", False), ("no.img", True)):
        with pytest.raises(NotFound):
            store.open(name, partial=partial)
    assert contents(store) == padded(store)
