"""What speaks for a guest's agent: to libvirt it is one that freezes and thaws file systems.

The guest (guest.py) opens the port and is silent; QEMU and libvirt both connect to a socket of
ours, and what libvirt asks is answered here. Source: QEMU's "Guest agent protocol".
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .libvirt_host import LibvirtHost

#: Where that host has the socket.
_SOCKET: Final = "/run/agent.sock"

#: What a domain has that can have an agent.
CHANNEL: Final = (
    '<channel type="unix"><source mode="connect" path="/run/agent.sock"/>'
    '<target type="virtio" name="org.qemu.guest_agent.0"/></channel>'
)


class GuestAgent:
    """`asked`: what it was asked to do, in order. `goes_on`: while this is not set, it does not
    answer that it has frozen."""

    def __init__(self, path: Path) -> None:
        self.asked: list[str] = []
        self.goes_on = threading.Event()
        self.goes_on.set()
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        path.chmod(0o777)
        self._listening.listen()
        self._start(self._accept)

    @property
    def freezes(self) -> list[str]:
        return [each for each in self.asked if "fsfreeze" in each]

    def close(self) -> None:
        self.goes_on.set()
        for each in (self._listening, *self._connections):
            each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join()

    def _start(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection.makefile("rb") as lines:
                for line in lines:
                    connection.sendall(self._answer(json.loads(line.lstrip(b"\xff"))))
        except OSError:
            return

    def _answer(self, question: dict[str, object]) -> bytes:
        asked = str(question["execute"])
        if asked.startswith("guest-sync"):
            arguments = question["arguments"]
            assert isinstance(arguments, dict)
            start = b"\xff" if asked.endswith("delimited") else b""
            return start + json.dumps({"return": arguments["id"]}).encode() + b"\n"
        self.asked.append(asked)
        if asked == "guest-fsfreeze-freeze":
            self.goes_on.wait()
        return b'{"return": 1}\n'


@contextmanager
def guest_agent(libvirt: LibvirtHost) -> Iterator[GuestAgent]:
    """The agent of a guest that is started meanwhile, with `CHANNEL`."""
    path = libvirt.directory / _SOCKET.lstrip("/")
    agent = GuestAgent(path)
    try:
        yield agent
    finally:
        agent.close()
        path.unlink()
