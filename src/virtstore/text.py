"""Text that others wrote, such as a tool or a guest, as it may stand in a message."""

from __future__ import annotations

import json
import re
from typing import Final

_MOST: Final = 300
_ESCAPE: Final = re.compile(rb"\\(?:x([0-9a-f]{2})|\\)")


def printable(text: str | bytes) -> str:
    """`text` with a `?` for whatever a terminal would obey, line breaks as well."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def json_printable(document: str) -> str:
    """A JSON document, with `\\uXXXX` in its strings for whatever a terminal would obey: bytes
    that turn the line around, for example, or hide a part of it."""
    if document.replace("\n", "").isprintable():
        return document
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in document)


def remark(text: str | bytes) -> str:
    """The beginning of it, printable: long enough to tell what is wrong."""
    return printable(text)[:_MOST]


def shown(name: bytes) -> str:
    r"""A file's name as it may be printed and typed back: where a terminal would obey a part of it,
    or it is no UTF-8, with `\\xNN` for each such byte and `\\\\` for a backslash."""
    text = name.decode("utf-8", "surrogateescape")
    if text.isprintable():
        return text
    return "".join(map(_escaped, text))


def meant(text: bytes) -> bytes:
    """The name of which `shown` made this."""
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]) if found[1] else b"\\", text)


def _escaped(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))
