"""RBD images in the making, and those that are changed in place."""

from __future__ import annotations

import time
from typing import Final

from virtstore.backends.base import PARTIAL_SUFFIX, Holds, ImageDraft
from virtstore.backends.in_place import RENAMED, InPlace
from virtstore.backends.rbd.ahead import Ahead
from virtstore.backends.rbd.image import Pool, RbdImage
from virtstore.backends.rbd.looking import another
from virtstore.backends.rbd.report import Listed
from virtstore.backends.rbd.serving import Served, serve
from virtstore.errors import InUse
from virtstore.undo import undone_by

#: Seconds in which who took up a draft that was just made sees that it is another's.
_YIELDING: Final = 5.0


class RbdDraft(RbdImage, ImageDraft):
    """An image under its temporary name. The daemon has it from the first moment to the last, so
    that other hosts see that somebody works on it. It can be published, but not written, once it is
    finished."""

    def __init__(
        self, pool: Pool, image: Listed, name: str, holds: Holds, served: Served | None = None
    ) -> None:
        super().__init__(pool, image, writable=True)
        self.holds: Holds = holds
        self.whole = False
        self._name = name
        self._disk = served
        if served:
            pool.count(image, served=1)
        _ = self._served

    def finish(self) -> None:
        self.flush()
        self.whole = True

    def note_losses(self, note: str) -> bool:
        if self.holds == "zeros" and not note:
            return True  # a new image has none
        return self._pool.note((self._pool.now(self._image) or self._image).name, note)

    def publish(self, *, overwrite: bool, like: str | None = None) -> None:
        self.finish()
        self._pool.publish(self._image, self._name, overwrite=overwrite)
        self._stop()
        self.whole = False


class ReworkedRbd(RbdDraft):
    """An image that is changed in place."""

    def __init__(self, pool: Pool, image: Listed, name: str) -> None:
        super().__init__(pool, image, name, "kept")
        self.in_place = InPlace(self, lambda: pool.hide(name), self._require_named)

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self.in_place.lose_name()
        super().write_at(offset, data)

    def zero(self, offset: int, length: int) -> None:
        self.in_place.lose_name()
        super().zero(offset, length)

    def publish(self, *, overwrite: bool, like: str | None = None) -> None:
        self.finish()
        if not self.in_place.named:
            self._pool.show(self._name)
        self._stop()
        self.whole = False

    def _require_named(self) -> None:
        self._pool.images.refresh()
        present = self._pool.now(self._image)
        if present is None or present.name != self._name:
            raise InUse(RENAMED)


def opened(pool: Pool, name: str, holds: Holds) -> RbdDraft:
    """The draft of that name which is there, opened. Raises `InUse` where another host has opened
    it, too."""
    file = name + PARTIAL_SUFFIX
    listed = Ahead(lambda: pool.images.get(file))
    served = serve(pool.cluster, file, writable=True)
    with undone_by(served.close):
        image = listed.result()
    draft = RbdDraft(pool, image, name, holds, served)
    with undone_by(draft.close):
        deadline = time.monotonic() + (_YIELDING if holds == "zeros" else 0)
        while others := pool.watchers(image):
            if time.monotonic() > deadline:
                raise another(others)
            time.sleep(0.2)
    return draft
