"""TAB in bash, zsh and fish, at a real terminal, on this machine's files. Nobody is asked anything
then, and nobody waits for long."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest
from tests import waiting
from tests.shells import Shell, shell

from virtstore.cli.completion import SCRIPTS

#: All that a shell would take for something else.
ODD: Final = """it's "a  b" $HOME `x` c:d=e@f back\\slash ü&;|(*?[~#.img"""

#: An ssh that asks at the terminal, if it has one, and then does nothing while its session lasts.
ASKING: Final = """#!/bin/sh
case " $* " in *" -G "*) exit 0 ;; esac
echo "$@" > {directory}/called
(echo "password: " > /dev/tty) 2>/dev/null && echo > {directory}/asked
cat > /dev/null
echo > {directory}/ended
"""


def environment(directory: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(directory), "LANG": "C.UTF-8"}


@pytest.fixture(scope="module", params=SCRIPTS)
def typed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shell]:
    directory = tmp_path_factory.mktemp("shell")
    with shell(request.param, directory, environment(directory)) as started:
        yield started


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (made := tmp_path / "i").mkdir()
    return made


@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        ("virtstore -q unc", "virtstore -q uncompress "),
        ("virtstore copy --snap", "virtstore copy --snapshot "),
        ("virtstore copy --format l", "virtstore copy --format lz"),
        ("virtstore copy --format=lzo", "virtstore copy --format=lzop "),
        ("virtstore help unc", "virtstore help uncompress "),
        ("virtstore nonsense x", "virtstore nonsense x"),
    ],
)
def test_a_word_is_completed(typed: Shell, line: str, becomes: str) -> None:
    assert typed.completed(line) == becomes


def test_a_finished_word_is_followed_by_a_space_and_a_directory_is_not(
    typed: Shell, images: Path
) -> None:
    (images / "dir").mkdir()
    (images / "file.img").touch()
    assert typed.completed(f"virtstore info {images}/f") == f"virtstore info {images}/file.img "
    assert typed.completed(f"virtstore info {images}/d") == f"virtstore info {images}/dir/"


@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_a_name_with_odd_characters_is_completed_to_itself(
    typed: Shell, images: Path, quote: str
) -> None:
    (images / ODD).touch()
    line = typed.completed(f"virtstore info {quote}{images}/")
    assert typed.words(line) == ["virtstore", "info", f"{images}/{ODD}"]


def test_a_name_is_completed_behind_characters_that_end_a_word(typed: Shell, images: Path) -> None:
    (images / "c:d=e f.img").touch()
    line = typed.completed(f"virtstore info {images}/c:d=e")
    assert typed.words(line) == ["virtstore", "info", f"{images}/c:d=e f.img"]


def test_a_line_that_cannot_be_completed_says_nothing(typed: Shell) -> None:
    typed.completed("virtstore info /no/such/dir", tabs=2)
    typed.completed("virtstore --config ' nowhere: ", tabs=2)
    assert "rror" not in typed.shown
    assert "Traceback" not in typed.shown


def test_zsh_lists_what_each_word_means_in_a_line(tmp_path: Path) -> None:
    with shell("zsh", tmp_path, environment(tmp_path)) as typed:
        typed.completed("virtstore copy --a")
        assert "\n--allow-in-use  Copy an image that somebody may be writing to " in typed.shown
        assert "\n--archive       Compress the target " in typed.shown


def test_whoever_presses_tab_is_not_asked_and_does_not_wait(tmp_path: Path) -> None:
    """Also where ssh would ask, or hangs."""
    (ssh := tmp_path / "ssh").write_text(ASKING.format(directory=tmp_path))
    ssh.chmod(0o755)
    (directory := tmp_path / "shell").mkdir()
    with ExitStack() as stack:
        having = {**environment(directory), "VIRTSTORE_RSH": str(ssh)}
        typed = stack.enter_context(shell("bash", directory, having))
        line = "virtstore info host:/mnt/"
        assert typed.completed(line) == line
        assert "password" not in typed.shown
    called = (tmp_path / "called").read_text()
    assert "-o BatchMode=yes" in called
    assert called.endswith("-- host virtstore-agent\n")
    assert not (tmp_path / "asked").exists()
    waiting.until((tmp_path / "ended").exists, "the session to end")
