"""What the next word of a command line may be."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from virtstore.cli.candidates import FOUND, candidates
from virtstore.cli.commands import COMMANDS
from virtstore.cli.pages import page_of

#: What nobody but the user knows.
FREE: Final = frozenset({"NAME", "SIZE", "PATH"})


def texts(line: str) -> list[str]:
    """The candidates for the last word of a line."""
    *before, begun = line.split(" ")
    return [each.text for each in candidates(before, begun)]


@pytest.mark.parametrize("verb", COMMANDS)
def test_it_is_known_what_each_word_of_a_command_may_be(verb: str) -> None:
    """A word that a new command takes has a way of finding it, or is nobody's but the user's."""
    for operand in page_of(verb).operands:
        assert operand.choices or operand.repeated or operand.name in {*FOUND, *FREE}


def test_the_first_word_is_a_command_with_what_it_does() -> None:
    found = candidates([], "")
    assert [each.text for each in found] == list(COMMANDS)
    assert all(each.meaning for each in found)


@pytest.mark.parametrize("verb", COMMANDS)
def test_each_option_of_a_command_is_offered(verb: str) -> None:
    page = page_of(verb)
    long = {n for o in (*page.options, *page.common) for n in o.names if n.startswith("--")}
    assert {*texts(f"{verb} -")} == long | {"--help"}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("-", {"--json", "--config", "--version", "--help"}),
        ("-q --json unc", {"uncompress"}),
        ("--config x unc", {"uncompress"}),
        ("copy --format ", {"zstd", "lz4", "lzop", "gzip", "xz"}),
        ("copy --format=l", {"--format=lz4", "--format=lzop"}),
        ("copy --level ", set()),
        ("copy --archive=", set()),
        ("copy -- --", set()),
        ("grow /x ", set()),
        ("completion ", {"bash", "zsh", "fish"}),
        ("help unc", {"uncompress"}),
        ("no-such-command ", set()),
    ],
)
def test_options_and_their_values_are_offered(line: str, found: set[str]) -> None:
    offered = {*texts(line)}
    assert found <= offered
    assert found or not offered


@pytest.mark.parametrize(
    "line", ["info ", "info /x ", "copy /x ", "copy /x /y ", "copy --level 3 ", "--config "]
)
def test_files_are_offered_where_a_place_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.img").touch()
    (tmp_path / "dir").mkdir()
    (tmp_path / ".hidden").touch()
    for begun in ("", "./", f"{tmp_path}/"):
        offered = texts(f"{line}{begun}")
        assert {f"{begun}x.img", f"{begun}dir/"} <= {*offered}
        assert f"{begun}.hidden" not in offered
        assert texts(f"{line}{begun}.h") == [f"{begun}.hidden"]
