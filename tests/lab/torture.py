"""Every power cut there is to make: `python -m tests.lab.torture [OPERATION…]`.

Of each operation: before and after each of its steps, thick and thin, and `--random` more at
moments that nobody chose. Says how each ended, and writes docs/power-cuts.md. A full run
takes more than an hour; one operation at a time is as good.
"""

from __future__ import annotations

import argparse
import datetime
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .cut_operations import OPERATIONS
from .power_cuts import Lightning, Outcome, at_every_step, at_random
from .uml import CHECKOUT, missing_packages

_PAGE: Final = CHECKOUT / "docs" / "power-cuts.md"
_TEXT: Final = """# Power cuts

A Linux kernel runs as a process, with disks of its own, and one operation of virtstore on a
volume in it. The process is killed: before and after each LVM command that the operation
consists of, and at random moments. Then it boots again on the same disk.

After each cut, what a user would have lost is looked for. Every final name must hold exactly
the old or exactly the new contents, compared byte by byte; the free space was full of other
data before, of which nothing may show. No snapshot that only a copy needed, and no mark on a
finished volume, may be left after one `list`. Then the leftovers go: in half of the cases
`clean` removes them, in the other half the same command runs again and must succeed. After
that every volume is one that `list` shows, and the volume group has exactly as many free
extents as before, less what the new state takes.

Old and new: the operation had not, or had, taken effect. Partial: something was left that
`list` shows as partial, beside the old image or, for `copy-contents`, in its place. Wrong:
any of the above did not hold. Thick volumes and thin ones, in a pool that does not zero, take
turns.

"""
_HEAD: Final = (
    "| operation | cuts | of them random | old | new | partial | wrong | minutes | day | command |",
    "|---|---|---|---|---|---|---|---|---|---|",
)


def main() -> int:
    arguments = _arguments()
    if missing := missing_packages():
        print(f"lab: it needs: apt-get install {' '.join(missing)}", file=sys.stderr)
        return 1
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="virtstore-lab-") as directory:
        lightning = Lightning(Path(directory) / "lab")
        for name in arguments.operations or OPERATIONS:
            begun = time.monotonic()
            outcomes = _torture(lightning, name, arguments)
            wrong += sum(bool(outcome.verdict.problems) for outcome in outcomes)
            _write(name, _row(name, outcomes, time.monotonic() - begun, arguments))
    return 1 if wrong else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.torture", description=__doc__)
    parser.add_argument("--random", type=int, default=30, help="random cuts of each operation")
    parser.add_argument("--seed", type=int, default=1, help="makes the same random moments again")
    parser.add_argument("--no-steps", action="store_true", help="random cuts only")
    parser.add_argument("operations", nargs="*", metavar="OPERATION", help=", ".join(OPERATIONS))
    arguments = parser.parse_args()
    if unknown := set(arguments.operations) - set(OPERATIONS):
        parser.error(f"no such operation: {', '.join(sorted(unknown))}")
    return arguments


def _torture(lightning: Lightning, name: str, arguments: argparse.Namespace) -> list[Outcome]:
    operation = OPERATIONS[name]
    chance = random.Random(f"{arguments.seed} {name}")
    cuts = at_random(operation, arguments.random, chance)
    if not arguments.no_steps:
        cuts += at_every_step(operation)
    outcomes = []
    for outcome in lightning.strike(cuts):
        outcomes.append(outcome)
        print(f"{len(outcomes):3} of {len(cuts)}: {outcome}", flush=True)
    return outcomes


def _row(
    name: str, outcomes: Sequence[Outcome], seconds: float, arguments: argparse.Namespace
) -> str:
    found = Counter(outcome.verdict.found for outcome in outcomes)
    fields = (
        *(name, len(outcomes), sum(o.cut.moment.delay is not None for o in outcomes)),
        *(found["old"], found["new"], found["partial"]),
        *(sum(bool(o.verdict.problems) for o in outcomes), f"{seconds / 60:.0f}"),
        datetime.date.today().isoformat(),
        f"`python -m tests.lab.torture --random {arguments.random} --seed {arguments.seed}"
        f"{' --no-steps' if arguments.no_steps else ''} {name}`",
    )
    return f"| {' | '.join(map(str, fields))} |"


def _write(name: str, row: str) -> None:
    """Put the row of one operation into the page, and leave those of the others."""
    lines = _PAGE.read_text().splitlines() if _PAGE.exists() else []
    rows = {line.split()[1]: line for line in lines if line.startswith("| ")}
    rows[name] = row
    table = [*_HEAD, *(rows[each] for each in OPERATIONS if each in rows)]
    _PAGE.write_text(_TEXT + "\n".join(table) + "\n")


if __name__ == "__main__":
    sys.exit(main())
