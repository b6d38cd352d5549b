"""The commands: what does each, and what can be known of it before that is imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple


class Command(NamedTuple):
    """`function`: where it is in this package. `locations`: on how many it opens a session, if
    they are on different hosts. `copies`: whether an image moves between two."""

    function: str
    locations: int = 1
    copies: bool = False


COMMANDS: Final[dict[str, Command]] = {
    "create": Command("images:create"),
    "list": Command("looking:list_"),
    "info": Command("looking:info"),
    "delete": Command("images:delete"),
    "grow": Command("images:grow"),
    "shrink": Command("images:shrink"),
    "growfs": Command("resizing:growfs"),
    "shrinkfs": Command("resizing:shrinkfs"),
    "resize": Command("resizing:resize"),
    "snapshot": Command("images:snapshot"),
    "copy": Command("copying:copy", locations=2, copies=True),
    "copy-contents": Command("copying:copy_contents", locations=2, copies=True),
    "compress": Command("copying:compress"),
    "uncompress": Command("copying:uncompress"),
    "verify": Command("looking:verify"),
    "diff": Command("looking:diff", locations=2),
    "clean": Command("images:clean"),
    "storage-info": Command("looking:storage_info"),
}


#: The options of every command; whether a value follows in the next word.
COMMON: Final = {
    **dict.fromkeys(("--json", "--quiet", "-q", "--verbose", "-v", "--dry-run", "-n"), False),
    **dict.fromkeys(("--progress", "--no-progress"), False),
    "--config": True,
}


def verb_first(words: list[str], has_value: Callable[[str], bool]) -> list[str]:
    """The words of a command line with the verb in front of the options that stand before it.
    `has_value`: whether the word behind an option is its value."""
    value = False
    for at, word in enumerate(words):
        if value or (word.startswith("-") and word != "-"):
            value = not value and has_value(word)
            continue
        return [word, *words[:at], *words[at + 1 :]]
    return words
