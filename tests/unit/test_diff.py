"""`diff` believes no host: what one claims costs nothing, and what is missing is missed."""

from __future__ import annotations

import tracemalloc
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtstore.client.answers import Untrue
from virtstore.client.connection import Connection
from virtstore.client.diff import GRANULARITY, compare
from virtstore.digest import CHUNK, DIGEST_SIZE, chunk_digest, zero_digest
from virtstore.errors import ConnectionFailed, Error, NotFound
from virtstore.model import Difference
from virtstore.protocol import AnyMessage, Begin, Digests, End, Frame, HashImage, Start

Answer = list[Frame | Exception]

ONE, TWO = chunk_digest(b"one"), chunk_digest(b"two")
END = End(""), b""


class Host:
    """A host that gives these answers, one for each request, whatever it is asked."""

    def __init__(self, *answers: Answer, name: str = "a") -> None:
        self.name = name
        self.asked: list[HashImage] = []
        self.ended = False
        self._answers = list(answers)
        self._now: Answer = []

    def send(self, message: AnyMessage, payload: bytes = b"") -> None:
        assert isinstance(message, HashImage)
        self.asked.append(message)
        self._now = list(self._answers.pop(0))

    def end(self) -> None:
        self.ended = True

    def receive(self) -> Frame:
        said = self._now.pop(0)
        if isinstance(said, Exception):
            raise said
        return said


def begin(size: int) -> Frame:
    return Begin("/x", size), b""


def digests(zeros: int, told: bytes = b"") -> Frame:
    return Digests(zeros), told


def diff(one: Host, other: Host) -> Difference:
    connections = cast(Connection, one), cast(Connection, other)
    return compare(connections[0], "/x", connections[1], "/x", lambda done, size: None)


def test_what_a_host_only_claims_takes_no_memory() -> None:
    claim: Answer = [begin(1 << 62), digests(1 << 42), END]
    tracemalloc.start()
    try:
        found = diff(Host(claim), Host([begin(CHUNK), digests(0, zero_digest()), END]))
        assert (found.size, found.different) == (1 << 62, (1 << 62) - CHUNK)
        assert diff(Host(claim), Host(claim)).different == 0
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=8))
def test_runs_of_zeros_are_compared_like_the_digests_of_zeros(runs: list[tuple[int, int]]) -> None:
    spelt_out = b"".join(zero_digest() * zeros + ONE * data for zeros, data in runs)
    size = len(spelt_out) // DIGEST_SIZE * CHUNK
    told: Answer = [digests(zeros, ONE * data) for zeros, data in runs]
    other = Host([begin(size), digests(0, spelt_out), END])
    assert diff(Host([begin(size), *told, END]), other).different == 0
    assert len(other.asked) == 1


def test_of_chunks_that_differ_the_blocks_are_compared() -> None:
    size = 6 * CHUNK
    one = Host(
        [begin(size), digests(2, ONE), digests(3), END],
        [begin(size), digests(255, ONE), digests(255, ONE), END],
    )
    other = Host(
        [begin(size), digests(2, TWO + TWO), digests(2), END],
        [begin(size), digests(255, TWO), digests(256), END],
    )
    assert diff(one, other).different == 2 * GRANULARITY
    assert one.asked[1].chunks == other.asked[1].chunks == (2, 3)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ([begin(3 * CHUNK), digests(2), END], "fewer digests"),
        ([begin(3 * CHUNK), END], "fewer digests"),
        ([END], "a End came"),
        ([digests(1), END], "a Digests came"),
        ([begin(3 * CHUNK), digests(3), (Start(False), b"")], "a Start came"),
        ([begin(3 * CHUNK), begin(0), END], "a Begin came"),
        ([begin(3 * CHUNK), digests(4), END], "more digests"),
        ([begin(3 * CHUNK), digests(2, ONE + ONE), END], "more digests"),
        ([begin(3 * CHUNK), digests(4), digests(-1), END], "more digests"),
        ([begin(3 * CHUNK), digests(-1, ONE * 4), END], "a row of digests"),
        ([begin(3 * CHUNK), digests(2, ONE + b"x"), END], "a row of digests"),
        ([begin(-1), END], "a Begin with -1"),
        ([begin(1 << 63), END], "a Begin with 9223372036854775808"),
        ([(Begin("/other", CHUNK), b""), END], "/x is /other"),
    ],
)
@pytest.mark.parametrize("beside", [False, True])
def test_an_answer_that_is_none_is_never_compared(
    answer: Answer, complaint: str, beside: bool
) -> None:
    liar, honest = Host(answer, name="liar"), Host([begin(3 * CHUNK), digests(3), END])
    with pytest.raises((ConnectionFailed, Untrue), match=complaint) as caught:
        diff(honest, liar) if beside else diff(liar, honest)
    assert caught.value.host == "liar"
    assert honest.ended, "nobody waits for what the other one hashes"


def test_blocks_of_a_chunk_that_are_missing_are_missed() -> None:
    one = Host([begin(CHUNK), digests(0, ONE), END], [begin(CHUNK), digests(255), END])
    other = Host([begin(CHUNK), digests(0, TWO), END], [begin(CHUNK), digests(256), END])
    with pytest.raises(Untrue, match="fewer digests"):
        diff(one, other)


def test_an_image_that_grows_meanwhile_is_told_as_such() -> None:
    one = Host([begin(CHUNK), digests(0, ONE), END], [begin(2 * CHUNK), digests(256), END])
    other = Host([begin(CHUNK), digests(0, TWO), END], [begin(CHUNK), digests(256), END])
    with pytest.raises(Error, match="a:/x: its size changed meanwhile"):
        diff(one, other)


@pytest.mark.parametrize("failure", [MemoryError(), ValueError("odd"), NotFound("no such image")])
@pytest.mark.parametrize("beside", [False, True])
def test_whatever_fails_on_either_side_is_raised(failure: Exception, beside: bool) -> None:
    failing = Host([begin(CHUNK), failure])
    good = Host([begin(CHUNK), digests(1), END])
    with pytest.raises(type(failure)):
        diff(good, failing) if beside else diff(failing, good)
