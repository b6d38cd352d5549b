"""`python -m bench.scale`: docs/scale.md out of docs/scale.json, or these figures anew."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from bench.scale import measure
from bench.scale.figures import Costs, Fleet, load, renewed, save
from bench.scale.page import markdown

PAGE: Final = Path(__file__).parent.parent.parent / "docs" / "scale.md"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/scale.md")
    parser.add_argument("--measure", action="store_true", help="measure, into docs/scale.json")
    parser.add_argument("--archives", type=int, default=50_000, metavar="N", help="to be listed")
    parser.add_argument(
        "--replace", action="store_true", help="also figures that were measured with more"
    )
    options = parser.parse_args()
    if options.measure:
        _renew(measure.measured(options.archives), replace=options.replace)
    page = markdown(load(), Fleet())
    if options.write:
        PAGE.write_text(page)
    else:
        sys.stdout.write(page)


def _renew(measured: Costs, *, replace: bool) -> None:
    figures = renewed(load(), measured, replace=replace)
    save(figures)
    for name, new in measured.figures.items():
        if (kept := figures.figures[name]) != new:
            told = (
                f"{kept.count:,} on {kept.date}, not with {new.count or 0:,}; --replace takes that"
            )
            print(f"{name} stays as it was measured with {told}", file=sys.stderr)


if __name__ == "__main__":
    main()
