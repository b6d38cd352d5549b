"""What the mode of a Unix file says that it is."""

from __future__ import annotations

import stat

from virtstore.model import FileKind


def kind_of(mode: int) -> FileKind:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "symlink" if stat.S_ISLNK(mode) else "other"
