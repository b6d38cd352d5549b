"""What a tool complains of, as a message shows it."""

from __future__ import annotations

import re
from typing import Final

from virtstore.text import remark

#: What a tool puts before a message: the name that it was given of its device.
_DEVICE: Final = re.compile(rb"^/proc/self/fd/\d+(?:\?offset=\d+)?(?:: | )")


def first_complaint(output: bytes, banner: re.Pattern[bytes] | None = None) -> str:
    """The first thing that a tool said, but for lines that match `banner`: one printable line."""
    lines = (line.strip() for line in output.splitlines())
    said = (line for line in lines if line and not (banner and banner.match(line)))
    return remark(_DEVICE.sub(b"", next(said, b"it does not say why")))
