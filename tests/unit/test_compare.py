"""Fingerprints of what a target has: waited for, believed only as far as they go."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contract.memory import Memory

from virtstore.digest import (
    BLOCK,
    CHUNK,
    DIGEST_SIZE,
    FINGERPRINT_SIZE,
    chunk_digest,
    fingerprint,
    zero_digest,
    zero_fingerprint,
)
from virtstore.errors import Corrupt, Interrupted
from virtstore.transfer.fingerprints import MOST_AT_ONCE, WINDOW, Fingerprints, differing_blocks
from virtstore.transfer.hashing import check, survey
from virtstore.transfer.sources import RawSource

ONE, TWO = fingerprint(b"one"), fingerprint(b"two")


def test_fingerprints_are_found_by_their_chunks_number() -> None:
    digests = Fingerprints(4 * CHUNK)
    digests.add(ONE, zeros=2)
    digests.add(TWO)
    assert [digests.get(n) for n in range(4)] == [zero_fingerprint(), zero_fingerprint(), ONE, TWO]


def test_whoever_asks_early_waits() -> None:
    digests = Fingerprints(2 * CHUNK)
    threading.Timer(0.05, digests.add, (ONE + TWO,)).start()
    assert digests.get(1) == TWO


def test_whoever_waits_in_vain_is_told_why() -> None:
    digests = Fingerprints(2 * CHUNK)
    digests.add(ONE)
    threading.Timer(0.05, digests.close, (OSError(5, "Input/output error"),)).start()
    with pytest.raises(OSError, match="Input/output error"):
        digests.get(1)
    assert digests.get(0) == ONE  # what is known stays known


def test_a_comparison_that_was_cut_short_is_an_interruption() -> None:
    digests = Fingerprints(CHUNK)
    digests.close()
    with pytest.raises(Interrupted):
        digests.get(0)


@pytest.mark.parametrize("added", [(ONE * 3, 0), (b"", 3), (ONE, 2), (ONE[:-1], 0), (b"x", 1)])
def test_more_fingerprints_than_chunks_are_refused(added: tuple[bytes, int]) -> None:
    with pytest.raises(ValueError, match="more fingerprints than chunks"):
        Fingerprints(CHUNK + 1).add(*added)


def test_behind_what_was_told_there_is_nothing() -> None:
    digests = Fingerprints(3 * CHUNK)
    digests.add(ONE)
    threading.Timer(0.05, digests.finish).start()
    assert [digests.get(2), digests.get(0), digests.get(1)] == [b"", ONE, b""]
    assert not digests.all_zero(1, 2)


def test_a_window_is_all_that_is_held() -> None:
    digests = Fingerprints((3 * WINDOW) * CHUNK)
    digests.add(ONE * WINDOW)
    waited = threading.Thread(target=digests.wait_for_room)
    waited.start()
    waited.join(0.05)
    assert waited.is_alive()
    digests.forget(1)
    waited.join(5)
    assert not waited.is_alive()
    with pytest.raises(ValueError, match="forgotten"):
        digests.get(0)
    with pytest.raises(ValueError, match="too early"):
        digests.add(ONE * (WINDOW + 2))


def test_whoever_looks_ahead_waits_for_nobody_once_the_copy_is_over() -> None:
    digests = Fingerprints(2 * WINDOW * CHUNK)
    digests.add(ONE * WINDOW)
    threading.Timer(0.05, digests.close).start()
    digests.wait_for_room()
    with pytest.raises(Interrupted):
        digests.add(ONE)


def test_a_window_holds_what_all_threads_may_ask_for_at_once() -> None:
    assert 16 * MOST_AT_ONCE < WINDOW


@pytest.mark.parametrize("length", [CHUNK, CHUNK - 1, BLOCK, 1])
def test_the_blocks_that_differ_are_told(length: int) -> None:
    old = bytearray(b"x" * length)
    there = fingerprint(old)
    assert len(there) == FINGERPRINT_SIZE
    assert differing_blocks(old, there) == ()
    last = (length - 1) // BLOCK
    old[-1] ^= 1
    assert differing_blocks(old, there) == (last,)
    old[0] ^= 2
    assert differing_blocks(old, there) == tuple(sorted({0, last}))


def test_a_run_is_zero_only_if_each_chunk_of_it_is() -> None:
    digests = Fingerprints(4 * CHUNK)
    digests.add(ONE, zeros=2)
    digests.add(b"", zeros=1)
    found = [digests.all_zero(first, count) for first, count in ((0, 2), (0, 3), (3, 1), (1, 0))]
    assert found == [True, False, True, True]


@settings(max_examples=25)
@given(st.lists(st.sampled_from([b"", b"a", b"b"]), min_size=1, max_size=6), st.integers(1, CHUNK))
def test_a_survey_tells_every_chunk_of_an_image(marks: list[bytes], last: int) -> None:
    chunks = [mark.ljust(CHUNK, b"\0") for mark in marks]
    chunks[-1] = chunks[-1][:last]
    store = Memory()
    with store.draft("x", sum(map(len, chunks))) as draft:
        draft.write_at(0, b"".join(chunks))
        found = b"".join(
            zero_digest() * zeros + digests
            for zeros, digests in survey(RawSource(draft, draft.size))
        )
    assert found == b"".join(map(chunk_digest, chunks))


def test_a_survey_of_some_chunks_in_blocks_tells_those_only() -> None:
    store = Memory()
    with store.draft("x", 3 * CHUNK - 100) as draft:
        draft.write_at(2 * CHUNK + 5000, b"here")
        source = RawSource(draft, draft.size)
        batches = list(survey(source, 4096, frozenset({2})))
        wanted = draft.read_at(2 * CHUNK, CHUNK)
    found = b"".join(zero_digest(4096) * zeros + digests for zeros, digests in batches)
    assert len(found) == 256 * DIGEST_SIZE
    assert found[:DIGEST_SIZE] == zero_digest(4096)
    assert found[DIGEST_SIZE : 2 * DIGEST_SIZE] == chunk_digest(wanted[4096:8192])
    assert found[-DIGEST_SIZE:] == zero_digest(4096 - 100)


def test_a_claimed_digest_that_is_not_the_contents_is_corrupt() -> None:
    store = Memory()
    with store.draft("x", CHUNK) as draft:
        source = RawSource(draft, CHUNK)
        digest = check(source, lambda done, total: None)
        source.digest = digest
        assert check(source, lambda done, total: None) == digest
        draft.write_at(7, b"!")
        with pytest.raises(Corrupt, match="not those that its digest was made of"):
            check(source, lambda done, total: None)
