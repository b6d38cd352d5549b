"""What is printed on a terminal fits it; what goes elsewhere is left as it is."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from termios import TIOCSWINSZ
from typing import TextIO

import pytest

from virtstore.cli.terminal import PLAIN, Screen, columns, screen_of, shortened


@contextmanager
def _terminal(width: int) -> Iterator[TextIO]:
    leader, follower = os.openpty()
    ioctl(follower, TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    with os.fdopen(leader, "rb"), os.fdopen(follower, "w") as stream:
        yield stream


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "NO_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def test_a_text_is_as_wide_as_its_terminal_but_for_the_last_column() -> None:
    with _terminal(93) as stream:
        assert screen_of(stream) == Screen(92, colour=True)


@pytest.mark.parametrize(
    ("told", "width"), [("120", 120), ("", 93), ("0", 93), ("-3", 93), ("many", 93), ("²", 93)]
)
def test_columns_says_otherwise(monkeypatch: pytest.MonkeyPatch, told: str, width: int) -> None:
    monkeypatch.setenv("COLUMNS", told)
    with _terminal(93) as stream:
        assert screen_of(stream).width == width - 1


def test_a_terminal_that_does_not_know_its_width_is_taken_to_have_80_columns() -> None:
    with _terminal(0) as stream:
        assert screen_of(stream).width == 79


def test_a_pipe_has_neither_width_nor_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert screen_of(io.StringIO()) == PLAIN


@pytest.mark.parametrize(
    ("variables", "colour"),
    [
        ({}, True),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, True),
        ({"TERM": "dumb"}, False),
        ({"TERM": ""}, False),
        ({"NO_COLOR": "1", "CLICOLOR_FORCE": "1"}, False),
    ],
)
def test_a_terminal_has_colours_unless_its_user_wants_none(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], colour: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with _terminal(80) as stream:
        assert screen_of(stream).colour == colour


@pytest.mark.parametrize(("value", "colour"), [("1", True), ("0", False)])
def test_colours_can_be_forced_into_a_pipe(
    monkeypatch: pytest.MonkeyPatch, value: str, colour: bool
) -> None:
    monkeypatch.setenv("CLICOLOR_FORCE", value)
    assert screen_of(io.StringIO()) == Screen(None, colour)


@pytest.mark.parametrize(
    ("text", "width"), [("web.img", 7), ("日本.img", 8), ("é.img", 5), ("e\u0301.img", 5), ("", 0)]
)
def test_wide_characters_take_two_columns(text: str, width: int) -> None:
    assert columns(text) == width


@pytest.mark.parametrize(
    ("path", "room", "shown"),
    [
        ("/srv/images/web.img", 19, "/srv/images/web.img"),
        ("/srv/images/web.img", 16, "/srv/im…/web.img"),
        ("a:/srv/images/of/customers/web.img", 16, "a:/srv/…/web.img"),
        ("/i/a-very-long-name-of-an-image.img", 16, "/i/…an-image.img"),
        ("/日本/日本日本.img", 15, "/日…本日本.img"),
    ],
)
def test_a_long_path_loses_its_middle(path: str, room: int, shown: str) -> None:
    assert shortened(path, room) == shown
    assert columns(shown) <= room


SENTENCE = "it is in use; stop 'virsh destroy web' first, or say --allow-in-use (at your risk)"


def test_a_sentence_goes_on_below_its_beginning() -> None:
    assert Screen(50).line(SENTENCE, head="virtstore: ", indent=2).split("\n") == [
        "virtstore: it is in use; stop 'virsh destroy web'",
        "  first, or say --allow-in-use (at your risk)",
    ]
    lines = Screen(50).line(SENTENCE, head="warning:     ").split("\n")
    assert {line[:13] for line in lines} == {"warning:     ", " " * 13}
    assert all(len(line) <= 50 for line in lines)


@pytest.mark.parametrize("width", range(40, 100))
def test_a_command_is_never_broken_nor_a_word(width: int) -> None:
    lines = Screen(width).line(SENTENCE, head="virtstore: ", indent=2).split("\n")
    assert any("'virsh destroy web'" in line for line in lines)
    assert " ".join(line.strip() for line in lines) == f"virtstore: {SENTENCE}"


def test_what_is_in_back_quotes_is_a_command_too() -> None:
    lines = Screen(31).line("make it raw (`qemu-img convert x y`), which takes long").split("\n")
    assert lines == ["make it raw", "(`qemu-img convert x y`), which", "takes long"]
    lines = Screen(31).line("guests' images and hosts' ones, all of them").split("\n")
    assert lines == ["guests' images and hosts' ones,", "all of them"]


def test_a_line_that_fits_and_one_of_no_terminal_stay_as_they_are() -> None:
    spaced = "/i/two  spaces.img  1 byte"
    for screen in (PLAIN, Screen(80), Screen(20)):
        assert screen.line(spaced) == spaced
    assert PLAIN.line(SENTENCE * 9) == SENTENCE * 9


def test_colours_are_around_what_is_printable() -> None:
    screen = Screen(80, colour=True)
    assert screen.shown("a\x1b[0mb", "warning") == "\x1b[33ma?[0mb\x1b[0m"
    assert screen.shown("plain") == "plain"
    assert screen.shown("", "error") == ""
    assert PLAIN.shown("red", "error") == "red"
