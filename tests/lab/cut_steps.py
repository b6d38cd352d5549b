"""An operation's steps, as they happen: each is one LVM command that changes something.

An `lvm` that is first in PATH says on standard output when one begins and has ended
(`before 2 lvrename`, `after 2 lvrename`), and stops there for good if it was told to
(`hold`), so that a cut can fall exactly between two steps.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_DIRECTORY: Final = Path("/run/cut")
_LVM: Final = """#!/bin/sh
# Before each command that changes something, and after it, we say so; `hold` stops us there.
real=/usr/sbin/lvm
case $1 in fullreport|lvs|vgs|pvs) exec $real "$@" ;; esac
say() {
    read -r hold </run/cut/hold || return
    echo "$1" >/run/stdout
    if [ "$hold" = "$1" ]; then exec sleep 600; fi
}
number=1
while read -r line; do number=$((number + 1)); done </run/cut/steps
say "before $number $1"
$real "$@"
status=$?
# LVM's "in use" for a moment is no step: virtstore tries again.
if [ $status = 0 ]; then
    echo "$1" >>/run/cut/steps
    say "after $number $1"
fi
exit $status
"""


def install() -> None:
    """For us, and the agent that we start."""
    _DIRECTORY.mkdir()
    (_DIRECTORY / "lvm").write_text(_LVM)
    (_DIRECTORY / "lvm").chmod(0o755)
    os.environ["PATH"] = f"{_DIRECTORY}:{os.environ['PATH']}"
    count()


def count(hold: str | None = None) -> None:
    """Count steps from here on; without `hold`, which may be empty, quietly."""
    (_DIRECTORY / "steps").write_text("")
    (_DIRECTORY / "hold").write_text("" if hold is None else f"{hold}\n")


def counted() -> tuple[str, ...]:
    """The names of the commands that have ended well."""
    return tuple((_DIRECTORY / "steps").read_text().split())
