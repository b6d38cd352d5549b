"""What the file system of a directory may lack, in the words of `DirectoryInfo.lacks`, and what
virtstore does instead."""

from __future__ import annotations

from typing import Final

INSTEAD: Final = {
    "rename without replacing": "a new image gets its name by a hard link",
    "new names": "nothing new can be made, as there are no hard links either;"
    " 'copy --overwrite' can",
    "holes": "every image is read whole",
    "reserved space": "zeros are written instead, before anything else",
    "zeroing": "zeros are written instead",
    "files without a name": "they have one for a moment",
    "extended attributes": "a resize that was cut short leaves no note of that, nor 'grow' of what"
    " the image had lost",
    "locks": "what was cut short does not go on, but is refused until 'clean' has removed it",
    "flushing of directories": "the whole file system is flushed",
    "file modes": "the mount decides who may read images",
}
