"""What can go wrong between virtstore and an S3 server, made to happen: a proxy that counts.

It passes requests on as they are, the Host that they are signed with included, so a server that
checks signatures takes them. A `Fault` is what becomes of the next requests that fit it.
"""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections import Counter
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Literal

from .waiting import PATIENCE, until

Kind = Literal["answer", "cut-request", "cut-answer", "slow", "lost-answer"]

_STEP: Final = 64 << 10
_ERROR: Final = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    "<Error><Code>{code}</Code><Message>made to happen by a test</Message></Error>"
)
_HOP: Final = ("connection", "keep-alive", "transfer-encoding", "server", "date")


@dataclass
class Fault:
    """`answer`: the server is not asked, and this is said instead (`status`, `code`). `cut-request`
    and `cut-answer`: the connection ends once `after` bytes of a body have come through.
    `lost-answer`: the server does it, and nobody hears of it. `slow`: `seconds` before the answer.

    It happens to the next `times` requests (-1: to all) of a `verb` ("": any) whose target has
    `target` in it, and that have a `header` and lack another ("": any)."""

    kind: Kind
    verb: str = ""
    target: str = ""
    header: str = ""
    lacks: str = ""
    times: int = 1
    status: int = 500
    code: str = "InternalError"
    after: int = 0
    seconds: float = 0.0

    def fits(self, verb: str, target: str, headers: Container[str]) -> bool:
        asked_so = self.verb in ("", verb) and self.target in target
        with_it = not self.header or self.header in headers
        without = not self.lacks or self.lacks not in headers
        return self.times != 0 and asked_so and with_it and without


@dataclass(frozen=True)
class Asked:
    """A request that came. `sent`: bytes of its body; `got`: bytes of the answer's."""

    verb: str
    target: str
    range: str
    sent: int
    got: int
    status: int


@dataclass
class Proxy:
    at: str
    faults: list[Fault] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    #: Headers that the server does not get, in lower case: as if it did not know of them.
    drops: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    #: Requests that came and are not in `asked` yet.
    in_hand: int = 0
    #: Set by a test that has seen enough of a request that is kept waiting.
    go_on: threading.Event = field(default_factory=threading.Event)

    def happen(self, kind: Kind, **what: object) -> Fault:
        fault = Fault(kind, **what)  # type: ignore[arg-type]
        with self.lock:
            self.faults.append(fault)
        return fault

    def fault_of(self, verb: str, target: str, headers: Container[str]) -> Fault | None:
        with self.lock:
            fault = next((each for each in self.faults if each.fits(verb, target, headers)), None)
            if fault:
                fault.times -= 1
            return fault

    def forget(self) -> None:
        """Forget what was asked so far, and what was to go wrong. What is still under way is waited
        for: it would be counted with what comes."""
        with self.lock:
            self.faults.clear()
        until(lambda: not self.in_hand, "requests to end")
        with self.lock:
            self.asked.clear()

    @property
    def verbs(self) -> Counter[str]:
        with self.lock:
            return Counter(each.verb for each in self.asked)

    def sent(self) -> int:
        """Bytes of all bodies that went to the server."""
        with self.lock:
            return sum(each.sent for each in self.asked)

    def got(self) -> int:
        with self.lock:
            return sum(each.got for each in self.asked)


class _Cut(Exception):
    """The connection ends here."""


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 128

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.proxy = Proxy(f"127.0.0.1:{self.server_port}")
        self.open: set[socket.socket] = set()

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever cut a connection knows of it."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.open.add(self.connection)
        self.upstream = http.client.HTTPConnection(self.server.upstream, timeout=PATIENCE)

    def finish(self) -> None:
        self.upstream.close()
        self.server.open.discard(self.connection)
        with suppress(OSError):
            super().finish()

    def log_message(self, *_: object) -> None:
        """Nothing: `Proxy.asked` has it."""

    def pass_on(self) -> None:
        proxy = self.server.proxy
        with proxy.lock:
            proxy.in_hand += 1
        fault = proxy.fault_of(self.command, self.path, {name.lower() for name in self.headers})
        sent = got = status = 0
        try:
            body = self._body(fault)
            sent = len(body)
            if fault and fault.kind == "answer":
                status, got = fault.status, self._say(fault)
                return
            reply = self._ask(body)
            status = reply.status
            if fault and fault.kind == "slow":
                proxy.go_on.wait(fault.seconds)
            if fault and fault.kind == "lost-answer":
                reply.read()
                raise _Cut
            got = self._answer(reply, fault)
        except (_Cut, OSError, http.client.HTTPException):
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
        finally:
            span = self.headers.get("Range", "")
            with proxy.lock:
                proxy.asked.append(Asked(self.command, self.path, span, sent, got, status))
                proxy.in_hand -= 1

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on

    def _body(self, fault: Fault | None) -> bytes:
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        left = int(self.headers.get("Content-Length", 0))
        parts: list[bytes] = []
        while left:
            part = self.rfile.read(min(_STEP, left))
            if not part:
                raise _Cut
            parts.append(part)
            left -= len(part)
            if fault and fault.kind == "cut-request" and sum(map(len, parts)) >= fault.after:
                raise _Cut
        if fault and fault.kind == "cut-request":
            raise _Cut
        return b"".join(parts)

    def _ask(self, body: bytes) -> http.client.HTTPResponse:
        self.upstream.close()  # one that the server has given up would look like a fault
        self.upstream.putrequest(self.command, self.path, True, True)
        for name, value in self.headers.items():
            if name.lower() not in {"connection", "expect", *self.server.proxy.drops}:
                self.upstream.putheader(name, value)
        self.upstream.endheaders(body or None)
        return self.upstream.getresponse()

    def _answer(self, reply: http.client.HTTPResponse, fault: Fault | None) -> int:
        self.send_response_only(reply.status)
        told = reply.getheader("Content-Length")
        data = b"" if self.command == "HEAD" else reply.read()
        for name, value in reply.getheaders():
            if name.lower() not in (*_HOP, "content-length"):
                self.send_header(name, value)
        self.send_header("Date", self.date_time_string(time.time()))
        length = told if self.command == "HEAD" and told is not None else str(len(data))
        self.send_header("Content-Length", length)
        self.end_headers()
        if fault and fault.kind == "cut-answer":
            self.wfile.write(data[: fault.after])
            self.wfile.flush()
            raise _Cut
        self.wfile.write(data)
        return len(data)

    def _say(self, fault: Fault) -> int:
        text = b"" if self.command == "HEAD" else _ERROR.format(code=fault.code).encode()
        self.send_response_only(fault.status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
        return len(text)


@contextmanager
def between(upstream: str) -> Iterator[Proxy]:
    """A proxy to a server (`HOST:PORT`), from listening to gone."""
    server = _Server(upstream)
    listening = threading.Thread(target=server.serve_forever, args=(0.02,), name="fault proxy")
    listening.start()
    try:
        yield server.proxy
    finally:
        server.proxy.go_on.set()
        server.shutdown()
        listening.join()
        for each in list(server.open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        server.server_close()
