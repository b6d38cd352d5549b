"""Jobs of one target take turns, and none waits for one that was killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from virtstore import meeting_place
from virtstore.backups import turns

_PROGRAM: Final = """
import sys
from virtstore import meeting_place
from virtstore.backups import turns
turns.meeting_place.directories = lambda: [sys.argv[1]]
with turns.turn(sys.argv[2], lambda: print("waits", flush=True)):
    print("begins", flush=True)
    sys.stdin.read()
print("ended", flush=True)
"""
Other = subprocess.Popen[str]


@pytest.fixture
def others() -> Iterator[list[Other]]:
    """What a test has started."""
    started: list[Other] = []
    yield started
    for each in started:
        with each:  # which closes its pipes
            each.kill()


def start(others: list[Other], directory: Path, target: str) -> Other:
    argv = [sys.executable, "-c", _PROGRAM, str(directory), target]
    others.append(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    return others[-1]


def said(other: Other) -> str:
    assert other.stdout
    return other.stdout.readline().strip()


def end(other: Other) -> None:
    assert other.stdin
    other.stdin.close()
    assert said(other) == "ended"


@pytest.mark.parametrize("spelt", ["b:/srv", "b:/srv/", "b:/./srv", "ssh://b/srv"])
def test_the_second_job_of_a_target_says_that_it_waits_and_follows(
    tmp_path: Path, others: list[Other], spelt: str
) -> None:
    first = start(others, tmp_path, spelt)
    assert said(first) == "begins"
    second = start(others, tmp_path, "b:/srv")
    assert said(second) == "waits"
    end(first)
    assert said(second) == "begins"
    end(second)


def test_jobs_of_different_targets_run_at_the_same_time(
    tmp_path: Path, others: list[Other]
) -> None:
    for target in ("b:/srv", "b:/srv/a", "c:/srv"):
        assert said(start(others, tmp_path, target)) == "begins"


def test_a_job_that_is_killed_gives_its_turn_away(tmp_path: Path, others: list[Other]) -> None:
    first = start(others, tmp_path, "b:/srv")
    assert said(first) == "begins"
    second = start(others, tmp_path, "b:/srv")
    assert said(second) == "waits"
    first.kill()
    assert said(second) == "begins"


def test_a_job_has_its_turn_where_another_user_took_the_name_of_the_first_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then there may be two directories, and it holds its lock in both."""
    places = [tmp_path / "one", tmp_path / "two"]
    for place in places:
        place.mkdir(0o700)
    monkeypatch.setattr(meeting_place, "directories", lambda: list(map(str, places)))
    with turns.turn("b:/srv", pytest.fail):
        assert [len(list(place.iterdir())) for place in places] == [1, 1]
