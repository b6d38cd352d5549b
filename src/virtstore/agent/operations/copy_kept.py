"""The snapshot that a copy leaves behind, so that the next one reads only what was written since.

Its name has the digest of the image that it is, which is the one that the archive made of it has.
So the snapshot that belongs to a base is found by the base's digest. Another base finds none.
Nothing else is noted anywhere. Of the snapshots for one place of archives the newest is kept.
"""

from __future__ import annotations

import re
from typing import Final

from virtstore.backends.base import Moment
from virtstore.errors import Error, Unsupported, blamed_on
from virtstore.transfer.pieces import Source
from virtstore.transfer.since import Since
from virtstore.transfer.sources import RawSource

#: What the names of snapshots begin with that were kept.
PREFIX: Final = "virtstore-backup-"
#: Digits of an image's digest that are in the name: 128 bits.
_DIGITS: Final = 32
_DIGEST: Final = re.compile("[0-9a-f]{64}")


def kept_name(place: str, digest: str) -> str:
    """The name of the snapshot of an image with this digest, kept for a place of archives."""
    return f"{_beginning(place)}{digest[:_DIGITS]}"


def _beginning(place: str) -> str:
    return f"{PREFIX}{place}-"


class Keeping:
    """The snapshot of a copy, `moment` of the image with this path, which is read as `source`, and
    is kept for the place of archives that `place` stands for."""

    def __init__(self, path: str, moment: Moment, source: Source, place: str) -> None:
        """Raises `Unsupported` for an archive in the image's place."""
        if not isinstance(source, RawSource):
            raise Unsupported(
                "it holds an archive, of which nobody can tell what has changed; leave"
                " --keep-snapshot out"
            )
        self._path = path
        self._moment = moment
        self._source = source
        self._place = place

    def since(self, base: str) -> Source:
        """What the copy reads, where its base holds the image with this digest ("": there is
        none)."""
        changed = None
        if _DIGEST.fullmatch(base):
            changed = self._moment.changed_since(kept_name(self._place, base))
        return Since(self._source, changed) if changed else self._source

    def keep(self, digest: str) -> tuple[str, ...]:
        """Leave the snapshot behind, of which the archive is made that holds an image with this
        digest. Returns why that failed: the archive is there, and whole without."""
        try:
            with blamed_on(self._path):
                self._moment.keep(kept_name(self._place, digest), _beginning(self._place))
        except Error as error:
            return (f"its snapshot was not kept, so the next one reads all of it: {error.message}",)
        return ()
