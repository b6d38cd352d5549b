"""What a callback hears of the progress of an operation."""

from __future__ import annotations

from virtstore.progress import Progress, ProgressCallback, Stage
from virtstore.protocol import Progressed


class Teller:
    """Makes events of the progress of an operation, for a callback."""

    def __init__(self, operation: str, callback: ProgressCallback | None) -> None:
        self._operation = operation
        self._callback = callback
        self._total = 0

    def __call__(self, stage: Stage, done: int = 0, total: int = 0) -> None:
        self._total = total or self._total
        if self._callback:
            self._callback(Progress(self._operation, done, total, stage))

    def heard(self, message: Progressed) -> None:
        """Pass on the progress that an agent told."""
        self(message.stage, message.done, message.total)

    def done(self, size: int | None) -> None:
        """Tell that the operation has ended well. `size`: bytes of the image, as far as that is
        known."""
        total = self._total or size or 0
        self("done", total, total)


def unheard(message: Progressed) -> None:
    """Pass nothing on."""
