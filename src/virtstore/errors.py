"""What can go wrong, one class per kind.

Error                code "failed"       exit 1    anything without a code of its own
├── UsageError       code "usage"        exit 2    the command line, or an argument
├── NotFound         code "not-found"    exit 3    no such image, directory, VG or host path
├── Exists           code "exists"       exit 4    the target is there
├── Denied           code "denied"       exit 5    the host's configuration does not allow it
├── InUse            code "in-use"       exit 6    somebody uses the image
├── NoSpace          code "no-space"     exit 7    not enough room
├── Unsafe           code "unsafe"       exit 8    it would lose data, or cannot be shown not to
├── Corrupt          code "corrupt"      exit 9    contents fail their checks
├── ConnectionFailed code "connection"   exit 10   the host cannot be reached, or went away
├── Unsupported      code "unsupported"  exit 11   this host, type or file system cannot do that
├── LeftRunning      code "left-running" exit 1    a tool takes too long, and goes on by itself
└── Interrupted      code "interrupted"  exit 130  Ctrl-C

A message says what was refused, why, and what to do about it; where it happened
(host and path) is carried beside it, so that whoever prints it can put it in front.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Final

#: What this machine is called in messages and in JSON.
LOCAL_NAME: Final = "local"

#: Who may remove what an interrupted command left. Who may only make images may not: what is listed
#: as partial may be another's.
WHO_CLEANS: Final = "whoever has \"write\" there removes it with 'virtstore clean'"

#: What to do where there is not room enough.
FREE_OR_CHOOSE: Final = "free space there, or choose another place"


def spelled(host: str, path: str) -> str:
    """The location of a path, as a user would type it. `host` is `LOCAL_NAME`, `[USER@]HOST`,
    or `ssh://[USER@]HOST:PORT`."""
    if host == LOCAL_NAME:
        return path
    if path.startswith("//") and not host.startswith("ssh://"):
        host = f"ssh://{host}"  # HOST:// would begin a URL of another kind
    if host.startswith("ssh://"):
        return host + path.replace("%", "%25")
    return f"{host}:{path}"


class Error(Exception):
    """Base of every error that virtstore raises on purpose.

    `message` is whole sentences for a person; `host` and `path` say where, as
    far as that is known where the error is raised.
    """

    code: ClassVar[str] = "failed"
    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, *, host: str | None = None, path: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.host = host
        self.path = path

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message

    @property
    def where(self) -> str:
        """`host:path`, or as much of it as is known; empty if nothing is."""
        if self.host in (None, LOCAL_NAME):
            return self.path or ""
        assert self.host
        return spelled(self.host, self.path) if self.path else self.host


class UsageError(Error):
    code = "usage"
    exit_status = 2


class NotFound(Error):
    code = "not-found"
    exit_status = 3


class Exists(Error):
    code = "exists"
    exit_status = 4


class Denied(Error):
    code = "denied"
    exit_status = 5


class InUse(Error):
    code = "in-use"
    exit_status = 6


class NoSpace(Error):
    code = "no-space"
    exit_status = 7


class Unsafe(Error):
    code = "unsafe"
    exit_status = 8


class Corrupt(Error):
    code = "corrupt"
    exit_status = 9


class ConnectionFailed(Error):
    code = "connection"
    exit_status = 10


class Unsupported(Error):
    code = "unsupported"
    exit_status = 11


class LeftRunning(Error):
    """A tool that changes an image takes too long, and goes on: stopping it could do harm."""

    code = "left-running"


class Interrupted(Error):
    code = "interrupted"
    exit_status = 130


#: What the kernel's numbers are called in our errors; anything else is `failed`.
_CODES: Final = {
    errno.ENOSPC: "no-space",
    errno.EDQUOT: "no-space",
    errno.EFBIG: "no-space",
    errno.ENOENT: "not-found",
    errno.EEXIST: "exists",
    errno.ENAMETOOLONG: "usage",
    errno.EACCES: "denied",
    errno.EPERM: "denied",
    errno.EROFS: "denied",
    errno.ETXTBSY: "in-use",
}

#: What has happened to what holds an image (`_holder`), and what to do.
_REMEDIES: Final = {
    errno.ENOSPC: f"is full; {FREE_OR_CHOOSE}",
    errno.EDQUOT: (
        "has a quota, which is used up; free space there, have the quota raised, or choose another"
        " place"
    ),
    errno.EFBIG: (
        "takes no file so large, or a limit of this host forbids it (ulimit -f); choose another"
        " place, or have the limit raised"
    ),
    errno.EROFS: (
        "is mounted read-only; have it mounted for writing (if a damaged disk made it so, that"
        " host's kernel log, dmesg, tells of it), or choose another place"
    ),
}

_CLASSES: list[type[Error]] = [Error, *Error.__subclasses__()]
_BY_CODE: dict[str, type[Error]] = {c.code: c for c in _CLASSES}


def from_code(
    code: str, message: str, *, host: str | None = None, path: str | None = None
) -> Error:
    """The error that an agent reported; an unknown code becomes a plain `Error`."""
    return _BY_CODE.get(code, Error)(message, host=host, path=path)


def from_os_error(error: OSError, *, path: str | None = None) -> Error:
    """The error that the kernel's is to a user."""
    code = _CODES.get(error.errno or 0, "failed")
    message = error.strerror or str(error)
    if error.errno == errno.ENAMETOOLONG:
        message += " for what an image is called while it is being made; choose a shorter name"
    if error.errno == errno.EIO:
        message += " of the disk or what serves it; that host's kernel log (dmesg) tells of which"
    other = _other_file(error, path)
    if remedy := _REMEDIES.get(error.errno or 0):
        message += f": {_holder(path, other)} {remedy}, then run the same command again"
    elif other:
        message += f" ({other})"
    return from_code(code, message, path=path)


def _other_file(error: OSError, path: str | None) -> str | None:
    """The file that an error is about, if it is another than `path`, such as where locks are kept.
    The name of a descriptor tells nobody anything."""
    about = error.filename
    if not isinstance(about, str) or about == path or about.startswith("/proc/"):
        return None
    return about if about.startswith("/") else None


def _holder(path: str | None, other: str | None) -> str:
    """What a message calls that which holds an image: `path`, which stands in front of the message,
    or another file."""
    about = other or path or "/"
    if not about.startswith("/") or about.startswith(("/dev/", "/s3/")):
        return f"what holds {other or 'it'}"
    return f"the file system that holds {other or 'it'}"


def no_image_but(what: str, *, path: str | None = None) -> NotFound:
    """The error for what holds images, where one of them was meant: `what`, such as a directory."""
    return NotFound(f"it is {what}, not an image; 'virtstore list' shows what is in it", path=path)


@contextmanager
def blamed_on(path: str) -> Iterator[None]:
    """What fails in here is about `path`, unless it says that it is about another."""
    try:
        yield
    except Error as error:
        error.path = error.path or path
        raise
    except OSError as error:
        raise from_os_error(error, path=path) from error
