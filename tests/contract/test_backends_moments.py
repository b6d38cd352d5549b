"""The contract of stores that keep moments: what has changed since one is told without reading, and
never less than has changed."""

from __future__ import annotations

import pytest

from virtstore.backends.base import Changed, Moment, Store
from virtstore.digest import CHUNK
from virtstore.errors import InUse, NotFound, Unsupported

from .stores import SIZE, contents, listed, make, padded, rounded

_FIRST, _SECOND, _THIRD = "kept-a-1", "kept-a-2", "kept-b-3"


def kept(store: Store, name: str, beginning: str = "kept-a-") -> bytes:
    """Keep this moment of the image. Returns what it holds."""
    with store.moment("x.img") as moment:
        moment.keep(name, beginning)
        return moment.read_at(0, moment.size)


def since(moment: Moment, name: str) -> Changed:
    changed = moment.changed_since(name)
    assert changed
    return changed


def test_a_store_that_keeps_no_moments_says_so_and_leaves_no_trace(store: Store) -> None:
    if store.capabilities.keeps_moments:
        return
    make(store)
    before = listed(store)
    with pytest.raises(Unsupported, match="--keep-snapshot"):
        store.moment("x.img")
    assert listed(store) == before


def test_a_moment_that_is_not_kept_leaves_no_trace(store: Store) -> None:
    if not store.capabilities.keeps_moments:
        return
    make(store)
    before = listed(store)
    with store.moment("x.img") as moment, store.open("x.img", writable=True) as image:
        image.write_at(0, b"later")
        assert moment.read_at(0, moment.size) == padded(store)
    assert listed(store) == before
    with pytest.raises(NotFound):
        store.moment("y.img")
    store.remove("x.img")


def test_what_has_changed_since_a_moment_that_was_kept_is_told_and_little_else(
    store: Store,
) -> None:
    if not store.capabilities.keeps_moments:
        return
    make(store)
    with store.open("x.img", writable=True) as image:
        image.write_at(image.size - 10, b"here")  # where a store holds nothing, it knows less
    old = kept(store, _FIRST)
    with store.open("x.img", writable=True) as image:
        image.write_at(CHUNK - 2, b"changed")
        image.zero(5000, 600)
    with store.moment("x.img") as moment:
        changed = since(moment, _FIRST)
        now = moment.read_at(0, moment.size)
    assert changed.size == len(old)
    told = bytearray(len(old))
    for offset, length in changed.ranges:
        told[offset : offset + length] = b"\1" * length
    differing = [at for at in range(len(old)) if old[at] != now[at]]
    assert all(told[at] for at in differing)
    assert list(changed.ranges) == sorted(changed.ranges)
    assert told.count(1) < len(old) // 2


def test_an_image_that_is_made_longer_or_shorter_is_told_with_the_size_that_it_had(
    store: Store,
) -> None:
    if not store.capabilities.keeps_moments:
        return
    make(store)
    kept(store, _FIRST)
    store.grow("x.img", 3 * SIZE)
    with store.moment("x.img") as moment:
        assert since(moment, _FIRST).size == len(padded(store))
        assert moment.size == store.rounded(3 * SIZE)


def test_what_was_cut_off_and_is_zeros_now_has_changed(store: Store) -> None:
    if not store.capabilities.keeps_moments:
        return
    make(store)
    kept(store, _FIRST)
    store.shrink("x.img", 5000)
    store.grow("x.img", SIZE)
    with store.moment("x.img") as moment:
        ranges = since(moment, _FIRST).ranges
        last = len(padded(store).rstrip(b"\0"))
        for at in (rounded(store, 5000), last - 1):
            assert any(offset <= at < offset + length for offset, length in ranges)


def test_nothing_is_known_since_a_moment_that_was_not_kept_or_of_another_image(
    store: Store,
) -> None:
    if not store.capabilities.keeps_moments:
        return
    make(store)
    kept(store, _FIRST)
    make(store, "y.img")
    with store.moment("x.img") as one, store.moment("y.img") as other:
        assert one.changed_since(_SECOND) is None
        assert other.changed_since(_FIRST) is None
    store.remove("x.img", with_snapshots=True)
    make(store)
    with store.moment("x.img") as moment:
        assert moment.changed_since(_FIRST) is None


def test_the_moment_that_is_kept_last_takes_the_place_of_those_like_it(store: Store) -> None:
    if not store.capabilities.keeps_moments:
        return
    make(store)
    kept(store, _THIRD, "kept-b-")
    kept(store, _FIRST)
    with store.open("x.img", writable=True) as image:
        image.write_at(0, b"later")
    kept(store, _SECOND)
    with store.moment("x.img") as moment:
        assert moment.changed_since(_FIRST) is None
        assert since(moment, _THIRD).ranges
        assert since(moment, _SECOND).ranges == ()


def test_a_moment_that_was_kept_already_stays(store: Store) -> None:
    if not store.capabilities.keeps_moments:
        return
    make(store)
    kept(store, _FIRST)
    kept(store, _FIRST)
    with store.moment("x.img") as moment:
        assert since(moment, _FIRST).ranges == ()


def test_an_image_with_a_moment_that_was_kept_goes_only_with_it(store: Store) -> None:
    if not store.capabilities.keeps_moments:
        return
    make(store)
    kept(store, _FIRST)
    with pytest.raises(InUse):
        store.remove("x.img")
    assert contents(store) == padded(store)
    store.remove("x.img", with_snapshots=True)
    assert listed(store) == set()


def test_the_moments_that_were_kept_of_an_image_go_where_it_goes(store: Store) -> None:
    if not store.capabilities.keeps_moments:
        return
    make(store)
    kept(store, _FIRST)
    store.rename("x.img", "y.img")
    with store.moment("y.img") as moment:
        assert since(moment, _FIRST).ranges == ()
