"""Where an image is: a host and a path, in the spellings that scp, rsync and URLs use.

    /path  ./path  name            on this machine (a slash before any colon, or no colon)
    HOST:/path  USER@HOST:/path    on that host; ssh's own configuration applies
    ssh://[USER@]HOST[:PORT]/path  the same as a URL
    HOST:  ssh://HOST  local:      a host as a whole

Nothing here touches a file system or a network. What could be mistaken for an
option by a program (a host or user that begins with `-`) or split a line (NUL,
line breaks) is refused before anything is started.
"""

from __future__ import annotations

import os
import pwd
import re
from contextlib import suppress
from typing import Final, NamedTuple

from virtstore.errors import LOCAL_NAME, NotFound, UsageError, spelled

_REMOTE: Final = re.compile(r"((?:[^/:\[\]]*@)?(?:\[[^/\]]*\]|[^/:]*)):(.*)")
_HOST: Final = re.compile(r"\[[0-9A-Fa-f:.%\w]+\]|[^\s/@\[\]:]+")
_USER: Final = re.compile(r"[^\s/@:\[\]]+")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)")
#: `[USER@]HOST:PORT` with a path, or without one.
_PORT: Final = re.compile(r"((?:[^/:@]+@)?(?:[^/:@\[\]]+|\[[^/\]]+\])):(\d+):?((?:/.*)?)")
#: What can only be an IPv6 address that lacks its brackets, and what follows its last colon.
_BARE_IPV6: Final = re.compile(
    r"((?:[^/:@]+@)?)([0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*(?<!.:)(?:%[\w.-]+)?|::)(?::(/.*)?)?"
)


class HostAddress(NamedTuple):
    """How ssh reaches a host; `host` is None for this machine."""

    host: str | None = None
    user: str | None = None
    port: int | None = None

    @property
    def name(self) -> str:
        """What to call the host in messages and JSON: `local`, or the name as the user wrote it,
        with user, port and brackets: written again, it is the same host (see `errors.spelled`)."""
        if self.host is None:
            return LOCAL_NAME
        return str(self) if self.port else self.destination

    def __str__(self) -> str:
        if self.host is None:
            return "local:"
        port = f":{self.port}" if self.port else ""
        return f"ssh://{self.destination}{port}"

    @property
    def destination(self) -> str:
        """`[USER@]HOST`, an IPv6 address in brackets."""
        user = f"{self.user}@" if self.user else ""
        return f"{user}[{self.host}]" if ":" in (self.host or "") else f"{user}{self.host}"


LOCAL: Final = HostAddress()

#: What stands for the path of standard input or output, as the source or the target of a copy. No
#: image has it: a root has a name of its own.
PIPE: Final = "/-"


class Location(NamedTuple):
    """A path on a host; `path` is None for the host as a whole, absolute otherwise."""

    address: HostAddress
    path: str | None = None

    def __str__(self) -> str:
        if self.address.host is None:
            return self.path or "local:"
        return spelled(self.address.name, self.path or "")


def parse_location(text: str, *, directory: str | None = None) -> Location:
    """The location that `text` names; a relative local path starts at `directory`
    (the working directory by default). Raises `UsageError`."""
    _refuse_odd_text(text)
    if not text:
        raise UsageError("an empty location; write /path, HOST:/path or ssh://HOST/path")
    if scheme := _SCHEME.fullmatch(text):
        if scheme[1].lower() != "ssh":
            raise UsageError(_other_scheme(text, scheme[1].lower(), scheme[2]))
        return _parse_url(text, scheme[2])
    remote = _REMOTE.fullmatch(text)
    if not remote:
        return Location(LOCAL, absolute(text, directory))
    _refuse_other_spellings(text)
    before, after = remote.groups()
    if before == LOCAL_NAME:
        return Location(LOCAL, absolute(after, directory) if after else None)
    address = _parse_destination(before, text)
    if after and not after.startswith("/"):
        # '~' is a home directory's, which a shell there would know.
        whole = re.sub(r"^~[^/]*/?", "home/…/", after)
        raise UsageError(
            f"{text}: a path on another host is absolute; write"
            f" {before}:/{'' if whole != after else '…/'}{whole.lstrip(':/')}"
            f" (or ./{text} for a local file of that name)"
        )
    return Location(address, after or None)


def _other_scheme(text: str, scheme: str, rest: str) -> str:
    """Why a URL that is none of ssh's is refused, and what to write."""
    why = f"{text}: '{scheme}://' is no way to reach an image;"
    host, slash, path = rest.partition("/")
    without_port = re.sub(r":\d*$", "", host)
    if scheme == "file":
        there = "" if host in ("", "localhost") else f"{host}:"
        return f"{why} write {there}/{path}"
    if scheme in ("http", "https", "ftp", "ftps"):
        return (
            f"{why} download it first (curl -O {text}), or write {without_port}:/path if ssh goes"
        )
    if scheme in ("sftp", "scp", "ssh+git", "sshfs") and host:
        return f"{why} write ssh://{host}{slash}{path}"
    if host:
        return f"{why} write {without_port}:/{path or 'path'}: hosts are reached by ssh"
    return f"{why} write /path, HOST:/path or ssh://HOST/path"


def _refuse_other_spellings(text: str) -> None:
    """Raises `UsageError` for what other programs take, with what is to be written here."""
    local = f" (or ./{text} for a local file of that name)"
    if bare := _BARE_IPV6.fullmatch(text):
        user, host, path = bare.groups()
        right = f"{user}[{host}]:{path or ''}"
        raise UsageError(f"{text!r}: an IPv6 address stands in brackets; write {right}{local}")
    if port := _PORT.fullmatch(text):
        where, number, path = port.groups()
        right = f"ssh://{where}:{number}{path}"
        raise UsageError(f"{text!r}: a port needs a URL; write {right}{local}")
    if own := re.fullmatch(r"ssh:([^/:]+)(?::(/.*)?)?", text):  # as connect() takes a host
        right = f"{own[1]}:{own[2] or ''}"
        raise UsageError(f"{text}: a host stands here as ssh has it; write {right}{local}")
    host, colons, path = text.partition("::")
    if colons and "/" not in host and "[" not in host and ":" not in host:
        right = f"{host}:/{path.lstrip('/')}" if host else "HOST:/path"
        raise UsageError(
            f"{text!r}: two colons name a module of an rsync daemon; hosts are reached by ssh:"
            f" write {right}{local}"
        )


def parse_host(text: str) -> HostAddress:
    """The host that `text` names: `local:`, `HOST`, `USER@HOST`, `HOST:`, `ssh:HOST`
    or `ssh://…` without a path. Raises `UsageError`."""
    if not _SCHEME.fullmatch(text):
        text = text.removeprefix("ssh:")
    _refuse_odd_text(text)
    if text.removesuffix(":") == LOCAL_NAME:
        return LOCAL
    if "/" not in text and not text.endswith(":"):
        _refuse_other_spellings(text)
        if re.search(r"[\s,{}]|\[\d+-", text):
            raise UsageError(
                f"{text!r} is no host; several are several words, which a shell makes of"
                " node{1..3}"
            )
        return _parse_destination(text, text)
    location = parse_location(text)
    if location.path not in (None, "/"):
        raise UsageError(f"{text}: a host is wanted here, without a path")
    return location.address


def absolute(path: str, directory: str | None = None) -> str:
    """`path` made absolute by its text only: `..` stays, for the agent to refuse. It begins in
    `directory`, or the current one. Raises `NotFound` where somebody removed that."""
    while path.startswith("./"):
        path = path[2:].lstrip("/")
    if path.startswith("/"):
        return path
    base = (directory or _current_directory()).rstrip("/")
    return f"{base}/{path}" if path not in ("", ".") else base or "/"


def _current_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise NotFound(
            "the current directory was removed; go to one that is there, or write whole paths"
        ) from None


def _parse_url(text: str, rest: str) -> Location:
    from urllib.parse import unquote  # few need it, and it takes long to import

    authority, slash, path = rest.partition("/")
    if bare := _BARE_IPV6.fullmatch(authority):
        user, host = bare[1], bare[2]
        right = f"ssh://{user}[{host}]{slash}{path}"
        raise UsageError(f"{text!r}: an IPv6 address stands in brackets; write {right}")
    port: int | None = None
    if found := re.fullmatch(r"(.*):([^:\]@]*)", authority):
        authority, digits = found.groups()
        if digits and not (re.fullmatch("[0-9]{1,5}", digits) and 0 < int(digits) < 65536):
            raise UsageError(f"{text}: {digits[:20]} is not a port (1 to 65535)")
        port = int(digits) if digits else None
    decoded = unquote(f"/{path}") if slash and path else None
    if decoded:
        _refuse_odd_text(decoded)
    address = _parse_destination(authority, text)
    return Location(HostAddress(address.host, address.user, port), decoded)


def _parse_destination(text: str, whole: str) -> HostAddress:
    user, at, host = text.rpartition("@")
    if host.startswith("-") or user.startswith("-"):
        raise UsageError(f"{whole}: a host or user may not begin with '-'")
    if not _HOST.fullmatch(host) or (at and not _USER.fullmatch(user)):
        raise UsageError(f"{whole}: not a location; write /path, HOST:/path or ssh://HOST/path")
    return HostAddress(host.strip("[]"), user or None)


def _refuse_odd_text(text: str) -> None:
    if any(c in text for c in "\0\n\r"):
        raise UsageError(f"{text!r}: a location has no NUL and no line break")
    if any("\ud800" <= c <= "\udfff" for c in text):
        shown = os.fsencode(text).decode("utf-8", "backslashreplace")
        raise UsageError(f"{shown}: a location is UTF-8, in any locale; rename the file first")


def plain_path(path: str) -> str:
    """`path` without empty and `.` components; where there is no `..`, that is the same."""
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


def within(path: str, tree: str) -> bool:
    """Whether `path`, a plain one, is `tree` or lies below it."""
    return path == tree or path.startswith(tree.rstrip("/") + "/")


def unclear(path: str) -> str | None:
    """Why a path that an administrator wrote does not say clearly which place is meant."""
    if not path:
        return "it is empty"
    if any(character in path for character in "\0\n\r"):
        return "it is not one line"
    if path.startswith(("~", "$")):
        return f"there is no shell here that knows what {path.split('/')[0]!r} is"
    if not path.startswith("/"):
        return "it is not absolute"
    if ".." in path.split("/"):
        return "it has a '..' in it"
    return None


def own_home() -> str:
    """The home directory of this process's user, whatever the environment says."""
    with suppress(KeyError):
        return pwd.getpwuid(os.geteuid()).pw_dir
    return "/nonexistent"


def canonical(path: str) -> str:
    """`path` as virtstore answers it: `/dev/mapper/VG-LV` is `/dev/VG/LV`."""
    plain = plain_path(path)
    mapped = plain.removeprefix("/dev/mapper/")
    if mapped == plain or "/" in mapped:
        return plain
    # The device mapper's names double the hyphens within a name (lvm2, libdm).
    group, hyphen, volume = mapped.replace("--", "\0").partition("-")
    return f"/dev/{group}/{volume}".replace("\0", "-") if hyphen else plain
