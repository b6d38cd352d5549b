"""What a request may not say, whoever asks: fields that make no sense, alone or together.

What a path means is the policy's matter. Here is what is wrong on any host. The client looks
before it asks, so that nothing is started for it, and the agent before it does anything, since it
believes no client.
"""

from __future__ import annotations

import re
from typing import Final, Literal, get_args, get_origin, get_type_hints

import msgspec

from virtstore.copy_options import CopyOptions
from virtstore.errors import Unsupported, UsageError
from virtstore.frames import HEADER_SIZE, decode, encode
from virtstore.protocol import CopyHere, Message, Receive, RenameImage, Request, Send
from virtstore.units import MAX_SIZE

#: Partitions that a table can have: a GPT's header has 32 bits for their number.
_MOST_PARTITIONS: Final = 0xFFFFFFFF
#: What `CopyHere.kept_for` may be: it becomes a part of a snapshot's name.
_KEPT_FOR: Final = re.compile("[0-9a-f]{8}")


def check(request: Request) -> None:
    """Raises `UsageError` for a request that an agent would not even read, such as one with an
    argument of the wrong type, or a path that is none; else as `check_fields`."""
    try:
        decode(encode(request)[HEADER_SIZE:])
    except msgspec.ValidationError as error:
        raise UsageError(_wrong_field(request, str(error))) from None
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"this cannot be asked of a host: {error}") from None
    for field in ("path", "source", "target"):
        path = getattr(request, field, None)
        if path is not None and (not path.startswith("/") or any(c in path for c in "\0\n\r")):
            raise UsageError(f"{path!r} is not an absolute path of one line")
    check_fields(request)


def _wrong_field(request: Request, error: str) -> str:
    """What is wrong with a field, by its name."""
    what, _, where = error.partition(" - at `$.")
    names = re.findall(r"\w+", where)
    if not names:
        return what
    value: object = request
    kind: object = type(request)
    for name in names:
        kind = get_type_hints(kind)[name]
        value = getattr(value, name)
    choices = _choices(kind)
    may = f"; it is {' or '.join(choices)}" if choices else f": {what.replace('`', '')}"
    return f"{names[-1]} cannot be {value!r}{may}"


def _choices(kind: object) -> list[str]:
    """The texts that a type admits, if it admits no others."""
    if get_origin(kind) is Literal:
        return [repr(each) for each in get_args(kind)]
    return [text for each in get_args(kind) for text in _choices(each)]


def check_fields(request: Message) -> None:
    """Raises `UsageError` for a request that nothing sensible can be done for, and `Unsupported`
    for what no two hosts can do."""
    partition: int | None = getattr(request, "partition", None)
    if partition is not None and not 1 <= partition <= _MOST_PARTITIONS:
        raise UsageError(f"partition {partition} cannot be: they are numbered from 1")
    if getattr(request, "thin", None) == "":
        raise UsageError("a thin pool has a name")
    if getattr(request, "thin", None) and getattr(request, "sparse", False):
        raise UsageError("--thin is for a volume, --sparse for a file: leave one of them out")
    if getattr(request, "sparse", False) and getattr(request, "preallocate", False):
        raise UsageError("--sparse reserves nothing, --preallocate all: leave one of them out")
    if getattr(request, "backing", None) is not None and _reserves(request):
        raise UsageError(
            "an overlay (--backing) takes room as it is written to, so nothing of it is reserved:"
            " leave --thin, --sparse and --preallocate out"
        )
    if any(number < 0 for number in getattr(request, "chunks", None) or ()):
        raise UsageError("chunks are numbered from 0")
    if isinstance(request, RenameImage):
        _check_name(request.name)
    if isinstance(request, Receive):
        _check_received(request)
    if isinstance(request, (Send, Receive)) and request.options.reflink:
        raise Unsupported("blocks are shared within one host only; leave --reflink out")
    if isinstance(request, (CopyHere, Send, Receive)):
        _check_options(request.options, contents=request.contents)
    if isinstance(request, (CopyHere, Send)) and request.options.keep_snapshot:
        _check_kept_for(request.kept_for)


def _reserves(request: Message) -> bool:
    """Whether it says how much of an image is to be reserved."""
    return any(getattr(request, field, None) for field in ("thin", "sparse", "preallocate"))


def _check_name(name: str) -> None:
    if name in ("", ".", "..") or any(character in name for character in "/\0\n\r"):
        raise UsageError(
            f"{name!r} is not a name: an image is renamed where it is; 'virtstore copy' makes one"
            " elsewhere"
        )


def _check_received(request: Receive) -> None:
    if not 0 <= request.size <= MAX_SIZE:
        raise UsageError(f"an image of {request.size} bytes cannot be")
    if "/" in request.name or "\0" in request.name or request.name in (".", ".."):
        raise UsageError(f"{request.name!r} is not the name of an image")


def _check_kept_for(place: str) -> None:
    if not _KEPT_FOR.fullmatch(place):
        raise UsageError(f"{place!r} stands for no place of archives: it has 8 hexadecimal digits")


def _check_options(options: CopyOptions, *, contents: bool) -> None:
    _ = options.bytes_per_second  # is a rate
    if options.format and not options.archive:
        raise UsageError("a format is an archive's; add --archive, or leave --format out")
    if options.sparse and options.archive:
        raise UsageError("an archive takes no more than it holds; leave --sparse out")
    if options.reflink and options.archive:
        raise UsageError("an archive shares no blocks with its image; leave --reflink out")
    if options.base and options.compression != "zstd":
        raise UsageError(
            "an archive of virtstore's own format is based on another; --archive makes one"
        )
    if options.reflink and options.sparse:
        raise UsageError("blocks that are shared have the source's holes; leave --sparse out")
    if options.live and options.snapshot:
        raise UsageError("--live and --snapshot are two ways to one moment: leave one of them out")
    if options.live and options.reflink:
        raise UsageError("what a domain shows shares no blocks; leave --live or --reflink out")
    if options.quiesce and not (options.live or options.snapshot):
        raise UsageError("--quiesce is for the moment of a copy with --live or --snapshot; add one")
    if options.keep_snapshot and not (options.snapshot and options.compression == "zstd"):
        raise UsageError(
            "--keep-snapshot is for the snapshot that an archive of virtstore's own format is made"
            " of; add --snapshot and --archive, or leave it out"
        )
    if contents:
        _check_contents(options)


def _check_contents(options: CopyOptions) -> None:
    if options.archive:
        raise UsageError(
            "contents are written into an image that is there, and that stays an image; to make"
            " an archive, copy with --archive"
        )
    if options.sparse or options.reflink:
        raise UsageError(
            "contents are written into an image that is there; 'virtstore copy --overwrite' takes"
            " --sparse and --reflink"
        )
    if options.live or options.quiesce:
        raise UsageError("'virtstore copy' takes --live and --quiesce; contents are copied without")
    if options.overwrite:
        raise UsageError("contents are always written over what is there; leave --overwrite out")
    if options.level is not None:
        raise UsageError("a level is for an archive, and contents are written into an image")
