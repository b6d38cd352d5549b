"""Plain text of the code, as Markdown."""

from __future__ import annotations

import re


def text(plain: str) -> str:
    """A text in which nothing is meant as Markdown."""
    return plain.replace("*", "\\*").replace("<", "&lt;").replace("_", "\\_")


def cell(plain: str) -> str:
    """The same for a cell of a table."""
    return text(plain).replace("|", "\\|")


def docstring(told: str) -> str:
    """A docstring, which nearly is Markdown, without the files that it sends to."""
    return re.sub(r" \((?:docs/)?[\w-]+\.(?:md|py)\)", "", told)
