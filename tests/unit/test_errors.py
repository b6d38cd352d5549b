"""Errors: the codes and exit statuses that scripts rely on, and a message that says where."""

from __future__ import annotations

import errno
import os

import pytest

import virtstore
from virtstore.errors import Error, from_code, from_os_error

TABLE = {
    "Error": ("failed", 1),
    "UsageError": ("usage", 2),
    "NotFound": ("not-found", 3),
    "Exists": ("exists", 4),
    "Denied": ("denied", 5),
    "InUse": ("in-use", 6),
    "NoSpace": ("no-space", 7),
    "Unsafe": ("unsafe", 8),
    "Corrupt": ("corrupt", 9),
    "ConnectionFailed": ("connection", 10),
    "Unsupported": ("unsupported", 11),
    "LeftRunning": ("left-running", 1),
    "Interrupted": ("interrupted", 130),
}


@pytest.mark.parametrize(("name", "code", "status"), [(n, *rest) for n, rest in TABLE.items()])
def test_each_error_has_its_code_and_exit_status(name: str, code: str, status: int) -> None:
    kind: type[Error] = getattr(virtstore, name)
    assert issubclass(kind, virtstore.Error)
    assert (kind.code, kind.exit_status) == (code, status)


def test_there_is_no_error_beside_the_table() -> None:
    kinds: list[type[Error]] = [Error, *Error.__subclasses__()]
    kinds = [kind for kind in kinds if kind is Error or "code" in vars(kind)]
    assert {kind.__name__ for kind in kinds} == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_an_error_survives_the_way_from_the_agent(name: str) -> None:
    kind: type[Error] = getattr(virtstore, name)
    error = from_code(kind.code, "why", host="a", path="/x")
    assert type(error) is kind
    assert (error.message, error.host, error.path, error.code) == ("why", "a", "/x", kind.code)


@pytest.mark.parametrize(
    ("about", "text"),
    [
        ("/run/virtstore/locks", "Is a directory (/run/virtstore/locks)"),
        ("/images/x.img", "Is a directory"),
        ("/proc/self/fd/7", "Is a directory"),
        (None, "Is a directory"),
    ],
)
def test_the_kernels_error_names_the_file_if_it_is_another(about: str | None, text: str) -> None:
    error = from_os_error(
        OSError(errno.EISDIR, os.strerror(errno.EISDIR), about), path="/images/x.img"
    )
    assert (error.message, error.path) == (text, "/images/x.img")


@pytest.mark.parametrize(
    ("number", "code", "remedy"),
    [
        (errno.ENOSPC, "no-space", "is full; free space there, or choose another place"),
        (errno.EDQUOT, "no-space", "have the quota raised"),
        (errno.EFBIG, "no-space", "have the limit raised"),
        (errno.EROFS, "denied", "have it mounted for writing"),
    ],
)
@pytest.mark.parametrize(
    ("path", "about", "holder"),
    [
        ("/images/x.img", "/images/x.img", "the file system that holds it "),
        ("/images/x.img", None, "the file system that holds it "),
        ("/images/x.img", "/run/virtstore", "the file system that holds /run/virtstore "),
        ("/dev/vg0/web", None, "what holds it "),
    ],
)
def test_what_keeps_anything_from_being_written_is_told_with_what_to_do(
    number: int, code: str, remedy: str, path: str, about: str | None, holder: str
) -> None:
    error = from_os_error(OSError(number, os.strerror(number), about), path=path)
    assert (error.code, error.path) == (code, path)
    assert error.message.startswith(f"{os.strerror(number)}: {holder}")
    assert remedy in error.message
    assert error.message.endswith(", then run the same command again")


def test_an_error_of_the_disk_says_where_to_look() -> None:
    error = from_os_error(OSError(errno.EIO, os.strerror(errno.EIO)), path="/images/x.img")
    assert (error.code, error.path) == ("failed", "/images/x.img")
    assert "that host's kernel log (dmesg)" in error.message


def test_a_code_of_a_newer_agent_is_still_an_error() -> None:
    assert type(from_code("no-such-code", "why")) is Error


@pytest.mark.parametrize(
    ("host", "path", "text"),
    [
        (None, None, "why"),
        (None, "/x", "/x: why"),
        ("local", "/x", "/x: why"),
        ("local", None, "why"),
        ("a", "/x", "a:/x: why"),
        ("a", None, "a: why"),
    ],
)
def test_a_message_says_where_it_happened(host: str | None, path: str | None, text: str) -> None:
    assert str(Error("why", host=host, path=path)) == text
