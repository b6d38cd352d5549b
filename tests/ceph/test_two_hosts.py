"""Two hosts, which have no locks in common, do something to one name of a pool at the same time:
one of them does it, the other is told, and no image is lost or mixed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Final

import pytest

import virtstore
from tests.tools.ext_images import MIB, TORTURE

from . import place
from .place import VMS, Place, noise

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has hosts' locks of its own")

_ROUNDS: Final = 30 if TORTURE else 3
_SIZE: Final = 5 * MIB
FIRST: Final = noise(_SIZE, 1)
SECOND: Final = noise(_SIZE, 2)


@pytest.fixture
def two(here: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[virtstore.Host, ...]]:
    """Sessions with two hosts, which have their locks each for itself."""
    monkeypatch.setenv("VIRTSTORE_AGENT", place.agent_of_another_host(here.config))
    here.file("first.img", FIRST)
    here.file("second.img", SECOND)
    with ExitStack() as stack:
        yield tuple(stack.enter_context(virtstore.connect("local:")) for _ in range(2))


def at_once(*acts: Callable[[], object]) -> list[virtstore.Error | None]:
    """What became of each: None where it was done."""
    outcomes: list[virtstore.Error | None] = [None] * len(acts)
    gate = threading.Barrier(len(acts))

    def run(number: int) -> None:
        gate.wait()
        try:
            acts[number]()
        except virtstore.Error as error:
            outcomes[number] = error

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def assert_told(*outcomes: virtstore.Error | None) -> None:
    """Whoever did not do it was told that the name is taken, in use, or gone."""
    for error in outcomes:
        if error:
            assert isinstance(error, virtstore.Exists | virtstore.InUse | virtstore.NotFound), error


def settled(here: Place, host: virtstore.Host) -> None:
    """What was left half-done is gone."""
    host.list(VMS)
    host.clean(VMS)
    assert not [each for each in here.names() if here.marks(each)]


def test_of_two_that_create_an_image_one_makes_it(
    here: Place, two: tuple[virtstore.Host, virtstore.Host]
) -> None:
    for _ in range(_ROUNDS):
        outcomes = at_once(*(partial(host.create, f"{VMS}/x", _SIZE) for host in two))
        assert_told(*outcomes)
        settled(here, two[0])
        if None not in outcomes:
            assert here.names() == []
            continue
        assert outcomes.count(None) == 1
        assert (here.names(), here.contents("x")) == (["x"], bytes(_SIZE))
        two[0].image(f"{VMS}/x").delete()


@pytest.mark.parametrize("overwrite", [False, True], ids=["new", "overwrite"])
def test_of_two_copies_to_one_name_each_image_is_whole(
    here: Place, two: tuple[virtstore.Host, virtstore.Host], *, overwrite: bool
) -> None:
    def copy(host: virtstore.Host, name: str) -> None:
        source = host.image(str(here.root / name))
        source.copy(host.image(f"{VMS}/x"), overwrite=overwrite)

    for _ in range(_ROUNDS):
        if overwrite:
            here.image("x", before := noise(_SIZE, 3))
        outcomes = at_once(lambda: copy(two[0], "first.img"), lambda: copy(two[1], "second.img"))
        assert_told(*outcomes)
        settled(here, two[0])
        whole = [each for each, error in zip((FIRST, SECOND), outcomes, strict=True) if not error]
        if not overwrite:
            assert len(whole) < 2, "one replaced the other's, and was not asked to"
        if whole:
            assert here.contents("x") in whole
        else:
            assert here.names() == (["x"] if overwrite else [])
            assert not overwrite or here.contents("x") == before
        assert set(here.names()) <= {"x"}
        here.cluster.empty()


def test_a_rename_and_a_copy_to_the_new_name_lose_neither_image(
    here: Place, two: tuple[virtstore.Host, virtstore.Host]
) -> None:
    def copy() -> None:
        two[1].image(str(here.root / "second.img")).copy(two[1].image(f"{VMS}/y"))

    for _ in range(_ROUNDS):
        x = two[0].image(here.image("x", FIRST))
        renamed, copied = at_once(partial(x.rename, "y"), copy)
        assert_told(renamed, copied)
        settled(here, two[0])
        assert renamed or copied, "both say that they have the name"
        there = {name: here.contents(name) for name in here.names()}
        assert there.get("y" if renamed is None else "x") == FIRST
        if copied is None:
            assert there["y"] == SECOND
        here.cluster.empty()


def test_of_two_renames_one_image_has_one_name(
    here: Place, two: tuple[virtstore.Host, virtstore.Host]
) -> None:
    for _ in range(_ROUNDS):
        path = here.image("x", FIRST)
        outcomes = at_once(
            partial(two[0].image(path).rename, "y"), partial(two[1].image(path).rename, "z")
        )
        assert_told(*outcomes)
        settled(here, two[0])
        (name,) = here.names()
        done = [new for new, error in zip("yz", outcomes, strict=True) if error is None]
        assert [name] == (done or ["x"])
        assert here.contents(name) == FIRST
        here.cluster.empty()
