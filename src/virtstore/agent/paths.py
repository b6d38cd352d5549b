"""Paths that clients name, as text: nothing here looks at a file system."""

from __future__ import annotations

from virtstore.backends.kinds import RESERVED_SUFFIXES
from virtstore.errors import Denied


def refuse_odd(path: str) -> None:
    """Raises `Denied` for what no image or directory of ours may be called."""
    if not path.startswith("/") or "\0" in path or "\n" in path or "\r" in path:
        raise Denied("not an absolute path of one line", path=path)
    parts = path.split("/")
    if ".." in parts:
        raise Denied("a path with '..' is refused; write where it leads", path=path)
    for suffix in RESERVED_SUFFIXES:
        if any(part.endswith(suffix) for part in parts):
            raise Denied(
                f"{suffix} marks what an interrupted operation left; name the image without"
                " it, or remove it with 'virtstore clean'",
                path=path,
            )
