"""Whatever is asked for, in whatever order: no file is ever lost, and what is refused changes
nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.tools.ext_images import MIB, TORTURE, new_tree
from tests.tools.resize_images import (
    GPT,
    Made,
    check,
    configuration,
    make_filesystem,
    make_image,
    new_root,
)

import virtstore
from virtstore.model import Changed

#: Below any minimum, about it, and above; whole MiB and anything else.
sizes = st.one_of(
    st.integers(1, 64).map(lambda n: n * MIB),
    st.integers(3 * MIB, 12 * MIB),
    st.integers(1, 1 << 26),
)
steps = st.one_of(
    st.tuples(st.just("resize"), st.one_of(sizes, st.just("minimum"))),
    st.tuples(st.just("growfs"), st.one_of(st.none(), sizes)),
    st.tuples(st.just("shrinkfs"), st.one_of(sizes, st.just("minimum"))),
)  # fmt: skip


@pytest.fixture(scope="module")
def made() -> Iterator[tuple[Made, bytes, virtstore.Host]]:
    """An image, what it is to begin with, and who has it."""
    with new_root() as root, new_tree(200) as tree:
        source = root.with_name("ext4")
        contents = make_filesystem(source, "ext4", tree)
        made = make_image(root / "x.img", GPT, "ext4", source, contents)
        with virtstore.connect(config=str(configuration(root))) as host:
            yield made, made.path.read_bytes(), host


def take(step: tuple[str, object], image: virtstore.Image) -> Changed:
    name, size = step
    changed: Changed = getattr(image, name)(size)
    return changed


@settings(
    max_examples=60 if TORTURE else 6,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(taken=st.lists(steps, min_size=1, max_size=5))
def test_no_sequence_of_resizes_loses_a_file_and_refusals_change_nothing(
    made: tuple[Made, bytes, virtstore.Host], taken: list[tuple[str, object]]
) -> None:
    image, begin, host = made
    image.path.write_bytes(begin)
    for step in taken:
        before = image.fingerprint
        try:
            told = take(step, host.image(str(image.path)))
        except (virtstore.Unsafe, virtstore.UsageError):
            assert image.fingerprint == before
        else:
            assert told.size == image.path.stat().st_size
            assert told.changed == (image.fingerprint != before)
            check(image)
