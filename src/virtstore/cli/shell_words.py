"""Words as a shell reads and writes them, also one that is not finished."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

#: What a shell takes as it stands wherever it is.
_SAFE: Final = re.compile(r"[\w@%+=:,./-]")
#: What a backslash quotes between double quotes.
_IN_DOUBLE: Final = '$`"\\'


class Unfinished(NamedTuple):
    """The word that somebody is typing. `text`: what it means so far; `quote`: the quotation mark
    that it has not closed, "" where it has."""

    text: str
    quote: str

    def continued(self, rest: str) -> str:
        """What to type behind the word for it to go on with `rest`."""
        if self.quote == "'":
            return rest.replace("'", "'\\''")
        if self.quote:
            return "".join(f"\\{c}" if c in _IN_DOUBLE else c for c in rest)
        return "".join(c if _SAFE.match(c) else f"\\{c}" for c in rest)


def split(line: str) -> tuple[list[str], Unfinished]:
    """The words of a command line that ends where the cursor is, and the last one of them, which
    may be empty. Raises `ValueError` where it ends with half an escape."""
    words: list[str] = []
    text, quote, begun = "", "", False
    characters = iter(line)
    for c in characters:
        if c == "\\" and quote != "'":
            following = next(characters, None)
            if following is None:
                raise ValueError("the line ends with a backslash")
            literal = quote and following not in _IN_DOUBLE
            text, begun = text + (c + following if literal else following), True
        elif c == quote:
            quote = ""
        elif not quote and c in "'\"":
            quote, begun = c, True
        elif not quote and c.isspace():
            words += [text] if begun else []
            text, begun = "", False
        else:
            text, begun = text + c, True
    return words, Unfinished(text, quote)
