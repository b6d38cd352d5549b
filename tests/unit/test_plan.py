"""Plans: an image is covered to its last byte, and only what is zero is taken for zero."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtstore.digest import CHUNK
from virtstore.model import Extent, ExtentKind
from virtstore.transfer.plan import steps

KINDS = st.sampled_from(["data", "zero", "unknown"])
LENGTHS = st.one_of(
    st.integers(1, 3 * CHUNK), st.sampled_from([1, 4096, CHUNK - 1, CHUNK, CHUNK + 1, 500 * CHUNK])
)


@st.composite
def images(draw: st.DrawFn) -> list[Extent]:
    """Extents as a backend tells them: in order and without gaps."""
    runs = draw(st.lists(st.tuples(LENGTHS, KINDS), min_size=1, max_size=12))
    starts = accumulate((length for length, _ in runs), initial=0)
    return [_extent(start, *run) for start, run in zip(starts, runs, strict=False)]


def _extent(start: int, length: int, kind: str) -> Extent:
    known: dict[str, ExtentKind] = {"data": "data", "zero": "zero", "unknown": "unknown"}
    return Extent(start, length, known[kind])


@given(images())
def test_a_plan_covers_the_image_exactly(extents: list[Extent]) -> None:
    size, position = extents[-1].end, 0
    for step in steps(extents, size):
        assert step.offset == position
        assert step.length > 0
        position = step.end
    assert position == size


@given(images())
def test_nothing_is_taken_for_zeros_that_may_not_be(extents: list[Extent]) -> None:
    zeros = [step for step in steps(extents, extents[-1].end) if step.kind == "zero"]
    for extent in extents:
        if extent.kind != "zero":
            assert all(z.end <= extent.offset or extent.end <= z.offset for z in zeros)


@given(images())
def test_steps_lie_on_chunk_boundaries_and_zeros_are_told_once(extents: list[Extent]) -> None:
    size = extents[-1].end
    found = list(steps(extents, size))
    assert all(step.offset % CHUNK == 0 for step in found)
    assert all(step.end % CHUNK == 0 or step.end == size for step in found)
    assert all(step.length <= CHUNK for step in found if step.kind != "zero")
    kinds = [step.kind for step in found]
    assert not any(a == b == "zero" for a, b in pairwise(kinds))


@given(images())
def test_a_chunk_that_is_all_zeros_is_never_looked_at(extents: list[Extent]) -> None:
    size = extents[-1].end
    data = [e for e in extents if e.kind != "zero"]
    for step in steps(extents, size):
        if step.kind != "zero":
            assert any(e.offset < step.end and step.offset < e.end for e in data)


@given(images(), st.data())
def test_only_the_beginning_of_a_larger_image_is_planned(
    extents: list[Extent], data: st.DataObject
) -> None:
    size = data.draw(st.integers(1, extents[-1].end))
    inside = [e for e in extents if e.offset < size]
    found = list(steps(inside, size))
    assert sum(step.length for step in found) == size
    assert found[-1].end == size


def test_the_cost_follows_the_data_and_not_the_size() -> None:
    size = 1 << 60
    extents = [Extent(0, 1, "data"), Extent(1, size - 2, "zero"), Extent(size - 1, 1, "data")]
    assert list(steps(extents, size)) == [
        Extent(0, CHUNK, "unknown"),
        Extent(CHUNK, size - 2 * CHUNK, "zero"),
        Extent(size - CHUNK, CHUNK, "unknown"),
    ]


@pytest.mark.parametrize("size", [1, CHUNK, CHUNK + 1, 1 << 50])
def test_an_image_without_any_data_is_one_step(size: int) -> None:
    assert list(steps([Extent(0, size, "zero")], size)) == [Extent(0, size, "zero")]
    assert list(steps([], size)) == [Extent(0, size, "zero")]
