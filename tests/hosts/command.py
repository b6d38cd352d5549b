"""`virtstore` as a user starts it: the program, what it printed, and how it ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .. import warm
from ..waiting import PATIENCE

#: The exit status of each error's code, as users were promised them.
STATUS: Final = {
    "failed": 1,
    "usage": 2,
    "not-found": 3,
    "exists": 4,
    "denied": 5,
    "in-use": 6,
    "no-space": 7,
    "unsafe": 8,
    "corrupt": 9,
    "connection": 10,
    "unsupported": 11,
    "interrupted": 130,
}

_PROGRAM: Final = str(Path(sys.executable).parent / "virtstore")


@dataclass(frozen=True)
class Ended:
    """A run that has ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)

    def error(self, code: str) -> dict[str, str]:
        """The error object of a run with `--json`, once it is shown to be a clean failure
        with this code."""
        assert "Traceback" not in self.stdout + self.stderr, self
        assert self.stdout.startswith('{"error"'), self
        error: dict[str, str] = self.json["error"]
        assert (error["code"], self.status) == (code, STATUS[code]), self
        assert list(error) == ["code", "message", "host", "path"]
        return error


def ended(process: subprocess.Popen[bytes]) -> Ended:
    """What became of a run, once it has ended."""
    stdout, stderr = process.communicate(timeout=PATIENCE)
    return Ended(process.returncode, stdout.decode(), stderr.decode())


class UnderWay:
    """A copy that is running, told to print JSON and progress."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid

    def ctrl_c(self) -> None:
        """What a terminal does: the signal goes to the whole process group, ssh included."""
        os.killpg(self.pid, signal.SIGINT)

    def end(self) -> Ended:
        return ended(self._process)


class Client:
    """Runs the program with an environment; `environment` has all that is not inherited."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._started: list[subprocess.Popen[bytes]] = []

    def having(self, **environment: str) -> Client:
        """The same with a changed environment."""
        other = Client({**self._environment, **environment})
        other._started = self._started
        return other

    def close(self) -> None:
        """End what still runs, where a test failed before it had ended."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.communicate()

    @property
    def environment(self) -> dict[str, str]:
        ours = {k: v for k, v in os.environ.items() if not k.startswith("VIRTSTORE_")}
        return {**ours, **self._environment}

    def run(self, *words: str | Path) -> Ended:
        done = warm.run([*map(str, words)], self.environment)
        return Ended(done.returncode, done.stdout, done.stderr)

    def json(self, *words: str | Path) -> Any:
        """What a run that succeeds tells."""
        done = self.run(*words, "--json")
        assert done.status == 0, done
        return done.json

    def under_way(self, *words: str | Path, until: int) -> UnderWay:
        """A copy that has moved `until` bytes and goes on."""
        process = self.start(*words, "--json", "--progress")
        assert process.stderr is not None
        for line in process.stderr:
            if json.loads(line)["done"] >= until:
                return UnderWay(process)
        raise AssertionError(process.communicate())

    def argv(self, *words: str | Path) -> list[str]:
        return [_PROGRAM, *map(str, words)]

    def start(self, *words: str | Path) -> subprocess.Popen[bytes]:
        """A run in a process group of its own, as a shell would start it."""
        process = subprocess.Popen(
            # Whoever started us in the background may have had us ignore Ctrl-C.
            ["env", "--default-signal=INT", *self.argv(*words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
            process_group=0,
        )
        self._started.append(process)
        return process
