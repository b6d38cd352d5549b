"""In what form an object of a store holds an image, as far as its first bytes and its end tell:
raw, as an archive, in a container whose header was examined, or as something foreign. What is
wrong with it is a warning here, and never an error."""

from __future__ import annotations

from contextlib import suppress
from typing import Final, NamedTuple

from virtstore.agent.container import looks_foreign, looks_like, warnings_of, what_is
from virtstore.agent.policy import Place
from virtstore.backends.base import Image, Stored
from virtstore.errors import Corrupt, Error, Unsupported
from virtstore.formats import disks
from virtstore.formats.archive_end import found_end
from virtstore.formats.containers import Container
from virtstore.formats.disks import VirtualDisk
from virtstore.formats.foreign import Foreign
from virtstore.model import (
    Compression,
    ContainerFormat,
    Origin,
)

_NO_ARCHIVE: Final = "it is no archive, and what is in it was not looked at"


class Opened(NamedTuple):
    """An image to be described; `image` is None where it is not to be opened."""

    place: Place
    found: Stored
    image: Image | None


class Form(NamedTuple):
    """`compression`: an archive's format; `size`: bytes of the image in it, or of the raw image;
    `warnings`: what is wrong with it; `foreign`: what it is if it is no image; `disk`: what the
    header says of a container that can be opened; `origin`: what an archive was made of; `unread`:
    it could not be opened to be read."""

    compression: Compression | None
    size: int | None
    warnings: tuple[str, ...] = ()
    foreign: Foreign | None = None
    disk: VirtualDisk | None = None
    origin: Origin | None = None
    unread: bool = False

    @property
    def is_raw(self) -> bool:
        return self.compression is None and self.foreign is None and not self.unread


def form_of(opened: Opened) -> Form:
    if opened.image is None:
        warning = "it is not active; its contents were not looked at"
        return Form(None, opened.found.size, (warning,))
    try:
        return _recognised(opened, opened.image)
    except Error as error:
        told = f"its contents were not looked at: {error.message}"
        return Form(None, opened.image.size, (told,), unread=True)


def _recognised(opened: Opened, image: Image) -> Form:
    try:
        found, foreign = what_is(opened.place, image)
    except OSError:  # it cannot be read, which is told when its file system is looked for
        return Form(None, image.size)
    expected = opened.place.store.container_of(opened.found.name)
    if expected and found is None and opened.found.state == "complete":
        return _contained(opened, image, expected)
    if found is None:
        return _unpacked(opened, image, foreign)
    try:
        size = found.image_size(image)
        end = found_end(image) if found.name == "zstd" else None
        return Form(found.name, size, origin=end.summary.made_of() if end else None)
    except (Corrupt, Unsupported) as error:
        return Form(found.name, None, (error.message,))
    except OSError as error:
        return Form(found.name, None, (f"it cannot be read: {error.strerror}",))


def _contained(opened: Opened, image: Image, expected: ContainerFormat) -> Form:
    """What a file is that is a container by its name, or by the configuration."""
    try:
        disk = disks.examine(image, expected)
    except (Corrupt, Unsupported) as error:
        told = disks.naming(error.message, opened.place.path)
        return Form(None, None, (told,), Foreign(expected, Container(expected)))
    under = disk.backing
    if under is not None:
        under = opened.place.store.elsewhere.path_of(under)
    container = Container(expected, disk.size, under)
    return Form(None, disk.size, (), Foreign(expected, container), disk)


def _unpacked(opened: Opened, image: Image, foreign: Foreign | None) -> Form:
    """What a file holds that is no archive: a raw image, or something foreign."""
    if opened.found.state != "complete":
        return Form(None, image.size)
    can = opened.place.store.capabilities
    if can.archives_only and foreign is None:
        told = warnings_of(opened.place.path, None) or (_NO_ARCHIVE,)
        return Form(None, image.size, told)
    if can.always_raw:
        with suppress(OSError):
            return Form(None, image.size, looks_foreign(looks_like(image), can.noun))
        return Form(None, image.size)
    told = warnings_of(opened.place.path, foreign)
    if foreign is None:
        return Form(None, image.size, told)
    return Form(None, foreign.container.size if foreign.container else None, told, foreign)
