"""Which processes have which files open, and which of these processes are virtstore's own.

Every descriptor of every process is looked at by stat(2) alone: what it is open for, and whose it
is, costs ten times that and is read of those only that somebody asks about.

Source: proc(5) on fd, fdinfo, stat and status.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from virtstore.backends.base import Identity

#: How an agent is called: `python -m virtstore.agent`, or the installed script, with or without its
#: interpreter; words end with NUL.
_AGENT: Final = re.compile(
    r"([^\0]*/)?python[\d.]*\0(-X\0utf8\0|-\w+\0)*(-m\0virtstore\.agent|([^\0]*/)?virtstore-agent)\0"
    r"|([^\0]*/)?virtstore-agent\0"
)


class Descriptor(NamedTuple):
    process: int
    number: str

    def flags(self) -> int:
        """As open(2) has them. `OSError` where it is closed by now."""
        if self.process == os.getpid():  # a listing has hundreds open
            return fcntl.fcntl(int(self.number), fcntl.F_GETFL)
        text = read(f"/proc/{self.process}/fdinfo/{self.number}")
        return int(next(line for line in text.splitlines() if line.startswith("flags:"))[6:], 8)


OpenFiles = Mapping[Identity, Sequence[Descriptor]]


def numbers() -> list[int]:
    """All processes that this one can see."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def open_files(among: Iterable[int]) -> OpenFiles:
    """Every regular file and block device that some processes have open, by what it is."""
    found: dict[Identity, list[Descriptor]] = defaultdict(list)
    for process in among:
        with suppress(OSError):  # it has ended, or is another user's
            for identity, descriptor in _of_process(process):
                found[identity].append(descriptor)
    return found


def identity_of(status: os.stat_result) -> Identity:
    if stat.S_ISBLK(status.st_mode):
        return status.st_rdev, 0
    return status.st_dev, status.st_ino


def name_of(process: int) -> str:
    """What it calls itself."""
    return read(f"/proc/{process}/comm").rstrip("\n")


def ancestry(process: int) -> Iterator[int]:
    """A process, its parent, and so on. `OSError` where one has ended."""
    while process > 1:
        yield process
        process = int(read(f"/proc/{process}/stat").rpartition(")")[2].split()[1])


def is_agent(process: int) -> bool:
    """Whether a process is an agent of this one's user. Another user's may call itself so, too."""
    status = read(f"/proc/{process}/status")
    uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
    if set(uids) != {str(os.geteuid())}:
        return False
    return _AGENT.match(read(f"/proc/{process}/cmdline")) is not None


def read(path: str) -> str:
    with open(path, errors="surrogateescape") as stream:
        return stream.read()


def _of_process(process: int) -> Iterator[tuple[Identity, Descriptor]]:
    directory = os.open(f"/proc/{process}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for number in os.listdir(directory):
            with suppress(OSError):  # it is closed by now
                status = os.stat(number, dir_fd=directory)
                if stat.S_ISREG(status.st_mode) or stat.S_ISBLK(status.st_mode):
                    yield identity_of(status), Descriptor(process, number)
    finally:
        os.close(directory)
