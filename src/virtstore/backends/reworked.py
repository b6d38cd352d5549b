"""An image that is its own draft (`Store.rework`), whatever it is stored in.

It has its final name until its first byte changes, and gets it back by `publish`: from the
one to the other its contents are neither the old nor the new.
"""

from __future__ import annotations

import threading
from typing import cast

from virtstore.backends.base import ImageDraft, Look, Version, nothing
from virtstore.backends.descriptor import DescriptorImage
from virtstore.backends.version import written
from virtstore.errors import InUse


class Reworked(DescriptorImage):
    """Goes before a draft's class among the bases. `named`: it has its final name still;
    `before`: called before that goes, and may raise; `begun`: what it was when it was opened."""

    named = False
    whole = False
    begun: Version | None = None
    before: Look = staticmethod(nothing)
    _hiding = threading.Lock()  # several threads write

    def hide(self) -> None:
        """Take the final name from it, for good."""
        raise NotImplementedError

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self._lose_name()
        super().write_at(offset, data)

    def zero(self, offset: int, length: int) -> None:
        self._lose_name()
        cast(ImageDraft, super()).zero(offset, length)

    def publish(self, *, overwrite: bool, like: str | None = None) -> None:
        if self.named:
            self._require_as_begun()
            self.flush()
            self.whole = False
        else:
            cast(ImageDraft, super()).publish(overwrite=False)

    def _lose_name(self) -> None:
        with self._hiding:
            if self.named:
                self.before()
                self._require_as_begun()
                self.hide()
                self.named = False

    def _require_as_begun(self) -> None:
        """What was compared with what is to be in it must be what is there."""
        now = cast(ImageDraft, self).version
        if self.begun and (seen := written(self.begun, now)):
            raise InUse(
                f"somebody wrote to it while it was being compared ({seen}); nothing of it was"
                " changed; run the same command again"
            )
