"""A bucket of an S3 server as a test sees it, beside virtstore: what is in it, and what is left.

Requests are signed by ten lines of this file, so nothing of what is tested is believed. Sources:
"Signature Version 4 signing process" and the API reference of Amazon S3.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import re
import urllib.parse
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from typing import Final

from .waiting import PATIENCE

_REGION: Final = "us-east-1"


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]

    def all_of(self, tag: str) -> list[str]:
        """The texts of these elements of an XML answer."""
        return [unescape(t) for t in re.findall(f"<{tag}>(.*?)</{tag}>", self.body.decode())]


@dataclass(frozen=True)
class Bucket:
    """A bucket at an endpoint (`HOST:PORT`), and who may use it."""

    at: str
    name: str
    access_key: str
    secret: str

    @property
    def endpoint(self) -> str:
        return f"http://{self.at}"

    @property
    def environment(self) -> dict[str, str]:
        """By what an agent of this machine knows who it is."""
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret}

    def through(self, at: str) -> Bucket:
        """The same, reached by way of a proxy."""
        return replace(self, at=at)

    def table(self, name: str = "backups", access: str = "write", **more: str | int) -> str:
        """The table of a configuration that allows it as /s3/NAME."""
        said = {"name": name, "endpoint": self.endpoint, "bucket": self.name, "access": access}
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in {**said, **more}.items()]
        return "\n[[bucket]]\n" + "".join(lines)

    def write_credentials(self, home: Path) -> None:
        """The file in which the agents of a user with this home directory find who they are."""
        file = home / ".aws" / "credentials"
        file.parent.mkdir(exist_ok=True)
        file.write_text(
            f"[default]\naws_access_key_id = {self.access_key}\n"
            f"aws_secret_access_key = {self.secret}\n"
        )
        file.chmod(0o600)

    def ask(
        self, verb: str, key: str = "", query: str = "", body: bytes = b"", **more: str
    ) -> Answer:
        """One signed request. `query` is in the order of its names; `more` are headers."""
        path = urllib.parse.quote(f"/{self.name}/{key}" if key else f"/{self.name}")
        headers = self._signed(verb, path, query, body)
        connection = http.client.HTTPConnection(self.at, timeout=PATIENCE)
        try:
            headers |= {name.replace("_", "-"): value for name, value in more.items()}
            connection.request(verb, f"{path}?{query}" if query else path, body or None, headers)
            reply = connection.getresponse()
            return Answer(reply.status, reply.read(), dict(reply.getheaders()))
        finally:
            connection.close()

    def _signed(self, verb: str, path: str, query: str, body: bytes) -> dict[str, str]:
        now, digest = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}", hashlib.sha256(body).hexdigest()
        headers = {"host": self.at, "x-amz-content-sha256": digest, "x-amz-date": now}
        scope = f"{now[:8]}/{_REGION}/s3/aws4_request"
        named = "".join(f"{name}:{value}\n" for name, value in headers.items())
        canonical = "&".join(q if "=" in q else f"{q}=" for q in query.split("&") if q)
        asked = f"{verb}\n{path}\n{canonical}\n{named}\n{';'.join(headers)}\n{digest}"
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(asked.encode()).hexdigest()}"
        key = b"AWS4" + self.secret.encode()
        for word in (*scope.split("/"), text):
            key = hmac.digest(key, word.encode(), "sha256")
        who = f"Credential={self.access_key}/{scope}, SignedHeaders={';'.join(headers)}"
        return {**headers, "authorization": f"AWS4-HMAC-SHA256 {who}, Signature={key.hex()}"}

    def make(self) -> None:
        assert self.ask("PUT").status == 200

    def make_locked(self, days: int) -> None:
        """Make it with versions, and an object lock that holds each of them for so many days."""
        assert self.ask("PUT", x_amz_bucket_object_lock_enabled="true").status == 200
        rule = f"<Mode>COMPLIANCE</Mode><Days>{days}</Days>"
        lock = f"""<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule>
            <DefaultRetention>{rule}</DefaultRetention></Rule></ObjectLockConfiguration>"""
        assert self.ask("PUT", query="object-lock=", body=lock.encode()).status == 200

    def versions(self) -> list[str]:
        """The keys of all versions of objects, those that were replaced or removed included."""
        told = self.ask("GET", query="versions=").body.decode()
        return re.findall(r"<Version>.*?<Key>(.*?)</Key>", told, re.S)

    def put(self, key: str, body: bytes) -> None:
        answer = self.ask("PUT", key, body=body)
        assert answer.status == 200, answer

    def get(self, key: str) -> bytes:
        answer = self.ask("GET", key)
        assert answer.status == 200, answer
        return answer.body

    def keys(self) -> list[str]:
        """The keys of all objects (of the first thousand), sorted."""
        return self.ask("GET", query="list-type=2").all_of("Key")

    def uploads(self) -> list[str]:
        """The keys of the uploads that were begun, and neither completed nor aborted."""
        return self.ask("GET", query="uploads=").all_of("Key")

    def nothing_is_left(self) -> None:
        assert (self.keys(), self.uploads()) == ([], [])
