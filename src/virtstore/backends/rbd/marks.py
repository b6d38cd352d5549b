"""How an RBD image that is not finished is told from one that is: names, and image metadata.

Whatever is not under its final name has one of these endings, and every step is one command of
`rbd`'s. So what a crash leaves is seen in the pool's listing, and `mend` finishes or undoes it:

    NAME.virtstore-partial     a draft
    NAME.virtstore-rework      an image that is changed in place
    NAME.virtstore-shrinking   an image that is changed under guard: it goes back to its snapshot
                               `virtstore-undo`, if it has that, and gets its name back
    NAME.virtstore-replaced    an old image that a new one replaces, on its way out. Its metadata
                               `virtstore.replaced-by` has the new one's id: it goes if that one has
                               its name, and comes back if nobody has
    IMAGE@virtstore-copying-…  a snapshot that only a copy needs, and whose: its host and process

`rbd rm` takes an image's name away before it removes data: so an image under its name is whole, and
what a crash leaves of one is seen in the trash (removals.py).

An image has metadata of ours under such a name only, and nothing is removed unasked without it.
Drafts have none: an image cannot be made together with it. The metadata `virtstore.lost`
(`virtstore.lost@SNAPSHOT`) stays: it notes what an image had lost when it was made longer.

Sources: rbd(8); librbd's Trash and RemoveRequest; machine-id(5), which asks to be hashed before it
is shown.
"""

from __future__ import annotations

import hashlib
import re
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

from virtstore.backends.base import PARTIAL_SUFFIX, REWORK_SUFFIX
from virtstore.backends.owner import Owner
from virtstore.errors import UsageError

SHRINKING_SUFFIX: Final = ".virtstore-shrinking"
REPLACED_SUFFIX: Final = ".virtstore-replaced"
_SUFFIXES: Final = (
    PARTIAL_SUFFIX,
    REWORK_SUFFIX,
    SHRINKING_SUFFIX,
    REPLACED_SUFFIX,
)

UNDO: Final = "virtstore-undo"
_COPYING: Final = "virtstore-copying-"

#: Keys of image metadata.
REPLACED_BY: Final = "virtstore.replaced-by"
LOST: Final = "virtstore.lost"

#: Letters that every program which takes `POOL/IMAGE@SNAPSHOT` takes for a name's.
_NAME: Final = re.compile(r"(?!-)(?!\.{1,2}$)[A-Za-z0-9+_.:=,-]{1,100}")
#: What `rbd` separates names by, and what no path can have.
_SEPARATORS: Final = re.compile(r"[/@\0\n\r]")


def image_name(name: str) -> str:
    """The final name of the image that has this name now."""
    return name.removesuffix(next(filter(name.endswith, _SUFFIXES), ""))


def can_be_addressed(name: str) -> bool:
    """Whether an image, or a snapshot, of this name has a path."""
    return bool(name) and not _SEPARATORS.search(name) and name not in (".", "..")


def parts(name: str) -> tuple[str, str]:
    """The image and the snapshot that `IMAGE@SNAPSHOT` names; "" for no snapshot."""
    image, _, snapshot = name.partition("@")
    return image, snapshot


def check_name(name: str) -> None:
    """Raises `UsageError` for what cannot be the name of a new image, or of a new snapshot:
    whatever others have called its image."""
    image, snapshot = parts(name)
    part = snapshot if "@" in name else image
    if not _NAME.fullmatch(part):
        raise UsageError(
            f"{part!r} is no name for an RBD image or its snapshot: letters, digits and"
            " + _ . : = , - only, at most 100, and no '-' at the start"
        )
    refuse_ours(name)


def refuse_ours(name: str) -> None:
    """Raises `UsageError` for a name by which something is known as not finished."""
    if name.endswith(_SUFFIXES) or is_ours(parts(name)[1]):
        raise UsageError(f"{name!r} is called like what virtstore has while it is not finished")


def is_ours(snapshot: str) -> bool:
    """Whether a snapshot is one that only an operation of ours needs."""
    return snapshot == UNDO or snapshot.startswith(_COPYING)


def copying() -> str:
    """The name of a snapshot for a copy of this process."""
    return f"{_COPYING}{_host()}.{Owner.here().text}"


def is_orphaned(snapshot: str) -> bool:
    """Whether a snapshot was made for a copy that nobody makes any more, as far as this host can
    tell: of another host's copies it knows nothing."""
    if not snapshot.startswith(_COPYING):
        return False
    host, _, text = snapshot.removeprefix(_COPYING).partition(".")
    owner = Owner.parse(text)
    return owner is not None and host == _host() and not owner.is_alive()


def _host() -> str:
    """What tells this host from all others that reach the cluster, across its boots."""
    known = socket.gethostname()
    with suppress(OSError):
        known = Path("/etc/machine-id").read_text().strip() or known
    return hashlib.sha256(f"virtstore {known}".encode()).hexdigest()[:16]
