"""What a command's docstring tells of it; of all commands at once, without importing them."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Final, NamedTuple

from virtstore.cli.commands import COMMANDS

_SECTION: Final = re.compile(r"^(\w+)\n-+\n", re.M)


class Docstring(NamedTuple):
    """`summary`: a line of text. `paragraphs`: what follows that. `examples`: command lines."""

    summary: str
    paragraphs: tuple[str, ...]
    examples: tuple[str, ...]


def read(text: str) -> Docstring:
    """The parts of a docstring, but for its parameters."""
    before, *sections = _SECTION.split(inspect.cleandoc(text))
    told = dict(zip(sections[::2], sections[1::2], strict=True))
    summary, *paragraphs = (" ".join(part.split()) for part in before.strip().split("\n\n"))
    examples = told.get("Examples", "").strip().splitlines()
    return Docstring(summary, tuple(paragraphs), tuple(examples))


def summaries() -> dict[str, str]:
    """The summary of each command. Their sources are read: importing them takes much longer."""
    texts: dict[str, str] = {}
    for module in {command.function.partition(":")[0] for command in COMMANDS.values()}:
        source = Path(__file__).with_name(f"{module}.py").read_text()
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef) and (text := ast.get_docstring(node)):
                texts[f"{module}:{node.name}"] = text
    return {verb: read(texts[command.function]).summary for verb, command in COMMANDS.items()}
