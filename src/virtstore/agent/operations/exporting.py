"""An image that a client reads as it likes, for as long as its request lasts: what `export` shows.

The image is locked against change, as for a copy, and nothing of it is written. What cannot be read
is said of that range, and the rest stays readable: a damaged archive is looked into for what is
whole in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from virtstore import formats
from virtstore.agent.container import what_is
from virtstore.agent.context import Agent
from virtstore.agent.operations.copy_source import frozen_or_open
from virtstore.agent.policy import Place
from virtstore.backends.base import Image, Version
from virtstore.backends.version import settled, written
from virtstore.copy_options import CopyOptions
from virtstore.digest import CHUNK, ZEROS
from virtstore.errors import Corrupt, Error, Unsupported, UsageError, blamed_on, from_os_error
from virtstore.formats.foreign import Foreign
from virtstore.formats.seekable import SeekableArchive, Unpacked
from virtstore.protocol import (
    Begin,
    Closed,
    CloseImage,
    Data,
    MapRange,
    Message,
    OpenImage,
    Ranges,
    ReadRange,
    Unreadable,
    Zero,
)
from virtstore.transfer.random_access import ArchiveContents, Contents, RawContents, Zeros

#: Runs in one message: they fit it.
_RUNS: Final = 4096


def open_image(agent: Agent, request: OpenImage) -> Closed:
    with _opened(agent, request) as (place, image, told):
        with blamed_on(place.path):
            contents = _contents(place, image, raw=request.raw)
        before = None if request.allow_in_use or request.snapshot else settled(image)
        agent.session.stage("reading")
        agent.session.send(Begin(place.path, contents.size, warnings=told))
        _serve(agent, contents)
        return Closed(tuple(_doubts(image, before)))


def _doubts(image: Image, before: Version | None) -> Iterator[str]:
    """Why what was read may not be the image as it was at one moment."""
    if before and (seen := written(before, image.version)):
        yield f"somebody wrote to it while it was open ({seen}): what was read of it is a mix"
    try:
        image.check()
    except Error as error:
        yield error.message


@contextmanager
def _opened(agent: Agent, request: OpenImage) -> Iterator[tuple[Place, Image, tuple[str, ...]]]:
    options = CopyOptions(snapshot=request.snapshot, allow_in_use=request.allow_in_use)
    told: list[str] = []
    with (
        blamed_on(request.path),
        agent.locked(request.path, "read", shared=True) as place,
        frozen_or_open(agent, place, options, told, _refuse_use) as image,
    ):
        yield place, image, tuple(told)


def _refuse_use(agent: Agent, image: Image) -> None:
    try:
        agent.refuse_use(image, writers_only=True)
    except Error as error:
        error.message += (
            "; --snapshot exports it as it is at one moment, --allow-in-use while it changes"
        )
        raise


def _serve(agent: Agent, contents: Contents) -> None:
    """Answer what the client asks of the image, until it wants no more."""
    zeros = Zeros(contents.size, contents.extents)
    while not isinstance(message := agent.session.expect()[0], CloseImage):
        match message:
            case ReadRange(offset, length) if _is_within(offset, length, contents.size):
                agent.session.send(*_read(contents, offset, length))
            case MapRange(offset, length, one) if _is_within(offset, length, contents.size):
                runs = zeros.runs(offset, length, 1 if one else _RUNS)
                agent.session.send(Ranges(offset, tuple(runs)))
            case _:
                raise UsageError(f"of an image that is open, this cannot be asked: {message}")


def _is_within(offset: int, length: int, size: int) -> bool:
    return 0 <= offset < offset + length <= size


def _read(contents: Contents, offset: int, length: int) -> tuple[Message, bytes]:
    if length > CHUNK:
        raise UsageError(f"{length} bytes are more than is read at once")
    try:
        data = contents.read(offset, length)
    except (Error, OSError) as error:
        told = error if isinstance(error, Error) else from_os_error(error)
        return Unreadable(offset, length, told.code, told.message), b""
    if data is None or data == ZEROS[:length]:
        return Zero(offset, length), b""  # they need not cross the wire
    return Data(offset, length, raw=True), data


def _contents(place: Place, image: Image, *, raw: bool) -> Contents:
    """What an image is to be read as. Raises `Unsupported` for what cannot be read at any offset,
    and for what is no raw disk's bytes, unless it is to be taken for such (`raw`)."""
    if image.size == 0:
        raise Corrupt("it is empty: it was cut to nothing, or never written")
    found, foreign = what_is(place, image)
    if found is None:
        if not (raw or foreign or image.container or place.store.capabilities.always_raw):
            formats.refuse_broken_promise(place.name)
        _refuse_foreign(foreign, raw=raw)
        return RawContents(image)
    archive = SeekableArchive.open(image) if found.name == "zstd" else None
    if archive is None:
        ours = ", and none of virtstore's own," if found.name == "zstd" else ""
        raise Unsupported(
            f"it is a {found.name} archive{ours} which can only be read from its beginning;"
            " 'virtstore copy' makes an image of it that can be exported, and with --archive an"
            " archive that can"
        )
    if archive.size == 0:
        raise Corrupt("it is an archive of nothing: what was to be in it was never written")
    _refuse_foreign(
        None if raw or archive.raw else formats.foreign.detect(Unpacked(archive)), raw=raw
    )
    return ArchiveContents(archive)


def _refuse_foreign(foreign: Foreign | None, *, raw: bool) -> None:
    """Raises `Unsupported` for bytes that are no disk's: a reader that guesses formats would follow
    what they say to other files of its own machine, and a guest can write them."""
    if foreign and not raw:
        raise Unsupported(
            f"it holds {foreign.kind.what}, whose bytes are not those of the disk in it; --raw"
            " exports these bytes, as those of a raw disk in which a guest wrote what looks so."
            " Whoever reads them must be told that they are raw (qemu-img: -f raw)"
        )
