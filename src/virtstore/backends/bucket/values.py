"""What a server of S3 tells of objects and uploads, as values.

Source: AWS, API reference of Amazon S3 (ListObjectsV2, ListParts, "Checking object integrity").
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from virtstore.backends.bucket.complaints import seconds_of, text
from virtstore.backends.bucket.connections import Answer
from virtstore.errors import Corrupt

#: Digits that a number has at the most.
_DIGITS: Final = 18


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


def plain(etag: str) -> str:
    """An ETag without what servers, and those between, do not agree on: its quotes, and its mark of
    weakness."""
    return etag.removeprefix("W/").strip('"')


def decoder(root: ElementTree.Element) -> Callable[[str], str]:
    """What makes a key of the text that stands for it."""
    return unquote_plus if text(root, "EncodingType") == "url" else str


def goes_on(root: ElementTree.Element, query: dict[str, str], from_: dict[str, str]) -> bool:
    """Whether more of a listing is to be asked for: the query says from where then. Raises
    `Corrupt` for a server that does not say it, and would tell the same again."""
    if text(root, "IsTruncated") != "true":
        return False
    if not any(from_.values()) or from_.items() <= query.items():
        raise Corrupt(
            "the server of the bucket says that a listing goes on, and not where; nothing can be"
            " said of what it holds"
        )
    query.update(from_)
    return True


def object_of(element: ElementTree.Element, decode: Callable[[str], str]) -> Object:
    key = decode(element.findtext("Key") or "")
    modified = moment_of(text(element, "LastModified"))
    return Object(key, number_of(element, "Size"), text(element, "ETag"), modified)


def of_headers(key: str, answer: Answer, size: int | None = None) -> Object:
    """An object by its headers. `size`: of what is not told as a whole."""
    modified = int(seconds_of(answer.headers.get("last-modified")) or 0) * 10**9
    if size is None:
        size = _number(answer.headers.get("content-length", ""))
    if size is None:
        raise Corrupt("the server of the bucket does not say how long an object is")
    return Object(key, size, answer.headers.get("etag", ""), modified)


def number_of(element: ElementTree.Element, name: str) -> int:
    number = _number(text(element, name))
    if number is None:
        raise Corrupt(f"the server of the bucket sent {name} without a number")
    return number


def _number(said: str) -> int | None:
    return int(said) if said.isdecimal() and len(said) <= _DIGITS else None


def moment_of(said: str) -> int:
    """Nanoseconds since the epoch; 0 where it is no time."""
    with suppress(ValueError, OverflowError):
        moment = datetime.fromisoformat(said.replace("Z", "+00:00"))
        return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()) * 10**9
    return 0
