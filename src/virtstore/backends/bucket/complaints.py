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
from virtstore.backends.bucket.patience import BUSY_CODES
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
#: The statuses of errors that came behind the status 200.
_LATE: Final = {"AccessDenied": 403, "NoSuchUpload": 404, "PreconditionFailed": 412}
#: Seconds from which on a server of S3 refuses a clock.
_SKEWED: Final = 900
_SEE: Final = "see its endpoint in the configuration"


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
        if self.is_of_the_clock:
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
                f"there is no bucket {address.bucket!r} at {server}; see 'bucket' and 'endpoint' in"
                " its table of the configuration, or make it"
            )
        if self.code == "NoSuchUpload":
            return Displaced(
                "somebody aborted the upload, as a rule of the bucket's life cycle may, or goes on"
                " with it; run the command again"
            )
        if self.code == "NoSuchKey":
            return NotFound("no such image")
        if self.status == 404:
            return NotFound(
                f"{server} does not know what was asked for ({said}); see the endpoint in the"
                " configuration, which is that of a server of S3"
            )
        if self.status in (405, 411, 501) or self.code == "NotImplemented":
            return Unsupported(f"{server} cannot do that ({action}: {said})")
        if self.status >= 500 or self.status in (408, 429):
            return ConnectionFailed(f"{server} fails again and again ({said}); try again later")
        if 300 <= self.status < 400:
            return Error(f"{server} sends elsewhere ({said}); see the endpoint and the region")
        return Error(f"{server} refused {action} ({said})")

    @property
    def is_of_the_clock(self) -> bool:
        """Whether it is refused for this host's clock. What answers HEAD has no words for that."""
        off = behind(self.date) if self.status == 403 and not self.code else None
        return self.code == "RequestTimeTooSkewed" or (off is not None and abs(off) > _SKEWED)

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


def status_of(body: bytes) -> int:
    """The status of an error that came behind the status 200."""
    code = of_answer(200, {}, body).code
    return _LATE.get(code, 500 if not code or code in BUSY_CODES else 400)


def result(body: bytes) -> ElementTree.Element:
    """The XML of an answer that is no error. Raises `Corrupt` where it is none of S3's."""
    root = parsed(body)
    if not root.tag.endswith(("Result", "Response")):
        raise Corrupt(f"what answers for the bucket is no server of S3; {_SEE}")
    return root


def parsed(body: bytes) -> ElementTree.Element:
    """An answer's XML, without its name space. Raises `Corrupt` for what is none, or declares
    entities: no server of S3 does."""
    if b"<!DOCTYPE" in body or b"<!doctype" in body:
        raise Corrupt(f"what answers for the bucket sent XML with declarations; {_SEE}")
    try:
        root = ElementTree.fromstring(body.strip())  # some send white space while they work
    except ElementTree.ParseError:
        raise Corrupt(f"what answers for the bucket sent no XML; {_SEE}") from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def text(element: ElementTree.Element, name: str) -> str:
    """The text of a child; "" where there is none."""
    return (element.findtext(name) or "").strip()


def behind(date: str | None) -> float | None:
    """Seconds that this host's clock is before the server's, by an answer's Date; None where it
    has none."""
    sent = seconds_of(date)
    return None if sent is None else time.time() - sent


def seconds_of(date: str | None) -> float | None:
    """The seconds since the epoch of a date in a header; None where it is none."""
    with suppress(TypeError, ValueError, OverflowError):
        return parsedate_to_datetime(date or "").timestamp()
    return None


def _off(date: str | None) -> str:
    seconds = behind(date)
    if seconds is None:
        return "wrong"
    return f"{abs(seconds):.0f} seconds {'fast' if seconds > 0 else 'slow'}"
