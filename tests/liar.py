"""A server that says what a test wants, byte by byte, whether that is HTTP, S3, true or none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Asked(NamedTuple):
    """A request that came. `headers`: by lower-case names."""

    verb: str
    target: str
    headers: Mapping[str, str]
    body: bytes


#: Gives the whole answer to a request, behind which the connection ends.
Says = Callable[[Asked], bytes]


def answer(body: bytes = b"", status: int = 200, *headers: str, length: int | None = None) -> bytes:
    """An answer as it is sent. `length`: what it says of its body, which may be wrong."""
    told = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {told}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def in_chunks(body: bytes, status: int = 200, *headers: str) -> bytes:
    """An answer that does not say how long it is."""
    lines = [f"HTTP/1.1 {status} X", "Transfer-Encoding: chunked", *headers]
    return "\r\n".join([*lines, "", f"{len(body):x}"]).encode() + b"\r\n" + body + b"\r\n0\r\n\r\n"


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, says: Says) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.says = says
        self.asked: list[Asked] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever had enough of a lie ends the connection."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10
    server: _Server

    def lie(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, self.path, headers, body)
        self.server.asked.append(asked)
        self.wfile.write(self.server.says(asked))
        self.close_connection = True

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = lie

    def log_message(self, *_: object) -> None:
        """Nothing: `asked` has it."""


@contextmanager
def lying(says: Says) -> Iterator[tuple[str, list[Asked]]]:
    """Where the server is (`HOST:PORT`), and what it was asked, from listening to gone."""
    server = _Server(says)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="liar")
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", server.asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
