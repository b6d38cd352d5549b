"""What `list`, `info` and `storage-info` show: to a pipe, and to a terminal of some width."""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pytest
from tests.waiting import PATIENCE
from tests.warm import COMMAND

from .test_agent_commands import MIB, images, told, virtstore

__all__ = ["images"]  # a fixture


def on_terminal(width: int, *arguments: object, **variables: str) -> str:
    """What a command prints on a terminal of so many columns, standard error included."""
    leader, follower = os.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", **variables}
    for name in {"COLUMNS", "NO_COLOR", "CLICOLOR_FORCE"} - set(variables):
        environment.pop(name, None)
    argv = [sys.executable, "-c", COMMAND, *map(str, arguments)]
    with (
        os.fdopen(leader, "rb", buffering=0) as screen,
        subprocess.Popen(
            argv, env=environment, stdin=follower, stdout=follower, stderr=follower
        ) as process,
    ):
        os.close(follower)
        shown = b""
        with suppress(OSError):  # EIO: the last one who had it open is gone
            while piece := screen.read(65536):
                shown += piece
        process.wait(PATIENCE)
    return shown.decode().replace("\r\n", "\n")


def left_on_terminal(width: int, *arguments: object, **variables: str) -> str:
    """What is left of that once what showed its progress has been taken away."""
    return on_terminal(width, *arguments, **variables).rpartition("\x1b[K")[2]


def test_info_and_list_say_whose_a_file_is(images: Path) -> None:
    image = images / "x.img"
    mine = pwd.getpwuid(os.geteuid()).pw_name
    assert told("info", image)["owner"] == told("list", "-l", images)[0]["owner"] == mine
    assert re.search(f"^owner: +{mine}$", virtstore("info", image).stdout, re.MULTILINE)
    if os.geteuid() == 0:
        os.chown(image, 4_294_967_200, -1)  # nobody has it
        assert told("info", image)["owner"] == "4294967200"


def test_list_sorts_by_what_is_asked_for_with_the_keys_of_a_list(images: Path) -> None:
    (images / "a.img").write_bytes(bytes(1000))
    (images / "z.img").write_bytes(bytes(2000))
    found = told("list", images, "--sort", "size")
    assert [Path(each["path"]).name for each in found] == ["x.img", "z.img", "a.img"]
    assert all(set(each) == {"path", "host", "type", "state"} for each in found)
    long = told("list", "-l", images, "--sort", "size", "--reverse")
    assert [each["size"] for each in long] == [1000, 2000, 3 * MIB]
    assert virtstore("list", images, "--reverse").stdout.splitlines() == [
        f"{images}/{name}.img" for name in "zxa"
    ]
    assert "3145728" in virtstore("list", images, "-l", "--bytes").stdout
    assert "'name', 'size', 'allocated'" in virtstore(
        "list", images, "--sort", "age", status=2
    ).stderr.replace('"', "'")


@pytest.mark.parametrize("line", ["list -l {}", "info {}/x.img", "storage-info"])
def test_looking_does_not_wait_for_what_draws_bars(images: Path, line: str) -> None:
    argv = [sys.executable, "-X", "importtime", "-c", COMMAND, *line.format(images).split()]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert "virtstore.cli.terminal" in done.stderr
    assert not re.search(r"\| +rich\b", done.stderr)


def test_a_table_fits_a_terminal_and_is_whole_in_a_pipe(images: Path) -> None:
    image = images / ("long-name-" * 9 + ".img")
    (images / "x.img").rename(image)
    assert str(image) in virtstore("list", "-l", images).stdout
    for width in (80, 100):
        lines = left_on_terminal(width, "list", "-l", images).splitlines()
        assert max(map(len, lines)) <= width
        assert lines[1].endswith("long-name-.img")
        assert "…" in lines[1]
    assert re.search(
        "[0-9]-[0-9][0-9] ", left_on_terminal(80, "list", "-l", images, "--sort", "modified")
    )
    assert str(image) in left_on_terminal(80, "list", images)
    assert str(image) in left_on_terminal(80, "list", "-l", images, COLUMNS="400")


def test_tables_of_several_places_have_a_gap_between_them(images: Path) -> None:
    (images / "sub").mkdir()
    (images / "sub" / "y.img").write_bytes(bytes(512))
    lines = virtstore("list", "-l", images, images / "sub").stdout.splitlines()
    assert [line[:4] for line in lines] == ["TYPE", "dire", "file", "", "TYPE", "file"]
    told_twice = virtstore("info", images / "x.img", images / "x.img").stdout
    assert "\n\npath:" in told_twice
    assert not told_twice.endswith("\n\n")


def test_where_nothing_is_a_person_is_told_so_and_a_program_is_not(images: Path) -> None:
    (images / "sub").mkdir()
    for words, notice in (
        (("list", images / "sub"), f"{images}/sub: nothing there\n"),
        (("list", "-l", images / "sub"), f"{images}/sub: nothing there\n"),
        (("jobs",), "local: nothing is running\n"),
    ):
        done = virtstore(*words)
        assert (done.stdout, done.stderr) == ("", notice)
        assert virtstore(*words, "-q").stderr == virtstore(*words, "--json").stderr == ""


def test_a_terminal_shows_what_matters_in_colour_unless_its_user_wants_none(images: Path) -> None:
    (images / "y.img.virtstore-partial").write_bytes(bytes(10))
    coloured = left_on_terminal(120, "list", "-l", images)
    assert "\x1b[33mpartial\x1b[0m" in coloured
    plain = virtstore("list", "-l", images).stdout
    assert "\x1b" not in plain
    assert re.sub("\x1b\\[[0-9]*m", "", left_on_terminal(400, "list", "-l", images)) == plain
    for variables in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert left_on_terminal(400, "list", "-l", images, **variables) == plain


def test_progress_has_one_line_of_a_narrow_terminal(images: Path) -> None:
    words = ("copy", images / "x.img", images / "y.img", "--bwlimit", "1M", "--progress")
    for width in (60, 40):
        drawn = on_terminal(width, *words, "--overwrite")
        assert "\u2501" in drawn
        assert drawn.count("\x1b[1A") == 1  # up a line: once, when it is taken away


def test_lines_of_configuration_end_with_no_empty_line(images: Path) -> None:
    refused = virtstore("info", images.parent / "z.img", status=5).stderr
    assert refused.endswith('access = "read"\n')


def test_a_refusal_is_wrapped_on_a_terminal_and_one_line_elsewhere(images: Path) -> None:
    shown = left_on_terminal(60, "info", "/etc/passwd", NO_COLOR="1").splitlines()
    assert len(shown) > 1
    assert all(len(line) < 60 or " " not in line.strip() for line in shown)
    assert all(line.startswith("  ") for line in shown[1:])
    told_elsewhere = virtstore("info", "/etc/passwd", status=5).stderr
    assert told_elsewhere == " ".join(map(str.strip, shown)) + "\n"


def test_a_dumb_terminal_is_shown_no_progress(images: Path) -> None:
    shown = on_terminal(80, "list", images, TERM="dumb")
    assert shown == virtstore("list", images).stdout
