"""`make bench`: measure every row, print it, and write docs/benchmarks.*.

A part of the rows, or small inputs, are for trying: nothing is written then, unless the rows are
to be added to those that docs/benchmarks.json has.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

import msgspec

from bench import inputs, plots, report
from bench.model import Document
from bench.peers import this_machine
from bench.place import opened
from bench.rows import Row, rows

_HERE = Path(__file__).parent
_DOCS = _HERE.parent / "docs"
_ENDING = (signal.SIGINT, signal.SIGTERM)
_FIGURES = _DOCS / "benchmarks.json"


def main() -> None:
    options = _options()
    for number in _ENDING:
        signal.signal(number, _end)
    if options.render:
        write(_figures())
        return
    document = measure(options)
    print("\n" + "\n".join(report.summary(document.results)))
    if options.add:
        document = _figures().with_rows_of(document)
    if options.add or not (options.no_write or options.small or options.only):
        write(document)
        print("\nWritten: docs/benchmarks.md, benchmarks.json and two plots.")


def measure(options: argparse.Namespace) -> Document:
    directory: Path | None = options.directory
    with opened(directory and directory.resolve(), small=options.small) as place:
        inputs.make(place.a, place.scale)
        results = []
        for row in _wanted(rows(place.scale), options.only):
            print(f"\n# {row.name}" + (" (small)" if options.small else ""), flush=True)
            result = row.measure(place, options.runs)
            print("\n".join((f"{result.job}", *report.figures(result), *result.notes)), flush=True)
            results.append(result)
        return Document(this_machine(place), options.runs, options.small, tuple(results))


def write(document: Document) -> None:
    _FIGURES.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
    page = report.markdown(document, _HERE / "notes.toml")
    (_DOCS / "benchmarks.md").write_text(page)
    (_DOCS / "benchmarks-ratios.svg").write_text(plots.ratios(document.results))
    sized = next(result for result in document.results if result.name == "sizes")
    (_DOCS / "benchmarks-sizes.svg").write_text(plots.sizes(sized))


def _figures() -> Document:
    return msgspec.json.decode(_FIGURES.read_bytes(), type=Document)


def _end(number: int, _: FrameType | None) -> None:
    """By way of every context manager, and not interrupted in that."""
    for each in _ENDING:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


def _wanted(all_: tuple[Row, ...], only: list[str]) -> list[Row]:
    names = [row.name for row in all_]
    if unknown := [name for name in only if name not in names]:
        raise SystemExit(f"no such row: {', '.join(unknown)}; there are {', '.join(names)}")
    return [row for row in all_ if not only or row.name in only]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="ROW", help="these rows only")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="of each command")
    parser.add_argument("--small", action="store_true", help="a sixteenth of all sizes")
    parser.add_argument("--directory", type=Path, metavar="DIR", help="keeps the inputs there")
    parser.add_argument("--no-write", action="store_true", help="print, and write nothing")
    parser.add_argument(
        "--render", action="store_true", help="write the page again from docs/benchmarks.json"
    )
    parser.add_argument(
        "--add", action="store_true", help="put the rows of --only beside those of the last run"
    )
    options = parser.parse_args()
    if options.add and (options.small or not options.only):
        parser.error("--add is for the rows that --only names, in full size")
    return options


if __name__ == "__main__":
    main()
