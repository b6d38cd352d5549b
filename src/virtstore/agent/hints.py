"""The lines of configuration that messages show, as they can be written to the file."""

from __future__ import annotations

from typing import Final

from virtstore.backends.kinds import KINDS, Root
from virtstore.model import Access

MOUNTING: Final = "[limits]\nmount_guest_filesystems = true\n"


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


_SPELLED: Final = "; ".join(f"{kind.what} has {kind.spelled}" for kind in KINDS)
