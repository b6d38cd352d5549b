"""Tests that run in the lab, reported out here one by one.

Files in `inside/` are ordinary tests for a process that is root in the lab. Out here they
are collected as usual, and each becomes an `InsideTest`. The first of a file to run boots a
lab, in which pytest runs all of the file's selected tests (in there, nothing of this
applies) and notes each one's outcome in /run/lab; the others look theirs up. So a file has
one boot and fresh disks, and a test that takes the kernel along fails with its console.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from .machine import LabError
from .uml import CHECKOUT, Lab

INSIDE: Final = Path(__file__).with_name("inside")
IN_THE_LAB: Final = "VIRTSTORE_LAB" in os.environ
#: Seconds that a file's tests may take, with the boot.
TIME_LIMIT: Final = 14400 if "VIRTSTORE_TORTURE" in os.environ else 1800

_OUTCOMES: Final = "outcomes.jsonl"

#: Plugins of pytest that nothing in a lab needs: to import them takes a third of its start.
_UNUSED: Final = ("cacheprovider", "xdist", "xdist.looponfail", "hypothesispytest")


@dataclass(frozen=True)
class Outcome:
    """How one phase (setup, call, teardown) of a test ended: `passed`, `failed`, `skipped`."""

    nodeid: str
    outcome: str
    text: str


class InsideFailure(Exception):
    """A test failed in the lab; the message is pytest's account of it."""


class InsideFile(pytest.Module):
    """A file of tests for the lab."""

    def collect(self) -> Iterator[pytest.Item]:
        for test in super().collect():
            if not isinstance(test, pytest.Function):
                raise self.CollectError(f"{test.nodeid}: tests in {INSIDE.name}/ are functions")
            yield InsideTest.from_parent(self, name=test.name, function=test)

    @cached_property
    def outcomes(self) -> tuple[Outcome, ...]:
        """What became of the file's selected tests: boots a lab and runs them. What the lab
        has to say if it breaks down counts as an outcome of every test that has none."""
        nodeids = [item.nodeid for item in self.session.items if item.parent is self]
        with TemporaryDirectory(prefix="virtstore-lab-") as directory:
            noted, said = _run(nodeids, Path(directory))
        unheard = set(nodeids) - {outcome.nodeid for outcome in noted}
        return (*noted, *(Outcome(nodeid, "failed", said) for nodeid in sorted(unheard)))


class InsideTest(pytest.Item):
    """A test that ran, or is about to run, in the lab."""

    def __init__(self, *, function: pytest.Function, **rest: object) -> None:
        super().__init__(**rest)  # type: ignore[arg-type]
        self._function = function
        self.own_markers = list(function.iter_markers())

    def runtest(self) -> None:
        file = self.parent
        assert isinstance(file, InsideFile)
        mine = [outcome for outcome in file.outcomes if outcome.nodeid == self.nodeid]
        for outcome in mine:
            if outcome.outcome == "failed":
                raise InsideFailure(outcome.text)
        for outcome in mine:
            if outcome.outcome == "skipped":
                pytest.skip(outcome.text)

    def repr_failure(
        self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None
    ) -> str:
        if isinstance(excinfo.value, InsideFailure):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[os.PathLike[str] | str, int | None, str]:
        return self._function.reportinfo()


def note(report: pytest.TestReport) -> None:
    """In the lab: tell the outside how a test ended, at once and safe from a power cut."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    said = [f"--- {title}\n{content}" for title, content in report.sections if content]
    line = json.dumps(asdict(Outcome(report.nodeid, report.outcome, "\n".join([text, *said]))))
    with (Path(os.environ["VIRTSTORE_LAB"]) / _OUTCOMES).open("a") as outcomes:
        outcomes.write(line + "\n")
        outcomes.flush()
        os.fsync(outcomes.fileno())


def _run(nodeids: list[str], directory: Path) -> tuple[list[Outcome], str]:
    """Run tests in a lab; the outcomes that they noted, and all that the lab said."""
    with Lab(directory).boot(_pytest(nodeids)) as machine:
        try:
            said = machine.wait(TIME_LIMIT).text
        except LabError as error:
            said = str(error)
        return _read(machine.directory / _OUTCOMES), said


def _pytest(nodeids: list[str]) -> str:
    options = ["-q", "--rootdir", str(CHECKOUT)]
    options += [word for plugin in _UNUSED for word in ("-p", f"no:{plugin}")]
    return shlex.join([sys.executable, "-m", "pytest", *options, *nodeids])


def _read(path: Path) -> list[Outcome]:
    if not path.exists():
        return []
    # A line that a crash cut short is no outcome.
    whole = path.read_text().rpartition("\n")[0]
    return [Outcome(**json.loads(line)) for line in whole.splitlines()]
