"""An image that is changed in place (`Store.rework`), whatever it is stored in.

It has its final name until its first byte changes, and gets it back by `publish`: from the
one to the other its contents are neither the old nor the new.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from virtstore.backends.base import Image, Look, Version
from virtstore.backends.version import written
from virtstore.errors import InUse

#: What is said where another image has the name by now.
RENAMED: Final = (
    "somebody put another in its place, or took it away, while it was being compared; what is there"
    " now was left alone; run the same command again"
)


class InPlace:
    """Whether an image that is changed in place has its final name still, and how it loses it.

    `hide` takes the name away, for good. `same` raises where another image has the name by now.
    """

    def __init__(self, image: Image, hide: Look, same: Look) -> None:
        self.named = False
        self._image = image
        self._hide = hide
        self._same = same
        self._before: Callable[[Image], None] = lambda image: None
        self._begun: Version | None = None
        self._hiding = threading.Lock()  # several threads write

    def begin(self, before: Callable[[Image], None], begun: Version | None = None) -> None:
        """The image has its name. `before` is called before it loses that, and may raise; `begun`
        is the version that is compared with what is to be in it."""
        self.named, self._before, self._begun = True, before, begun

    def lose_name(self) -> None:
        """Called before each change: before the first the name is taken away."""
        with self._hiding:
            if self.named:
                self._before(self._image)
                self.require_same()
                self._hide()
                self.named = False

    def require_same(self) -> None:
        """Raises `InUse` where the image is not any more what it was when this began."""
        if self._begun and (seen := written(self._begun, self._image.version)):
            raise InUse(
                f"somebody wrote to it while it was being compared ({seen}); nothing of it was"
                " changed; run the same command again"
            )
        self._same()
