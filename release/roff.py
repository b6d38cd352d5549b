"""Pages of the manual in the macros of man(7): what a reader sees is given as plain text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_SPECIAL: Final = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}


def plain(text: str) -> str:
    """A text that is shown as it stands: nothing of it is a request or an escape, and what is
    typed can be copied from the page."""
    escaped = "".join(_SPECIAL.get(c, c if c.isascii() else f"\\[u{ord(c):04X}]") for c in text)
    return re.sub(r"^\.", r"\\&.", escaped, flags=re.M)


def bold(text: str) -> str:
    return f"\\fB{plain(text)}\\fR"


def italic(text: str) -> str:
    return f"\\fI{plain(text)}\\fR"


def typed(text: str) -> str:
    """A synopsis: what is in capitals stands for something, the rest is typed."""
    parts = re.split(r"([A-Z]{2,}(?:-[A-Z]+)*|\bN\b)", text)
    return "".join(italic(part) if at % 2 else plain(part) for at, part in enumerate(parts))


def page(name: str, section: int, version: str, *sections: str) -> str:
    title = f'.TH {plain(name).upper()} {section} "" "virtstore {version}" "virtstore"'
    return "\n".join([title, ".nh", *sections]) + "\n"


def section(title: str, *blocks: str) -> str:
    return "\n".join([f'.SH "{plain(title)}"', *blocks])


def subsection(title: str, *blocks: str) -> str:
    return "\n".join([f'.SS "{plain(title)}"', *blocks])


def paragraph(text: str) -> str:
    return f".PP\n{plain(text)}"


def tagged(term: str, meaning: str) -> str:
    """What `term`, which is formatted already, means."""
    return f".TP\n{term}\n{plain(meaning)}"


def verbatim(lines: Iterable[str]) -> str:
    shown = "\n".join(map(plain, lines))
    return f".PP\n.RS 4\n.nf\n{shown}\n.fi\n.RE"


def see_also(pages: Iterable[tuple[str, int]]) -> str:
    named = [f"{bold(name)}({number})" for name, number in pages]
    return section("SEE ALSO", ",\n".join(named))
