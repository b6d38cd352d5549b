"""Paths that clients name, as text: nothing here looks at a file system."""

from __future__ import annotations

from virtstore.backends.base import PARTIAL_SUFFIX, REWORK_SUFFIX
from virtstore.backends.final_names import STEPS
from virtstore.errors import Denied


def within(path: str, tree: str) -> bool:
    """Whether `path`, a normal one, is `tree` or lies below it."""
    return path == tree or path.startswith(tree.rstrip("/") + "/")


def unclear(path: str) -> str | None:
    """Why a path that an administrator wrote does not say clearly which directory is meant."""
    if not path:
        return "it is empty"
    if any(character in path for character in "\0\n\r"):
        return "it is not one line"
    if path.startswith(("~", "$")):
        return f"there is no shell here that knows what {path.split('/')[0]!r} is"
    if not path.startswith("/"):
        return "it is not absolute"
    if ".." in path.split("/"):
        return "it has a '..' in it"
    return None


def refuse_odd(path: str) -> None:
    """Raises `Denied` for what no image or directory of ours may be called."""
    if not path.startswith("/") or "\0" in path or "\n" in path or "\r" in path:
        raise Denied("not an absolute path of one line", path=path)
    parts = path.split("/")
    if ".." in parts:
        raise Denied("a path with '..' is refused; write where it leads", path=path)
    for suffix in (PARTIAL_SUFFIX, REWORK_SUFFIX, *STEPS):
        if any(part.endswith(suffix) for part in parts):
            raise Denied(
                f"{suffix} marks what an interrupted operation left; name the image without"
                " it, or remove it with 'virtstore clean'",
                path=path,
            )
