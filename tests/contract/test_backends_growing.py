"""The contract of every store: an image that grew is zeros where it is new, and whoever ends that
leaves nobody's old data unnoticed."""

from __future__ import annotations

import pytest

from virtstore.backends.base import Store
from virtstore.digest import CHUNK
from virtstore.errors import NotFound, Unsupported

from .stores import (
    DATA,
    SIZE,
    Stopped,
    Subject,
    contents,
    listed,
    make,
    padded,
    reserved,
    rounded,
    state,
    stop,
)


def test_what_is_grown_is_zeros_wholly_allocated_even_where_data_was_before(store: Store) -> None:
    make(store, data=b"\xff" * rounded(store))
    store.shrink("x.img", 5000)
    left = b"\xff" * rounded(store, 5000)
    assert contents(store) == left
    store.grow("x.img", SIZE)
    assert contents(store) == padded(store, left)
    with store.open("x.img") as image:
        assert image.allocated >= reserved(store)


def test_a_growth_that_is_to_be_sparse_is_zeros_of_which_nothing_is_reserved(
    store: Store, subject: Subject
) -> None:
    make(store)
    if not store.capabilities.sparse:
        with pytest.raises(Unsupported):
            store.grow("x.img", 3 * SIZE, sparse=True)
    else:
        store.grow("x.img", 64 * CHUNK, sparse=True)
        with store.open("x.img") as image:
            assert image.allocated < SIZE + CHUNK or not subject.holes
        assert contents(store) == DATA.ljust(64 * CHUNK, b"\0")
    with store.open("x.img") as image:
        size, before = image.size, image.read_at(0, image.size)
    store.reserve("x.img")
    assert contents(store) == before
    with store.open("x.img") as image:
        assert image.allocated >= reserved(store, size)


def test_growing_to_what_it_has_and_shrinking_to_that_change_nothing(store: Store) -> None:
    make(store)
    for change in (store.grow, store.shrink):
        change("x.img", rounded(store))
        assert contents(store) == padded(store)
        assert listed(store) == {("x.img", "complete")}
    assert store.unzeroed("x.img") is None


def test_a_growth_that_somebody_ends_leaves_the_old_size(store: Store) -> None:
    make(store)
    ended = _grown_until_stopped(store, in_use=False)
    assert listed(store) == {("x.img", "complete")}
    assert store.unzeroed("x.img") is None
    assert contents(store) == padded(store, size=SIZE if ended else 3 * SIZE)
    store.grow("x.img", 3 * SIZE)
    assert contents(store) == padded(store, size=3 * SIZE)


def test_of_a_growth_in_use_that_somebody_ends_it_is_known_what_is_not_zeroed(store: Store) -> None:
    make(store)
    with store.open("x.img") as user:
        ended = _grown_until_stopped(store, in_use=True)
        assert state(store) == "complete"  # whoever uses it goes on
        size = user.size
        start = store.unzeroed("x.img")
        assert rounded(store) <= (size if start is None else start) <= size
        known = padded(store)
        assert user.read_at(0, start or size) == known.ljust(start or size, b"\0")
    assert ended or (start, size) == (None, rounded(store, 3 * SIZE))
    store.grow("x.img", 3 * SIZE)
    assert store.unzeroed("x.img") is None
    assert contents(store) == padded(store, size=3 * SIZE)


def test_what_is_not_zeroed_is_no_more_once_it_is_cut_off(store: Store) -> None:
    make(store)
    _grown_until_stopped(store, in_use=True)
    store.shrink("x.img", SIZE)
    assert store.unzeroed("x.img") is None
    assert contents(store) == padded(store)


def test_an_image_in_use_grows_as_well(store: Store) -> None:
    make(store)
    with store.open("x.img", writable=True) as user:
        store.grow("x.img", 3 * SIZE, in_use=True)
        assert user.size == rounded(store, 3 * SIZE)
        user.write_at(user.size - 3, b"end")
    assert store.unzeroed("x.img") is None
    zeros = rounded(store, 3 * SIZE) - 3
    assert contents(store) == padded(store)[:zeros].ljust(zeros, b"\0") + b"end"


def test_what_does_not_exist_has_nothing_that_is_not_zeroed(store: Store) -> None:
    assert store.unzeroed("no.img") is None
    with pytest.raises(NotFound):
        store.grow("no.img", SIZE)


def _grown_until_stopped(store: Store, *, in_use: bool) -> bool:
    """Whether it was stopped: where new space is zeros at once nobody is asked."""
    try:
        store.grow("x.img", 3 * SIZE, in_use=in_use, between=stop)
    except Stopped:
        return True
    return False
