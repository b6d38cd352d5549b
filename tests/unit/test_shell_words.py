"""Words as a shell reads them, while they are typed."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtstore.cli.shell_words import Unfinished, split


@pytest.mark.parametrize(
    ("line", "before", "word"),
    [
        ("", [], Unfinished("", "")),
        ("virtstore ", ["virtstore"], Unfinished("", "")),
        ("virtstore  in", ["virtstore"], Unfinished("in", "")),
        ("a 'b c", ["a"], Unfinished("b c", "'")),
        ('a "b \\$c', ["a"], Unfinished("b $c", '"')),
        ('a "b \\c', ["a"], Unfinished("b \\c", '"')),
        ("a 'b'\"c\"d\\ e", ["a"], Unfinished("bcd e", "")),
        ("a '' ", ["a", ""], Unfinished("", "")),
    ],
)
def test_a_line_is_read_as_far_as_it_goes(line: str, before: list[str], word: Unfinished) -> None:
    assert split(line) == (before, word)


def test_half_an_escape_is_no_word() -> None:
    with pytest.raises(ValueError, match="backslash"):
        split("a b\\")


@given(st.text(), st.text(), st.sampled_from(["", "'", '"']))
def test_a_word_goes_on_with_what_was_meant(begun: str, rest: str, quote: str) -> None:
    before = f"a {quote}{Unfinished('', quote).continued(begun)}"
    typed = f"{before}{split(before)[1].continued(rest)}"
    assert split(typed) == (["a"], Unfinished(begun + rest, quote))


@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_a_shell_reads_what_was_meant(quote: str) -> None:
    text = "".join(map(chr, range(32, 127))) + "ü "
    line = f"printf %s {quote}{Unfinished('', quote).continued(text)}{quote}"
    assert subprocess.run(["sh", "-c", line], capture_output=True, text=True).stdout == text
