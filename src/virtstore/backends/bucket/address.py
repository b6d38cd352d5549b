"""Where a bucket is: its server, and how its name stands in a request."""

from __future__ import annotations

import re
from typing import Final, NamedTuple, Self
from urllib.parse import urlsplit

#: A bucket whose name can be a part of the server's name, and of its certificate's.
_AS_HOST: Final = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")


class Address(NamedTuple):
    """`host`: as the Host header has it, with a port unless it is the usual one; `path_style`: the
    bucket's name begins the path, and is no part of the host's name."""

    secure: bool
    host: str
    bucket: str
    path_style: bool

    @classmethod
    def of(cls, endpoint: str, bucket: str, path_style: bool | None) -> Self:
        """The address of a bucket at an endpoint, `https://HOST[:PORT]`. Raises ValueError, with
        what is wrong with the endpoint."""
        url = urlsplit(endpoint)
        if url.scheme not in ("http", "https"):
            raise ValueError("it begins with https://, as https://s3.example.com")
        if url.path not in ("", "/") or url.query or url.fragment or "@" in url.netloc:
            raise ValueError("it is https:// and the server's name, maybe a port, and nothing else")
        host = url.netloc.rpartition(":")[0] if url.port is not None else url.netloc
        if not _HOST.fullmatch(host):
            raise ValueError(f"{host!r} is no server's name")
        secure = url.scheme == "https"
        usual = url.port in (None, 443 if secure else 80)
        if path_style is None:
            path_style = not (host.endswith("amazonaws.com") and _AS_HOST.fullmatch(bucket))
        name = host.lower() if path_style else f"{bucket}.{host.lower()}"
        return cls(secure, name if usual else f"{name}:{url.port}", bucket, path_style)

    @property
    def server(self) -> str:
        """What it is called in messages."""
        return f"{'https' if self.secure else 'http'}://{self.host}"

    def path(self, key: str) -> str:
        """The path of an object, or of the bucket ("")."""
        return f"/{self.bucket}/{key}" if self.path_style else f"/{key}"
