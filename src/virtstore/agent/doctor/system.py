"""The host's kernel, its memory, and where the agent keeps its locks."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from virtstore import linux
from virtstore.agent import locks as image_locks
from virtstore.errors import Error
from virtstore.findings import ok, problem, warning
from virtstore.model import Finding
from virtstore.units import format_size

#: Bytes that an agent with all its threads, and a check of a large file system, may take.
_WANTED: Final = 256 << 20


def kernel() -> Iterator[Finding]:
    release = os.uname().release
    if _has_openat2():
        yield ok(f"Linux {release}")
    else:
        yield problem(
            f"this kernel, {release}, has no openat2, by which images are reached safely",
            "boot Linux 5.6 or later; in a container, its seccomp filter has to allow openat2",
        )


def _has_openat2() -> bool:
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        os.close(linux.open_beneath(root, ".", os.O_PATH))
    except OSError as error:
        return error.errno not in (errno.ENOSYS, errno.EPERM)
    finally:
        os.close(root)
    return True


def memory() -> Iterator[Finding]:
    found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.M)
    available = int(found[1]) << 10 if found else _WANTED
    if available < _WANTED:
        yield warning(
            f"{format_size(available)} of memory are available: a check of a large file system, or"
            " a copy, may fail",
            "end something there, or give the host more memory or swap",
        )
    else:
        yield ok(f"{format_size(available)} of memory are available")


def locks() -> Iterator[Finding]:
    try:
        image_locks.is_held("virtstore doctor")  # which nobody has: it is asked for
    except (Error, OSError) as error:
        told = error.message if isinstance(error, Error) else str(error)
        yield problem(
            f"locks cannot be kept, so nothing can be changed: {told}",
            "mend that on the host; see that the file system of /run has room and is writable",
        )
        return
    yield ok("locks can be kept")
