"""What an agent answers, held against what it was asked.

A host is believed what its images hold, and no more. An answer that is about something else, a
number that nothing can have and progress beyond the end are not shown, and not gone on with: they
are `Untrue`, and end the session, since what comes next may belong to another question.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from virtstore import protocol
from virtstore.errors import ConnectionFailed, Corrupt
from virtstore.location import canonical
from virtstore.protocol import AnyMessage, Request
from virtstore.units import MAX_SIZE

_DIGEST: Final = re.compile("[0-9a-f]{64}")


def check(request: Request, answer: AnyMessage, host: str) -> bool:
    """Whether a message is the last answer to a request. Raises `ConnectionFailed` for a message
    that answers no such request, and `Untrue` for one that cannot be true."""
    refuse_absurd(answer, host)
    match answer:
        case protocol.Progressed():
            check_progress(answer, host)
            return False
        case protocol.Listed() if isinstance(request, protocol.ListImages):
            _check_listed(request, answer, host)
            return False
        case protocol.FilesTold() if isinstance(request, protocol.ListFiles):
            return False
        case protocol.FileTold() | protocol.FilePart() | protocol.FileBroken() if isinstance(
            request, protocol.ReadFiles
        ):
            return False
    if not protocol.answer_to(request, answer):
        raise out_of_order(answer, host)
    _check_paths(request, answer, host)
    return True


def check_progress(told: protocol.Progressed, host: str) -> None:
    """Raises `Untrue` for progress of more than there is, or of less than nothing."""
    refuse_absurd(told, host)
    require(told.done <= told.total, f"it has done {told.done} of {told.total} bytes", host)


class Untrue(Corrupt):
    """An answer that cannot be true."""


def require(holds: bool, what: str, host: str) -> None:
    """Raises `Untrue` unless `holds`. `what`: what the host said."""
    if not holds:
        raise Untrue(
            f"its agent answered what cannot be true: {what}; nothing that it says is believed."
            " See that virtstore there is whole, and whose host it is",
            host=host,
        )


def out_of_order(message: AnyMessage, host: str) -> ConnectionFailed:
    """The error for a message that nobody waits for."""
    return ConnectionFailed(f"a {type(message).__name__} came where it makes no sense", host=host)


def refuse_absurd(answer: AnyMessage, host: str) -> None:
    """Raises `Untrue` for a number that no size, offset or count can be."""
    for number in _numbers(answer):
        require(0 <= number <= MAX_SIZE, f"a {type(answer).__name__} with {number}", host)


def _numbers(value: object) -> Iterator[float]:
    if isinstance(value, (int, float)):
        yield value
    elif isinstance(value, tuple):
        for each in value:
            yield from _numbers(each)
    elif isinstance(value, msgspec.Struct):
        for field in value.__struct_fields__:
            yield from _numbers(getattr(value, field))


def check_target(answered: str, asked: str, host: str) -> None:
    """Raises `Untrue` unless a target's path is the one that was asked for, or in it."""
    wanted = canonical(asked)
    require(wanted in (answered, _parent(answered)), f"{asked} would be {answered}", host)


def check_digest(digest: str, host: str) -> None:
    """Raises `Untrue` for what is no image's digest."""
    require(bool(_DIGEST.fullmatch(digest)), f"{digest!r} is a digest", host)


def _check_listed(request: protocol.ListImages, answer: protocol.Listed, host: str) -> None:
    paths = [each.path for each in answer.entries] + [each.path for each in answer.images]
    if request.path is None:
        for path in paths:
            require(path.startswith("/"), f"a root is {path!r}", host)
        return
    wanted = canonical(request.path)
    within = wanted.rstrip("/") + "/"
    for path in paths:
        below = request.recursive and path.startswith(within)
        require(below or wanted in (path, _parent(path)), f"{path} is in {request.path}", host)


def _check_paths(request: Request, answer: AnyMessage, host: str) -> None:
    """Raises `Untrue` for an answer that is not about what was asked for."""
    match answer:
        case protocol.Received():
            assert isinstance(request, protocol.CopyHere)
            check_target(answer.path, request.target, host)
            if not request.dry_run:
                check_digest(answer.digest, host)
        case protocol.DoneCleaning():
            assert isinstance(request, protocol.CleanUp)
            wanted = canonical(request.path)
            _check_path(request, canonical(answer.result.path), host)
            for path in answer.result.removed:
                require(wanted in (path, _parent(path)), f"{path} is in {request.path}", host)
        case protocol.Told():
            _check_path(request, answer.info.path, host)
        case protocol.Done() | protocol.DoneVerifying():
            _check_path(request, answer.result.path, host)


def _check_path(request: Request, answered: str, host: str) -> None:
    asked = getattr(request, "path", "")
    wanted = canonical(asked)
    match request:
        case protocol.TakeSnapshot():
            right = _parent(answered) == _parent(wanted) and answered != wanted
        case protocol.RenameImage():
            right = answered == f"{_parent(wanted).rstrip('/')}/{request.name}"
        case protocol.CompressImage():
            right = _parent(answered) == _parent(wanted) and answered.startswith(wanted)
        case protocol.UncompressImage():
            right = _parent(answered) == _parent(wanted) and wanted.startswith(answered)
        case _:
            right = answered == wanted
    require(right, f"{asked} is {answered}", host)


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"
