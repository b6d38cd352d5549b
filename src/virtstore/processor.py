"""What this machine's processor can do that makes ssh fast."""

from __future__ import annotations

import re
from contextlib import suppress


def has_aes() -> bool:
    """Whether it has instructions for AES (proc(5), cpuinfo)."""
    with suppress(OSError), open("/proc/cpuinfo") as stream:
        return re.search(r"^(flags|Features)\s*:.* aes\b", stream.read(16 << 10), re.M) is not None
    return False
