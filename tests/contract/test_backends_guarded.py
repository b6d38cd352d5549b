"""The contract of every store: a guarded change that fails is undone, or it is known how far what
it left reaches; and whoever has the lock next finishes or undoes what was interrupted."""

from __future__ import annotations

from contextlib import closing

import pytest

from virtstore.backends.base import Store
from virtstore.errors import LeftRunning, NotFound

from .stores import DATA, SIZE, Stopped, Subject, contents, listed, make, padded, state

#: What an image holds that is changed, and where that ends.
THIS, END = "ext4 of this UUID", 5000
MOVED = b"moved" + DATA[5:]


def change(store: Store, raised: Exception | None = None) -> None:
    """The first bytes, guarded; and then it fails."""
    with store.guarded("x.img", END, THIS) as name:
        with store.open(name, writable=True) as image:
            assert image.read_at(0, len(DATA)) == DATA
            image.write_at(0, b"moved")
            image.flush()
        if raised:
            raise raised


def left(store: Store) -> int:
    return store.remnants("x.img", THIS)


def test_a_guarded_change_that_is_whole_stays(subject: Subject) -> None:
    store = subject.store
    make(store)
    assert left(store) == 0
    change(store)
    assert listed(store) == {("x.img", "complete")}
    assert contents(store) == padded(store, MOVED)
    assert left(store) in (0, END)


def test_a_guarded_change_that_fails_is_undone_or_its_remnants_are_known(subject: Subject) -> None:
    store = subject.store
    make(store)
    with pytest.raises(Stopped):
        change(store, Stopped())
    assert listed(store) == {("x.img", "complete")}
    _require_undone_or_known(subject, store)


def test_a_change_that_a_tool_goes_on_with_is_ended_by_whoever_has_the_lock_next(
    subject: Subject,
) -> None:
    store = subject.store
    make(store)
    with pytest.raises(LeftRunning):
        change(store, LeftRunning("it takes too long"))
    with closing(subject.again()) as other:
        for name in other.interrupted():
            assert name == "x.img"
            assert other.is_interrupted(name)
            assert not other.is_interrupted("y.img")
            other.mend(name)
        assert other.interrupted() == []
        assert not other.is_interrupted("x.img")
        assert listed(other) == {("x.img", "complete")}
        _require_undone_or_known(subject, other)


def _require_undone_or_known(subject: Subject, store: Store) -> None:
    undone = contents(store) == padded(store)
    assert undone or contents(store) == padded(store, MOVED)
    assert left(store) == (0 if undone or not subject.marks else END)
    assert store.remnants("x.img", "ntfs of another") == 0


def test_remnants_are_forgotten_for_good(subject: Subject) -> None:
    store = subject.store
    make(store)
    with pytest.raises(Stopped):
        change(store, Stopped())
    for _ in range(2):
        store.forget_remnants("x.img")
        with closing(subject.again()) as other:
            assert left(store) == left(other) == 0


def test_the_remnants_of_a_change_reach_as_far_as_those_of_an_earlier_one(store: Store) -> None:
    make(store)
    for end in (END, END - 1000):
        before = left(store)
        with pytest.raises(Stopped), store.guarded("x.img", end, THIS):
            raise Stopped
        assert left(store) >= before


def test_contents_that_replace_others_have_no_remnants(store: Store) -> None:
    make(store)
    with pytest.raises(Stopped), store.guarded("x.img", END, THIS):
        raise Stopped
    with store.rework("x.img") as draft:
        draft.write_at(0, b"others")
        draft.publish(overwrite=False)
    assert left(store) == 0


def test_what_is_as_it_should_be_is_not_interrupted_and_mending_it_changes_nothing(
    store: Store,
) -> None:
    make(store)
    make(store, "y.img")
    with store.rework("y.img") as draft:
        draft.write_at(0, b"half")
    store.draft("z.img", SIZE).close()
    assert store.interrupted() == []
    before = {name: (state(store, name)) for name in ("x.img", "y.img", "z.img", "no.img")}
    for name in before:
        store.mend(name)
    assert {name: state(store, name) for name in before} == before
    assert contents(store) == padded(store)
    assert contents(store, "y.img", partial=True) == padded(store, b"half" + DATA[4:])


def test_of_what_does_not_exist_nothing_is_guarded(store: Store) -> None:
    before = listed(store)
    with pytest.raises(NotFound), store.guarded("no.img", END, THIS):
        pytest.fail("it was entered")
    assert listed(store) == before
