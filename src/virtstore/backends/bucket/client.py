"""Requests to a server of S3: signed, sent over connections that are kept, and tried again.

Any number of threads ask at once, each on a connection of its own. `stop` wakes those that wait for
another try. What is raised is one of virtstore's errors, and never has a secret in it.

Host tools needed: none.

Sources: RFC 9110; AWS, "Common request headers" in the API reference of Amazon S3.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from typing import Final, NamedTuple

from virtstore.backends.bucket import complaints, sigv4
from virtstore.backends.bucket.address import Address
from virtstore.backends.bucket.credentials import Credentials
from virtstore.backends.bucket.patience import BUSY, BUSY_CODES, Patience
from virtstore.errors import ConnectionFailed, Corrupt, Error, Interrupted
from virtstore.version import __version__

#: Seconds without a byte after which a connection is given up.
_TIMEOUT: Final = 60.0
_CONNECT: Final = 10.0
#: The longest answer that is no object's.
_LONGEST: Final = 16 << 20
#: Bytes in which an error says that it is one.
_ERROR: Final = 1024
#: What a connection fails with, and a further try may not.
_BROKEN: Final = (OSError, http.client.HTTPException)


class Body(NamedTuple):
    """What a request carries. `chunks` gives its bytes, anew for each try; `sha256` is in hex,
    `md5` in Base64."""

    length: int
    sha256: str
    md5: str
    chunks: Callable[[], Iterable[bytes | memoryview]]


def body_of(data: bytes) -> Body:
    sha256 = hashlib.sha256(data).hexdigest()
    md5 = hashlib.md5(data, usedforsecurity=False).digest()
    return Body(len(data), sha256, base64.b64encode(md5).decode(), lambda: (data,))


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
        return self.status < 300 and b"<Error>" in self.body[:_ERROR]


class Client:
    """One bucket, asked with one user's credentials."""

    def __init__(
        self,
        address: Address,
        credentials: Credentials,
        region: str,
        patience: Patience | None = None,
    ) -> None:
        self.address = address
        self.credentials = credentials
        self._region = region
        self._patience = patience or Patience()
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._answered = False
        self._is_down = False

    def close(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def ask(
        self,
        method: str,
        key: str,
        action: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body = NOTHING,
        takes: tuple[int, ...] = (),
        most: int = _LONGEST,
        stop: threading.Event | None = None,
    ) -> Answer:
        """Ask, and have the answer. `action`: the permission that it takes, for messages. Statuses
        that are errors are raised, but for those that the caller `takes`. `most`: bytes of the
        answer. Raises `Interrupted` once `stop` is set."""
        stop = stop or threading.Event()
        since, failure = None, None
        for wait in self._patience.waits():
            if stop.is_set():
                raise Interrupted("the upload was stopped")
            try:
                answer = self._once(method, key, query or {}, headers or {}, body, most)
            except _BROKEN as error:
                failure, asked_for = self._broken(error), 0.0
                self.close()  # the server may have closed them all
            else:
                late = method in ("POST", "PUT") and answer.is_error
                if (answer.status < 300 or answer.status in takes) and not late:
                    self._is_down = False
                    return answer._replace(again=since is not None)
                status = 500 if late else answer.status
                complaint = complaints.of_answer(status, answer.headers, answer.body)
                failure = complaint.error(self.address, action, self.credentials.source)
                if status not in BUSY and complaint.code not in BUSY_CODES:
                    raise failure
                asked_for = self._patience.asked_for(answer.headers.get("retry-after"))
            since = since or time.monotonic()
            if time.monotonic() + max(wait, asked_for) - since > self._patient:
                self._is_down = True
                raise failure
            stop.wait(max(wait, asked_for))
        raise AssertionError("patience has no end of its own")

    @property
    def _patient(self) -> float:
        """Seconds for which it is tried again. Once they were for nothing there are no more."""
        if self._is_down:
            return 0
        return self._patience.known if self._answered else self._patience.unknown

    def _broken(self, error: OSError | http.client.HTTPException) -> Error:
        """The error of a connection. Raises it where no further try helps."""
        server = self.address.server
        if isinstance(error, ssl.SSLCertVerificationError):
            raise ConnectionFailed(
                f"the certificate of {server} is not one that this host trusts"
                f" ({error.verify_message}); add the authority that signed it to those of the host"
                " (update-ca-certificates)"
            ) from None
        if isinstance(error, socket.gaierror):
            why = f"its name is not known here ({error.strerror})"
        elif isinstance(error, TimeoutError):
            why = "it does not answer in time"
        elif isinstance(error, ssl.SSLError):
            why = f"it does not speak TLS as expected ({error.reason})"
        else:
            why = (error.strerror if isinstance(error, OSError) else None) or "the connection broke"
        return ConnectionFailed(f"{server} cannot be reached: {why}")

    def _once(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: Body,
        most: int,
    ) -> Answer:
        """One try. Raises what the connection fails with."""
        path = self.address.path(key)
        sent = self._signed(method, path, query, headers, body)
        target = sigv4.encoded_path(path)
        if query:
            target += f"?{sigv4.encoded_query(query)}"
        connection = self._connection()
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in sent.items():
                connection.putheader(name, value)
            early = _send(connection, body)
            # A server that sends headers and body apart waits for our acknowledgement in between.
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            response = connection.getresponse()
            answer = Answer(response.status, _lower(response), _read(response, method, most))
        except BaseException:
            connection.close()
            raise
        self._answered = True
        if response.will_close or early:
            connection.close()
        else:
            with self._lock:
                self._idle.append(connection)
        return answer

    def _signed(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: Body,
    ) -> dict[str, str]:
        """All headers of a request."""
        sent = {name.lower(): value for name, value in headers.items()}
        sent["host"] = self.address.host
        sent["x-amz-date"] = sigv4.stamp(datetime.now(UTC))
        sent["x-amz-content-sha256"] = body.sha256
        if body.length:  # an object that is locked takes nothing without
            sent["content-md5"] = body.md5
        if self.credentials.token:
            sent["x-amz-security-token"] = self.credentials.token
        canonical = sigv4.canonical_request(method, path, query, sent, body.sha256)
        sent["authorization"] = sigv4.authorization(
            canonical,
            sent,
            key_id=self.credentials.key_id,
            secret=self.credentials.secret,
            region=self._region,
        )
        sent["user-agent"] = f"virtstore/{__version__}"
        if method in ("PUT", "POST") or body.length:
            sent["content-length"] = str(body.length)
        return sent

    def _connection(self) -> http.client.HTTPConnection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        host = self.address.host
        connection: http.client.HTTPConnection
        if self.address.secure:
            connection = http.client.HTTPSConnection(host, timeout=_CONNECT, context=self._tls)
        else:
            connection = http.client.HTTPConnection(host, timeout=_CONNECT)
        connection.connect()
        connection.sock.settimeout(_TIMEOUT)
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
    """The whole body of an answer. Raises `Corrupt` where it is longer than it may be."""
    if method == "HEAD":
        response.read()
        return b""
    if response.length is None:
        data = response.read(most + 1)
        if len(data) > most:
            raise Corrupt("the server of the bucket sent more than it was asked for")
        return data
    if response.length > max(most, 1 << 16):
        raise Corrupt("the server of the bucket sent more than it was asked for")
    found = bytearray(response.length)
    view, filled = memoryview(found), 0
    while filled < len(found):
        count = response.readinto(view[filled:])
        if not count:
            raise http.client.IncompleteRead(b"", len(found) - filled)
        filled += count
    with suppress(ValueError):
        response.read()  # so that the connection can be used again
    return bytes(found)
