"""What pages show: blocks of commands, and what these print.

A block of the language `console` is a terminal. A line that begins with `$ ` is typed by the
reader, one that begins with `a# ` or `b# ` on that host; the other lines are what is printed. A
block of `python` is run as it stands. A comment `<!-- before: … -->` has commands that the reader
does not see and that must succeed; `<!-- not run: why -->` stands before a block that is only read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

Ring = Literal["tools", "hosts", "lab", "ceph"]

ROOT: Final = Path(__file__).parents[1]

_BLOCK: Final = re.compile(
    r"^<!-- before:\n(?P<before>.*?)^-->$"
    r"|^(?:<!-- not run: (?P<why>.*?) -->\n\n?)?(?P<indent> *)```(?P<language>\w*)\n"
    r"(?P<text>.*?)^(?P=indent)```$",
    re.M | re.S,
)
_PROMPT: Final = re.compile(r"(?:\$|(?P<host>[ab])#) (?P<typed>.*)")


@dataclass(frozen=True)
class Block:
    """A block of a page; `start` and `end` are those of `text` in the page. `why`: it is not run
    for that reason. `hidden`: it is no more than preparation."""

    language: str
    text: str
    start: int
    end: int
    why: str = ""
    hidden: bool = False

    @property
    def runs(self) -> bool:
        return not self.why and (self.hidden or self.language in ("console", "python"))


@dataclass(frozen=True)
class Command:
    """What is typed, with its further lines, on which host ("": the reader's), and the lines that
    are shown for it; None where none are compared."""

    typed: str
    host: str = ""
    shown: tuple[str, ...] | None = None


def pages() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def of_ring(ring: Ring) -> list[Path]:
    """The pages with blocks that this ring runs."""
    return [
        page
        for page in pages()
        if ring_of(text := page.read_text()) == ring and any(block.runs for block in blocks(text))
    ]


def blocks(text: str) -> Iterator[Block]:
    for found in _BLOCK.finditer(text):
        if (hidden := found["before"]) is not None:
            yield Block("", hidden, *found.span("before"), hidden=True)
        else:
            yield Block(found["language"], found["text"], *found.span("text"), found["why"] or "")


def commands(block: Block) -> list[Command]:
    if block.language == "python":
        return [Command(f"python -W error - <<'END'\n{block.text}END")]
    typed = list(_typed(block.text.splitlines()))
    return [replace(each, shown=None) for each in typed] if block.hidden else typed


def _typed(lines: list[str]) -> Iterator[Command]:
    rest = iter(lines)
    command: Command | None = None
    for line in rest:
        if prompt := _PROMPT.fullmatch(line):
            if command:
                yield command
            typed = prompt["typed"]
            while typed.endswith("\\"):
                typed += f"\n{next(rest)}"
            if "<<END" in typed:
                for further in rest:
                    typed += f"\n{further}"
                    if further == "END":
                        break
            command = Command(typed, prompt["host"] or "", ())
        else:
            assert command, f"printed before anything was typed: {line}"
            command = Command(command.typed, command.host, (*(command.shown or ()), line))
    if command:
        yield command


def ring_of(text: str) -> Ring:
    """Where a page's commands can run: `lab` has a volume group, `hosts` has hosts, `ceph` a
    cluster."""
    typed = [each for block in blocks(text) if block.runs for each in commands(block)]
    if any("/dev/vg0" in each.typed for each in typed):
        return "lab"
    if any("/dev/rbd/" in each.typed for each in typed):
        return "ceph"
    hosts = any(each.host or re.search(r"(?<![\w/])[ab]:|ssh://[ab]", each.typed) for each in typed)
    return "hosts" if hosts else "tools"
