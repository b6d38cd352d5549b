"""The contract of every store: an image that is changed in place has its final name before its
first byte changes and once it is whole again, and none in between."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing

import pytest

from virtstore.backends.base import Image, ImageDraft, Store
from virtstore.errors import InUse, NotFound

from .stores import (
    DATA,
    SIZE,
    Stopped,
    Subject,
    contents,
    kept,
    listed,
    make,
    padded,
    require_several,
    rounded,
    state,
    stop,
)

CHANGES: dict[str, Callable[[ImageDraft], None]] = {
    "write_at": lambda draft: draft.write_at(0, b"half"),
    "zero": lambda draft: draft.zero(0, 4),
}


def refuse(image: Image) -> None:
    stop()


def test_a_reworked_image_has_no_final_name_until_it_is_whole_again(store: Store) -> None:
    make(store)
    at = kept(store)
    changed = DATA[:at] + b"half" + DATA[at + 4 :]
    with store.rework("x.img") as draft:
        assert draft.read_at(0, len(DATA)) == DATA
        draft.write_at(at, b"half")
        assert draft.read_at(0, len(DATA)) == changed
        assert listed(store) == {("x.img", "partial")}
    with store.rework("x.img") as again:  # as after a crash
        assert again.read_at(at, 4) == b"half"
        again.write_at(0, DATA[:at])
        again.publish(overwrite=False)
    assert listed(store) == {("x.img", "complete")}
    assert contents(store) == padded(store, changed)
    with pytest.raises(NotFound):
        store.rework("y.img")


def test_what_is_left_of_an_image_is_told_from_a_draft_and_outlasts_one(store: Store) -> None:
    make(store)
    with store.rework("x.img") as draft:
        draft.write_at(0, b"half")
    make(store, "y.img")
    store.draft("z.img", SIZE).close()
    found = {s.name: (s.state, s.was_image) for s in store.scan()}
    assert found == {
        "x.img": ("partial", "yes"),
        "y.img": ("complete", "no"),
        "z.img": ("partial", "no"),
    }
    store.draft("x.img", SIZE).close()  # of what is to replace it
    assert store.find("x.img") == next(s for s in store.scan() if s.was_image == "yes")
    store.discard("x.img")
    assert contents(store, partial=True) == padded(store, b"half" + DATA[4:])
    store.discard("x.img", was_image=True)
    assert listed(store) == {("y.img", "complete"), ("z.img", "partial")}


def test_what_is_left_of_an_image_goes_once_what_replaces_it_is_there(store: Store) -> None:
    make(store)
    with store.rework("x.img") as draft:
        draft.write_at(0, b"half")
    with store.draft("x.img", SIZE) as draft:
        draft.zero(0, draft.size)
        draft.write_at(0, b"new")
        assert contents(store, partial=True) == padded(store, b"half" + DATA[4:])
        draft.publish(overwrite=True)
    assert listed(store) == {("x.img", "complete")}
    assert contents(store) == padded(store, b"new")


def test_an_image_beside_a_leftover_is_not_reworked_over_it(store: Store) -> None:
    make(store)
    store.draft("x.img", 10).close()
    with pytest.raises(InUse, match="virtstore clean"):
        store.rework("x.img")
    assert listed(store) == {("x.img", "complete"), ("x.img", "partial")}
    assert contents(store).startswith(DATA)


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_called_before_the_first_change_finds_the_image_as_it_was(
    store: Store, change: str
) -> None:
    make(store)
    seen = []

    def before(image: Image) -> None:
        seen.append((state(store), image.size, image.read_at(0, len(DATA)) == DATA))

    with store.rework("x.img", before) as draft:
        assert draft.holds == "kept"
        draft.read_at(0, 1)
        assert seen == []
        CHANGES[change](draft)
        assert listed(store) == {("x.img", "partial")}
        draft.write_at(5, b"more")
        draft.publish(overwrite=False)
    assert seen == [("complete", rounded(store), True)]


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_raised_before_the_first_change_leaves_the_image(store: Store, change: str) -> None:
    make(store)
    with store.rework("x.img", refuse) as draft:
        for _ in range(2):
            with pytest.raises(Stopped):
                CHANGES[change](draft)
        assert listed(store) == {("x.img", "complete")}
    assert contents(store) == padded(store)


@pytest.mark.parametrize("replaced", [True, False])
def test_an_image_that_somebody_renamed_is_not_written_nor_what_has_its_name_now(
    subject: Subject, *, replaced: bool
) -> None:
    store = subject.store
    require_several(store)
    make(store)
    with store.rework("x.img") as draft, closing(subject.again()) as other:
        assert draft.read_at(0, len(DATA)) == DATA
        other.rename("x.img", "y.img")
        if replaced:
            make(other, data=b"another")
        for change in CHANGES.values():
            with pytest.raises(InUse, match="took it away"):
                change(draft)
    store.refresh()
    expected = {("y.img", "complete"), ("x.img", "complete")}
    assert listed(store) == (expected if replaced else {("y.img", "complete")})
    assert contents(store, "y.img") == padded(store)
    if replaced:
        assert contents(store) == padded(store, b"another")


@pytest.mark.parametrize("published", [True, False])
def test_an_image_to_which_nothing_is_written_keeps_its_name(store: Store, published: bool) -> None:
    make(store)
    with store.rework("x.img", refuse) as draft:
        assert draft.read_at(0, len(DATA)) == DATA
        draft.finish()
        if published:
            draft.publish(overwrite=False)
        assert draft.whole == (not published)
        assert listed(store) == {("x.img", "complete")}
    assert listed(store) == {("x.img", "complete")}
    assert contents(store) == padded(store)


def test_what_an_earlier_rework_left_stays_partial_and_is_asked_about_no_more(store: Store) -> None:
    make(store)
    at = kept(store)
    with store.rework("x.img") as draft:
        draft.write_at(at, b"half")
    with store.rework("x.img", refuse) as again:
        assert (again.holds, again.read_at(at, 4)) == ("kept", b"half")
        assert listed(store) == {("x.img", "partial")}
        again.write_at(at + 4, b"more")
    assert listed(store) == {("x.img", "partial")}
    changed = padded(store, DATA[:at] + b"halfmore" + DATA[at + 8 :])
    assert contents(store, partial=True)[at:] == changed[at:]


def test_of_several_threads_one_finds_the_image_as_it_was(store: Store) -> None:
    make(store, data=b"", size=8 * 4096)
    seen = []
    with store.rework("x.img", lambda image: seen.append(state(store))) as draft:
        threads = [
            threading.Thread(target=draft.write_at, args=(n * 4096, bytes([n + 1]) * 4096))
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        draft.publish(overwrite=False)
    assert seen == ["complete"]
    written = b"".join(bytes([n + 1]) * 4096 for n in range(8))
    assert contents(store) == padded(store, written, len(written))


def test_a_draft_that_an_older_version_may_have_left_of_an_image_is_gone_on_with(
    store: Store,
) -> None:
    with store.draft("x.img", SIZE) as draft:
        draft.zero(0, draft.size)
        draft.write_at(0, b"half")
    with store.rework("x.img") as again:
        assert again.read_at(0, 4) == b"half"
        found = store.find("x.img")
        assert found
        assert (found.state, found.was_image) == ("partial", "yes")
        again.publish(overwrite=False)
    assert listed(store) == {("x.img", "complete")}
