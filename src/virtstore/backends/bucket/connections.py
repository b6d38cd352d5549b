"""Connections to a server of S3, which are kept, and one request over one of them.

Nothing here is tried again, and nothing is known of what is asked.

Sources: RFC 9110; RFC 9112.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from typing import Final, NamedTuple

from virtstore.backends.bucket.address import Address
from virtstore.errors import Corrupt

#: Seconds without a byte after which a connection is given up.
TIMEOUT: Final = 60.0
_CONNECT: Final = 10.0
_LONGEST_ERROR: Final = 64 << 10
#: An answer that is an error. Before it a server that has begun its answer may send white space,
#: for as long as it works.
_ERROR: Final = re.compile(rb"\s*(<\?xml[^>]*>)?\s*<Error[\s>]")


class Body(NamedTuple):
    """What a request carries. `chunks` gives its bytes, anew for each try; `sha256` is in hex,
    `md5` in Base64."""

    length: int
    sha256: str
    md5: str
    chunks: Callable[[], Iterable[bytes | memoryview]]


def body_of(data: bytes) -> Body:
    return body_of_chunks(len(data), lambda: (data,))


def body_of_chunks(length: int, chunks: Callable[[], Iterable[bytes | memoryview]]) -> Body:
    """What chunks of so many bytes in all come to. To hash them takes a while."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    for chunk in chunks():
        sha256.update(chunk)
        md5.update(chunk)
    return Body(length, sha256.hexdigest(), base64.b64encode(md5.digest()).decode(), chunks)


NOTHING: Final = body_of(b"")


class Answer(NamedTuple):
    """`headers`: by lower-case names; `again`: it was asked for more than once, so the server may
    have done it more than once."""

    status: int
    headers: dict[str, str]
    body: bytes
    again: bool = False

    @property
    def is_error(self) -> bool:
        """Whether it is an error although its status, which is sent first, says otherwise."""
        return self.status < 300 and _ERROR.match(self.body) is not None


class Connections:
    """Those to one server. Any number of threads have one each at once."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close those that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def exchange(
        self, method: str, target: str, headers: Mapping[str, str], body: Body, most: int
    ) -> Answer:
        """A request's answer, of at most so many bytes. Raises what the connection fails with."""
        connection = self._connection()
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            early = _send(connection, body)
            # A server that sends headers and body apart waits for our acknowledgement in between.
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            response = connection.getresponse()
            answer = Answer(response.status, _lower(response), _read(response, method, most))
        except BaseException:
            connection.close()
            raise
        if response.will_close or early:
            connection.close()
        else:
            with self._lock:
                self._idle.append(connection)
        return answer

    def _connection(self) -> http.client.HTTPConnection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        host = self._address.host
        connection: http.client.HTTPConnection
        if self._address.secure:
            connection = http.client.HTTPSConnection(host, timeout=_CONNECT, context=self._tls)
        else:
            connection = http.client.HTTPConnection(host, timeout=_CONNECT)
        connection.connect()
        connection.sock.settimeout(TIMEOUT)
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()


def _send(connection: http.client.HTTPConnection, body: Body) -> bool:
    """Send the headers and the body. Whether the server closed before it had all: it may have
    answered, and says why."""
    connection.endheaders()
    try:
        for chunk in body.chunks():
            connection.send(chunk)
    except (BrokenPipeError, ConnectionResetError):
        return True
    return False


def _lower(response: http.client.HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.getheaders()}


def _read(response: http.client.HTTPResponse, method: str, most: int) -> bytes:
    """The whole body of an answer. Raises `Corrupt` where it is longer than it may be, or than an
    error is."""
    if method == "HEAD":
        response.read()
        return b""
    most, told = max(most, _LONGEST_ERROR), response.length
    data = response.read(most + 1) if told is None or told > most else response.read(told)
    if len(data) > most:
        raise Corrupt("the server of the bucket sent more than it was asked for")
    if told is not None and len(data) < told:
        raise http.client.IncompleteRead(b"", told - len(data))
    with suppress(ValueError):
        response.read()  # so that the connection can be used again
    return data
