"""What the backups of an image are called: like the image, without the suffix of its format.

Images of several hosts can have one name. Each has a series of its own all the same: the first
that comes to a directory has the name, the second the name with its host, the third, of that host
too, its whole path with its host.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from virtstore.names import KINDS, OPENED, without_archive_suffix

#: What the name of an image loses, besides the suffix of an archive.
_SUFFIXES: Final = (".img", ".raw", *(suffix for kind in OPENED for suffix in KINDS[kind].suffixes))


def image_name(path: str) -> str:
    """What the image at a path is called: `web` for /images/web.img, /images/web.qcow2.zst and
    /dev/vg0/web."""
    name = path.rstrip("/").rpartition("/")[2]
    bare = without_archive_suffix(name)
    suffix = next((each for each in _SUFFIXES if bare.lower().endswith(each)), "")
    return bare[: len(bare) - len(suffix)] or name


def series_names(path: str, host: str) -> Iterator[str]:
    """What the series of an image may be called, the first that no other image has: `web`, `web@a`,
    `images-web@a`."""
    name = image_name(path)
    yield name
    yield f"{name}@{host}"
    yield f"{image_name(path.strip('/').replace('/', '-'))}@{host}"
