"""The contract of every store: a name may say that an object is a container, and then the disk in
it is the image; a store that knows no containers has none, whatever a name says."""

from __future__ import annotations

import os

import pytest

from virtstore.backends.base import Store
from virtstore.errors import Error

from .stores import DATA, SIZE, make, rounded

#: Behind the first cluster.
_THERE = 70_000


def test_what_is_no_container_is_its_own_image(store: Store) -> None:
    make(store)
    assert store.container_of("x.img") is None
    assert store.overlays("x.img") == ()
    with store.open("x.img") as image, store.open("x.img", stored=True) as itself:
        assert image.container is None
        assert all(os.fstat(fd) for fd in image.keeps)
        assert (itself.identity, itself.size) == (image.identity, image.size)


@pytest.mark.parametrize("preallocate", [False, True])
def test_an_image_that_is_called_a_container_holds_what_was_written(
    store: Store, preallocate: bool
) -> None:
    with store.draft("x.qcow2", SIZE, preallocate=preallocate) as draft:
        if draft.holds != "zeros":
            draft.zero(0, draft.size)
        draft.write_at(_THERE, DATA[:999])
        draft.publish(overwrite=False)
    with store.open("x.qcow2") as image:
        assert image.container == store.container_of("x.qcow2")
        assert SIZE <= image.size <= max(rounded(store, SIZE), SIZE + 511)
        assert image.read_at(_THERE, 999) == DATA[:999]
        assert not any(image.read_at(0, _THERE))


def test_the_bytes_of_a_container_can_be_stored_as_they_are(store: Store) -> None:
    with store.draft("x.qcow2", SIZE, stored=True) as draft:
        draft.write_at(0, DATA)
        draft.publish(overwrite=False)
    with store.open("x.qcow2", stored=True) as image:
        assert image.read_at(0, len(DATA)) == DATA
        assert image.container is None


def test_an_overlay_over_nothing_is_not_made(store: Store) -> None:
    with pytest.raises(Error):
        store.overlay("x.qcow2", SIZE, "/nowhere/golden.img", None).close()
    assert store.find("x.qcow2") is None
