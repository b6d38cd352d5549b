"""The client of S3 servers, against one that says what a test wants: TLS, clocks, secrets."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from virtstore.backends.bucket import health
from virtstore.backends.bucket.address import Address
from virtstore.backends.bucket.client import Client
from virtstore.backends.bucket.credentials import Credentials
from virtstore.backends.bucket.patience import Patience
from virtstore.errors import ConnectionFailed, Corrupt, Denied

_SECRET = "of-which-nobody-is-told"
_LIST = b'<?xml version="1.0"?>\n<ListBucketResult/>'


class _Server(ThreadingHTTPServer):
    """Answers every request alike. `asked`: what came."""

    daemon_threads = False
    status, body = 200, _LIST

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever trusts no certificate ends the connection."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10
    server: _Server

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.path}\n{self.headers}")
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[_Server]:
    server = _Server()
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def client_of(server: _Server, scheme: str = "http", host: str = "127.0.0.1") -> Client:
    address = Address.of(f"{scheme}://{host}:{server.server_port}", "vms", None)
    who = Credentials("AKID", _SECRET, "", "a test")
    return Client(address, who, "us-east-1", Patience(0.01, 0.02, 0.1, 0.1))


def asked(client: Client) -> bytes:
    with closing(client):
        return client.ask("GET", "", "s3:ListBucket", query={"list-type": "2"}).body


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of localhost, signed by itself, with its key in the same file."""
    made = tmp_path_factory.mktemp("tls") / "both.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost", "-out", str(made)),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", str(made.with_name("key"))),
        ],
        check=True,
        capture_output=True,
    )
    made.write_text(made.read_text() + made.with_name("key").read_text())
    return made


@pytest.fixture
def tls(certificate: Path) -> Iterator[_Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serving(context) as server:
        yield server


def test_a_server_whose_certificate_the_host_trusts_is_asked(
    tls: _Server, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert asked(client_of(tls, "https", "localhost")) == _LIST


def test_a_server_that_the_host_does_not_trust_is_told_nothing(tls: _Server) -> None:
    with pytest.raises(ConnectionFailed, match="update-ca-certificates"):
        asked(client_of(tls, "https", "localhost"))
    assert tls.asked == []


def test_a_certificate_of_another_name_is_not_trusted(
    tls: _Server, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with pytest.raises(ConnectionFailed, match="certificate"):
        asked(client_of(tls, "https"))
    assert tls.asked == []


def test_the_secret_is_in_no_request_and_in_no_error() -> None:
    with serving() as server:
        server.status, server.body = 403, b"<Error><Code>AccessDenied</Code></Error>"
        with pytest.raises(Denied) as raised:
            asked(client_of(server))
    assert "s3:ListBucket" in raised.value.message
    assert all(_SECRET not in text for text in (*server.asked, repr(raised.value)))
    assert "Signature=" in server.asked[0]


def test_an_answer_that_is_longer_than_it_may_be_is_refused() -> None:
    with serving() as server, closing(client_of(server)) as client:
        server.body = bytes(1 << 17)
        with pytest.raises(Corrupt):
            client.ask("GET", "k", "s3:GetObject", most=1 << 10)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://no-such-host.invalid"])
def test_a_server_that_is_not_there_is_named(endpoint: str) -> None:
    who = Credentials("AKID", _SECRET, "", "a test")
    client = Client(Address.of(endpoint, "vms", None), who, "r", Patience(0.01, 0.02, 0.1, 0.1))
    with pytest.raises(ConnectionFailed, match=endpoint):
        asked(client)


@pytest.mark.parametrize(("off", "severity"), [(0, "ok"), (400, "warning"), (-400, "warning")])
def test_doctor_tells_of_a_clock_that_is_off(
    off: int, severity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "behind", lambda date: float(off))
    with serving() as server, closing(client_of(server)) as client:
        found = list(health.examine("/s3/b", client, "read"))
    assert found[0].severity == severity
    assert "in clear" in found[-1].what
    if off:
        assert "400" in found[0].what


def test_doctor_tells_of_what_refuses_everything() -> None:
    with serving() as server, closing(client_of(server)) as client:
        server.status, server.body = 403, b"<Error><Code>RequestTimeTooSkewed</Code></Error>"
        found = next(health.examine("/s3/b", client, "read"))
    assert found.severity == "problem"
    assert "clock" in found.what
    assert isinstance(found.remedy, str)
