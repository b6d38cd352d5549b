"""Commands typed for somebody who watches: each shown, with what it says and how long it took."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path


class Terminal:
    """Types `virtstore` commands and stops at the first that does not end as expected.

    `names`: what a line may say for short, such as `A/` for a host's directory.
    """

    def __init__(self, environment: dict[str, str], names: dict[str, str]) -> None:
        self._environment = environment
        self._names = names
        self._virtstore = str(Path(sys.executable).parent / "virtstore")

    def run(self, line: str, *, expect: int = 0) -> None:
        for short, whole in self._names.items():
            line = line.replace(short, whole)
        print(f"\n$ virtstore {line}", flush=True)
        started = time.monotonic()
        argv = [self._virtstore, *shlex.split(line)]
        status = subprocess.run(argv, env=self._environment, check=False).returncode
        exit_status = f"exit status {status}, " if status else ""
        print(f"({exit_status}{time.monotonic() - started:.1f} s)", flush=True)
        if status != expect:
            raise SystemExit(f"expected exit status {expect}; the demo ends here")


def say(text: str) -> None:
    print(f"\n# {text}", flush=True)
