"""What a server of S3 refuses, in the words of virtstore's errors.

Source: AWS, "Error responses" in the API reference of Amazon S3.
"""

from __future__ import annotations

import time
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple
from xml.etree import ElementTree

from virtstore.backends.base import Displaced
from virtstore.backends.bucket.address import Address
from virtstore.errors import (
    ConnectionFailed,
    Corrupt,
    Denied,
    Error,
    NoSpace,
    NotFound,
    Unsupported,
)
from virtstore.text import printable

_UNKNOWN_KEY: Final = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthFailure")
_OLD_TOKEN: Final = ("ExpiredToken", "InvalidToken", "TokenRefreshRequired")
_FULL: Final = ("QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "EntityTooLarge")
_ELSEWHERE: Final = ("PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException")
_LONGEST: Final = 200


class Complaint(NamedTuple):
    """A server's refusal. `code`: S3's name of it, "" where there is none; `region`: where the
    bucket is, if the server says so; `date`: the server's time."""

    status: int
    code: str
    message: str
    region: str
    date: str | None

    def error(self, address: Address, action: str, source: str) -> Error:
        """The error for what was to be done. `action`: the permission that it takes; `source`:
        where the credentials are."""
        said, server = self.said, address.server
        if self.code == "RequestTimeTooSkewed":
            return Error(
                f"{server} refuses everything, since the clock of this host is {_off(self.date)};"
                " set it (timedatectl set-ntp true)"
            )
        if self.code in _UNKNOWN_KEY:
            return Denied(
                f"{server} does not know the credentials, or not with that secret ({said}); they"
                f" are from {source}"
            )
        if self.code in _OLD_TOKEN:
            return Denied(
                f"{server} says that the session of the credentials is over ({said}); they are from"
                f" {source}"
            )
        if self.region and (self.status in (301, 307, 400) or self.code in _ELSEWHERE):
            return Error(
                f"{server} says that the bucket is in region {self.region}; write region ="
                f' "{self.region}" to its table in the configuration, and the endpoint of there'
            )
        if self.code in _FULL or self.status == 507:
            return NoSpace(f"{server} takes no more ({said})")
        if self.status == 403:
            return Denied(
                f"{server} does not allow that ({said}); it takes the permission {action}, for the"
                f" credentials from {source}"
            )
        if self.code == "NoSuchBucket":
            return NotFound(
                f"there is no bucket {address.bucket!r} at {server}; see its name in the"
                " configuration"
            )
        if self.code == "NoSuchUpload":
            return Displaced(
                "somebody aborted the upload, as a rule of the bucket's life cycle may, or goes on"
                " with it; run the command again"
            )
        if self.status == 404:
            return NotFound("no such image")
        if self.status in (405, 411, 501) or self.code == "NotImplemented":
            return Unsupported(f"{server} cannot do that ({action}: {said})")
        if self.status >= 500 or self.status in (408, 429):
            return ConnectionFailed(f"{server} fails again and again ({said}); try again later")
        if 300 <= self.status < 400:
            return Error(f"{server} sends elsewhere ({said}); see the endpoint and the region")
        return Error(f"{server} refused {action} ({said})")

    @property
    def said(self) -> str:
        """What the server said, in a line."""
        words = [f"{self.status} {self.code}".strip(), self.message.split("\n")[0][:_LONGEST]]
        return printable(": ".join(filter(None, words)))


def of_answer(status: int, headers: dict[str, str], body: bytes) -> Complaint:
    """The refusal in an answer, whose headers have lower-case names."""
    root = None
    with suppress(Corrupt):
        root = parsed(body) if body else None
    region = headers.get("x-amz-bucket-region", "")
    date = headers.get("date")
    if root is None or not root.tag.endswith("Error"):
        return Complaint(status, "", "", region if status in (301, 307, 400) else "", date)
    code, message = text(root, "Code"), text(root, "Message")
    return Complaint(status, code, message, text(root, "Region") or region, date)


def parsed(body: bytes) -> ElementTree.Element:
    """An answer's XML, without its name space. Raises `Corrupt` for what is none, or declares
    entities: no server of S3 does."""
    if b"<!" in body[:1024].upper().replace(b"<!--", b""):
        raise Corrupt("the server of the bucket sent XML with declarations")
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError:
        raise Corrupt("the server of the bucket sent something else than XML") from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def text(element: ElementTree.Element, name: str) -> str:
    """The text of a child; "" where there is none."""
    return (element.findtext(name) or "").strip()


def behind(date: str | None) -> float | None:
    """Seconds that this host's clock is before the server's, by an answer's Date; None where it
    has none."""
    with suppress(TypeError, ValueError):
        return time.time() - parsedate_to_datetime(date or "").timestamp()
    return None


def _off(date: str | None) -> str:
    seconds = behind(date)
    if seconds is None:
        return "wrong"
    return f"{abs(seconds):.0f} seconds {'fast' if seconds > 0 else 'slow'}"
