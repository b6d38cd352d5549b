"""How long the parts of an upload are."""

from __future__ import annotations

from virtstore.backends.bucket import parts

_TIB = 1 << 40


def test_ten_thousand_parts_hold_the_largest_archive() -> None:
    assert sum(parts.length_of(number) for number in range(1, parts.MOST + 1)) > 2 * _TIB


def test_no_part_is_shorter_than_a_server_takes_or_longer_than_it_does() -> None:
    for number in range(1, parts.MOST + 1):
        assert parts.LEAST <= parts.least_of(number) <= parts.length_of(number) <= 5 << 30


def test_parts_never_become_shorter() -> None:
    lengths = [parts.length_of(number) for number in range(1, parts.MOST + 1)]
    assert lengths == sorted(lengths)


def test_what_is_kept_in_memory_fits() -> None:
    """Two at once: one is filled while another is sent."""
    assert 2 * parts.IN_MEMORY <= 128 << 20
