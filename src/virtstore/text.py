"""Text that others wrote, such as a tool or a guest, as it may stand in a message."""

from __future__ import annotations

import json
from typing import Final

_MOST: Final = 300


def printable(text: str | bytes) -> str:
    """`text` with a `?` for whatever a terminal would obey, line breaks as well."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def json_printable(document: str) -> str:
    """A JSON document, with `\\uXXXX` in its strings for whatever a terminal would obey: bytes
    that turn the line around, for example, or hide a part of it."""
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in document)


def remark(text: str | bytes) -> str:
    """The beginning of it, printable: long enough to tell what is wrong."""
    return printable(text)[:_MOST]
