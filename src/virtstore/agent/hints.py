"""The lines of configuration that messages show, as they can be written to the file."""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from typing import Final

from virtstore.agent.config import GROUP_NAME
from virtstore.agent.roots import no_place_for_images
from virtstore.model import Access

MOUNTING: Final = "[limits]\nmount_guest_filesystems = true\n"


def root_to_write(tree: str, access: Access) -> str:
    """The root that allows what is in `tree`, a directory or a volume group's /dev/VG."""
    if tree.startswith("/dev/"):
        lines = f"[[volume_group]]\nname = {_quoted(tree.removeprefix('/dev/'))}"
    else:
        lines = f"[[directory]]\npath = {_quoted(tree)}"
    return f'{lines}\naccess = "{access}"\n'


def why_no_root(path: str, tree: str) -> str | None:
    """Why no root can be written that allows a path in `tree`; None where one can."""
    if "~" in path.split("/"):
        return "A shell replaces '~' at the start of a word only; write the whole path"
    if path == "/dev" or path.startswith("/dev/"):
        with suppress(OSError):
            if stat.S_ISBLK(os.stat(path).st_mode) and not _is_group(tree):
                return f"{path} is a block device, and below /dev there are volumes only, {_VOLUME}"
        return None if _is_group(tree) else f"Below /dev there are volumes only, {_VOLUME}"
    if why := no_place_for_images(tree):
        return f"Nor can it be allowed: {why}"
    return None


_VOLUME: Final = "as /dev/VG/LV"


def _is_group(tree: str) -> bool:
    """Whether `/dev/VG` may be a volume group's; it need not be there, but is no device."""
    name = tree.removeprefix("/dev/")
    return bool(GROUP_NAME.fullmatch(name)) and name != "mapper" and not _is_device(tree)


def _is_device(path: str) -> bool:
    with suppress(OSError):
        return not stat.S_ISDIR(os.stat(path).st_mode)
    return False


def _quoted(text: str) -> str:
    """A TOML string: JSON's escapes are all TOML's too, which has one more."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
