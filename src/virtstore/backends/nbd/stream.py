"""Bytes from and to a server on a unix socket, each answer by a deadline."""

from __future__ import annotations

import socket
import time
from contextlib import suppress

from virtstore.errors import ConnectionFailed


class Stream:
    """A connection to the socket `path`. What is asked has to be answered within `patience`
    seconds, or `ConnectionFailed` is raised, as it is where the server ends the connection."""

    def __init__(self, path: str, patience: float) -> None:
        self._path = path
        self._patience = patience
        self._deadline = time.monotonic() + patience
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._wait_for_it()
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise ConnectionFailed(f"the NBD server on {path} cannot be reached: {error}") from None

    def ask(self, data: bytes) -> None:
        """Send bytes. What is taken from now on is the answer."""
        self._deadline = time.monotonic() + self._patience
        try:
            self._wait_for_it()
            self._socket.sendall(data)
        except OSError as error:
            raise self._ended(error) from None

    def take(self, length: int) -> bytes:
        """The next `length` bytes."""
        data = bytearray(length)
        self.take_into(memoryview(data))
        return bytes(data)

    def take_into(self, view: memoryview) -> None:
        """Fill `view` with the next bytes."""
        while view:
            try:
                self._wait_for_it()
                count = self._socket.recv_into(view)
            except OSError as error:
                raise self._ended(error) from None
            if count == 0:
                raise self._ended("it ended the connection")
            view = view[count:]

    def close(self, farewell: bytes = b"") -> None:
        """End the connection, with a last word that nobody waits for."""
        with suppress(OSError):
            self._socket.settimeout(0)
            self._socket.send(farewell)
        self._socket.close()

    def _wait_for_it(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:  # a server that sends a byte now and then is not waited for either
            raise TimeoutError(f"no whole answer within {self._patience:.0f} s")
        self._socket.settimeout(left)

    def _ended(self, why: object) -> ConnectionFailed:
        return ConnectionFailed(f"the NBD server on {self._path} went away: {why}")
