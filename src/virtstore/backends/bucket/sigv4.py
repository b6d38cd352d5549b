"""How a request to S3 is signed: AWS Signature Version 4, in the Authorization header.

Pure functions: nothing is read and nothing is sent. The body is in the signature by its SHA-256, so
a server that checks it stores what was meant, over plain HTTP too.

Source: AWS, "Authenticating Requests: Using the Authorization Header (AWS Signature Version 4)" in
the API reference of Amazon S3, whose worked examples are the tests.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Final
from urllib.parse import quote

ALGORITHM: Final = "AWS4-HMAC-SHA256"

#: What stays as it is in a path or a query, beside letters and digits. S3 encodes a path once.
_UNRESERVED: Final = "-._~"


def encoded_path(path: str) -> str:
    """A path as it is sent, and signed."""
    return quote(path, safe=f"/{_UNRESERVED}")


def encoded_query(query: Mapping[str, str]) -> str:
    """A query as it is sent, and signed: sorted, each name with its value."""
    pairs = [(_encoded(name), _encoded(value)) for name, value in query.items()]
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def stamp(moment: datetime) -> str:
    """A moment, in UTC, as `x-amz-date` has it."""
    return f"{moment:%Y%m%dT%H%M%SZ}"


def canonical_request(
    method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], payload: str
) -> str:
    """The text that stands for a request. `path`: not encoded; `headers`: all that are signed, by
    lower-case names; `payload`: the hex SHA-256 of the body."""
    lines = [f"{name}:{' '.join(headers[name].split())}\n" for name in sorted(headers)]
    return "\n".join(
        (
            method,
            encoded_path(path),
            encoded_query(query),
            "".join(lines),
            _names(headers),
            payload,
        )
    )


def string_to_sign(canonical: str, when: str, region: str) -> str:
    """The text of which a signature is made. `when`: as `stamp` gives it."""
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return "\n".join((ALGORITHM, when, _scope(when, region), digest))


def signature(text: str, secret: str, when: str, region: str) -> str:
    """The hex signature of a text."""
    key = f"AWS4{secret}".encode()
    for part in (when[:8], region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def authorization(
    canonical: str, headers: Mapping[str, str], *, key_id: str, secret: str, region: str
) -> str:
    """The value of the Authorization header for a canonical request. `headers`: as it has them,
    with `x-amz-date`."""
    when = headers["x-amz-date"]
    signed = signature(string_to_sign(canonical, when, region), secret, when, region)
    credential = f"{key_id}/{_scope(when, region)}"
    return f"{ALGORITHM} Credential={credential},SignedHeaders={_names(headers)},Signature={signed}"


def _encoded(text: str) -> str:
    return quote(text, safe=_UNRESERVED)


def _names(headers: Mapping[str, str]) -> str:
    return ";".join(sorted(headers))


def _scope(when: str, region: str) -> str:
    return f"{when[:8]}/{region}/s3/aws4_request"
