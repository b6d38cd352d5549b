"""What refusals say is to be done: the lines of configuration, as they can be written to the file,
and the access that is needed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from virtstore.backends.kinds import KINDS, Root
from virtstore.model import Access

MOUNTING: Final = "[limits]\nmount_guest_filesystems = true\n"
#: What a configuration does that has nothing of what a connection is restricted to.
NOTHING: Final = "allows nothing there that could hold an image"

_MEANINGS: Final[dict[Access, str]] = {
    "read": "reading",
    "append": "making new images",
    "write": "changing and removing images",
}


def needs(access: Access) -> str:
    return f'{_MEANINGS[access]} needs "{access}"'


def root_to_write(path: str, tree: str, access: Access) -> Root | str:
    """The root that allows `path`, which lies in `tree` (or is that); or why none can be written
    that does."""
    if "~" in path.split("/"):
        return "A shell replaces '~' at the start of a word only; write the whole path"
    claimed = (kind.claims(path, tree, access) for kind in KINDS)
    root = next(filter(None, claimed), None)
    if root is None:
        return f"There is nothing of that kind to allow: {_SPELLED}"
    why = root.unfit()
    return f"Nor can it be allowed: {why}" if why else root


def to_allow(restrictions: Sequence[str], access: Access, file: str) -> str:
    """What an administrator does so that a connection may do something that is restricted to
    these; `file` is the configuration's."""
    found = dict.fromkeys(_root_of(path, access) for path in restrictions)
    roots = [each for each in found if isinstance(each, Root)]
    if not roots:
        return next((each for each in found if isinstance(each, str)), "")
    make = "; ".join(filter(None, (root.how_to_make() for root in roots)))
    first = f"What it names does not exist on that host; make it first: {make}. " if make else ""
    lines = "\n".join(root.lines() for root in roots)
    return f"{first}To allow it, its administrator writes to {file}:\n\n{lines}"


def _root_of(path: str, access: Access) -> Root | str:
    """The root that allows what a connection is restricted to: a place of images, or an image."""
    above = os.path.dirname(path)
    if not os.path.isfile(path):
        found = root_to_write(path, path, access)
        if isinstance(found, Root) or not path.startswith("/dev/"):
            return found
    return root_to_write(path, above, access)


_SPELLED: Final = "; ".join(f"{kind.what} has {kind.spelled}" for kind in KINDS)
