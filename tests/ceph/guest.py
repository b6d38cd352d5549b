"""Somebody who has an image open and writes to it, as a guest's QEMU does: qemu-io, by librbd.

Host tools needed: qemu-utils, qemu-block-extra.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.waiting import PATIENCE

from .cluster import Cluster

MIB: Final = 1 << 20
#: What a guest writes at once.
BLOCK: Final = 64 << 10
#: It writes as many, and then begins again from the first.
BLOCKS: Final = 32
_PROMPT: Final = b"qemu-io> "


class Guest:
    """Writes one block after the other, and flushes each before the next. Block n is filled with
    the byte `1 + n`, and lies far from its neighbours: `place(n)`."""

    def __init__(self, process: subprocess.Popen[bytes], size: int) -> None:
        self.written = 0
        self._process = process
        self._size = size
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="guest")

    def place(self, n: int) -> int:
        """The byte at which block n is written: in turns, in each quarter of the image."""
        return place(self._size, n)

    def write(self, n: int) -> None:
        self._tell(f"write -q -P {1 + n} {self.place(n)} {BLOCK}")
        self._tell("flush")

    def work(self) -> None:
        """Write one after the other, beside whatever else happens, up to the last block."""
        self._thread.start()

    def end(self) -> None:
        self._stop.set()
        if self._thread.ident:
            self._thread.join()

    def _run(self) -> None:
        while self.written < BLOCKS and not self._stop.wait(0.02):
            self.write(self.written)
            self.written += 1

    def _tell(self, command: str) -> None:
        """Have a command carried out. It takes one at a time: of two lines it reads both, and then
        waits for a third."""
        assert self._process.stdin
        self._process.stdin.write(f"{command}\n".encode())
        self._process.stdin.flush()
        self.wait()

    def wait(self) -> None:
        """Until it asks for the next command."""
        assert self._process.stdout
        said = b""
        while not said.endswith(_PROMPT):
            more = os.read(self._process.stdout.fileno(), 4096)
            assert more, f"qemu-io ended: {said.decode()}"
            said += more
        assert b"failed" not in said, said


def place(size: int, n: int) -> int:
    return (n % 4) * (size // 4) + (n // 4) * 2 * BLOCK


def blocks_in(image: bytes) -> int:
    """How many blocks of a guest an image has. All that it has are the first ones, each whole, or
    it is none that there was at any moment."""
    found = [
        image[start : start + BLOCK] for start in (place(len(image), n) for n in range(BLOCKS))
    ]
    there = [block == bytes([1 + n]) * BLOCK for n, block in enumerate(found)]
    count = there.index(False) if False in there else BLOCKS
    assert not any(there[count:]), f"a later block is there, and an earlier one is not: {there}"
    return count


@contextmanager
def running(cluster: Cluster, image: str, size: int, user: str = "vms") -> Iterator[Guest]:
    """A guest that has `image` (POOL/NAME), of `size` bytes, open for as long as this is."""
    pool, _, name = image.partition("/")
    node = f"driver=rbd,pool={pool},image={name},conf={cluster.conf},user={user}"
    process = subprocess.Popen(
        ["qemu-io", "--image-opts", node],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    guest = Guest(process, size)
    try:
        guest.wait()
        yield guest
    finally:
        guest.end()
        process.communicate(b"quit\n", timeout=PATIENCE)
