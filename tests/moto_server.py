"""An S3 server of this machine: moto's, in a process of its own, with what it holds in memory.

It knows S3's requests and conditions. It looks at signatures only once it was told to (`watchful`),
and then at IAM's policies as well. Needed: moto, flask and flask-cors, of the extra `dev`.
"""

from __future__ import annotations

import http.client
import secrets
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from . import waiting
from .hosts.sshd import free_port
from .s3 import Bucket
from .waiting import PATIENCE

_SIGNED: Final = "AWS4-HMAC-SHA256 Credential=anybody/20250101/us-east-1"
_START: Final = "from moto.server import main; import sys; main(sys.argv[1:])"


@dataclass(frozen=True)
class Moto:
    at: str

    def bucket(self, name: str) -> Bucket:
        """A new bucket. Credentials are made up: nobody looks at them before `watchful`."""
        made = Bucket(self.at, name, f"AKIA{secrets.token_hex(8).upper()}", secrets.token_hex(20))
        made.make()
        return made

    @contextmanager
    def watchful(self) -> Iterator[None]:
        """Requests are answered only to whom their signature shows, and IAM allows."""
        self._ask("POST", "/moto-api/reset-auth", "0", plain=True)
        try:
            yield
        finally:
            self._ask("POST", "/moto-api/reset-auth", "inf", plain=True)

    def user(self, name: str, policy: str) -> tuple[str, str]:
        """The access key and the secret of a new user of IAM, whom this policy document allows what
        it says."""
        self._iam(Action="CreateUser", UserName=name)
        self._iam(
            Action="PutUserPolicy", UserName=name, PolicyName="backups", PolicyDocument=policy
        )
        told = self._iam(Action="CreateAccessKey", UserName=name)
        return _text(told, "AccessKeyId"), _text(told, "SecretAccessKey")

    def _iam(self, **asked: str) -> str:
        body = urllib.parse.urlencode({**asked, "Version": "2010-05-08"})
        return self._ask("POST", "/", body, service="iam")

    def _ask(
        self, verb: str, path: str, body: str, service: str = "", *, plain: bool = False
    ) -> str:
        # What is a form is taken for one, and is no body any more.
        headers = {"content-type": "text/plain" if plain else "application/x-www-form-urlencoded"}
        if service:  # which of all that moto plays is meant
            headers["authorization"] = f"{_SIGNED}/{service}/aws4_request"
        connection = http.client.HTTPConnection(self.at, timeout=PATIENCE)
        try:
            connection.request(verb, path, body, headers)
            reply = connection.getresponse()
            told = reply.read().decode()
            assert reply.status == 200, told
            return told
        finally:
            connection.close()


def _text(xml: str, tag: str) -> str:
    return xml.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]


@contextmanager
def running(log: Path) -> Iterator[Moto]:
    """A server, from answering to gone."""
    port = free_port()
    with log.open("wb") as told:
        process = subprocess.Popen(
            [sys.executable, "-c", _START, "-H", "127.0.0.1", "-p", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=told,
        )
    try:
        waiting.until(lambda: process.poll() is not None or _answers(port), "moto to answer")
        assert process.poll() is None, log.read_text()
        yield Moto(f"127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait(PATIENCE)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/moto-api/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
