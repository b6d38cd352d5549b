"""An XFS in a sparse file: room that this machine's disk has not, and files that share blocks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo.loopback import find

from bench.configured import configured
from bench.place import Place


def possible() -> bool:
    """Whether one can be made and mounted here."""
    return os.geteuid() == 0 and find("mkfs.xfs") is not None


@contextmanager
def mounted(place: Place, host: str, size: int) -> Iterator[Path]:
    """Its directory, mounted while this lasts, and one more root in a host's configuration."""
    file, directory = place.scratch / "xfs.img", place.scratch / "xfs"
    directory.mkdir()
    with file.open("wb") as image:
        image.truncate(size)
    subprocess.run([find("mkfs.xfs") or "mkfs.xfs", "-q", str(file)], check=True)
    # Without allocsize it keeps more at the end of a file that grows than the file needs. With
    # discard the file that it is in gives back what is removed.
    options = "loop,discard,allocsize=64k"
    subprocess.run(["mount", "-o", options, str(file), str(directory)], check=True)
    try:
        table = f'[[directory]]\npath = "{directory}"\naccess = "write"\n'
        with configured(place.scratch / host / "config.toml", table):
            yield directory
    finally:
        # Lazily: what was interrupted may still have a file open for a moment.
        subprocess.run(["umount", "--lazy", str(directory)], check=True)
        directory.rmdir()
        file.unlink()
