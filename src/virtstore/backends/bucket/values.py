"""What a server of S3 tells of objects and uploads, as values.

Source: AWS, API reference of Amazon S3 (ListObjectsV2, ListParts, "Checking object integrity").
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from virtstore.backends.bucket.client import Answer
from virtstore.backends.bucket.complaints import text
from virtstore.errors import Corrupt


class Object(NamedTuple):
    """`modified`: nanoseconds since the epoch."""

    key: str
    size: int
    etag: str
    modified: int


class Page(NamedTuple):
    """What a listing gives at once: objects, and the prefixes that others have."""

    objects: tuple[Object, ...]
    prefixes: tuple[str, ...]


class Upload(NamedTuple):
    """An upload in parts that was begun and is neither whole nor aborted."""

    key: str
    id: str
    modified: int


class Part(NamedTuple):
    number: int
    etag: str
    size: int


def combined(parts: Sequence[Part]) -> str:
    """The ETag that an object of these parts has, where a part's is its MD5."""
    digests = b""
    for part in parts:
        try:
            digests += bytes.fromhex(part.etag.strip('"'))
        except ValueError:
            return ""
    return f'"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"'


def decoder(root: ElementTree.Element) -> Callable[[str], str]:
    """What makes a key of the text that stands for it."""
    return unquote_plus if text(root, "EncodingType") == "url" else str


def object_of(element: ElementTree.Element, decode: Callable[[str], str]) -> Object:
    key = decode(element.findtext("Key") or "")
    modified = moment_of(text(element, "LastModified"))
    return Object(key, number_of(element, "Size"), text(element, "ETag"), modified)


def of_headers(key: str, answer: Answer) -> Object:
    modified = 0
    with suppress(TypeError, ValueError):
        date = parsedate_to_datetime(answer.headers.get("last-modified", ""))
        modified = int(date.timestamp()) * 10**9
    size = answer.headers.get("content-length", "")
    if not size.isdigit():
        raise Corrupt("the server of the bucket does not say how long an object is")
    return Object(key, int(size), answer.headers.get("etag", ""), modified)


def number_of(element: ElementTree.Element, name: str) -> int:
    number = text(element, name)
    if not number.isdigit():
        raise Corrupt(f"the server of the bucket sent {name} without a number")
    return int(number)


def moment_of(said: str) -> int:
    """Nanoseconds since the epoch; 0 where it is no time."""
    with suppress(ValueError):
        moment = datetime.fromisoformat(said.replace("Z", "+00:00"))
        return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()) * 10**9
    return 0
