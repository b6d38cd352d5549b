"""The commands: what does each, and what can be known of it before that is imported."""

from __future__ import annotations

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
