"""Raw images, archives, and what is neither: what may be changed, and what may be called how.

The rule, which everything here follows:

- Whether a file is an archive, or anything else that is no raw disk, its contents say
  (`what_is`). Nothing that a file holds is followed to another file for that. A container format
  that can name other files (qcow2) is to be opened as one by its name or by configuration only,
  never by its contents: a guest can write such a header into its raw disk.
- A volume or a block device is raw, whatever is in it (`Capabilities.always_raw`).
- What is read and changed of a container that is opened as one is the disk in it, which is raw.
  Of the formats only qcow2 is written.
- Nothing else but a raw image is changed: no container that is not opened, no foreign archive, and
  no file that is called like one and is none, because its header may be damaged.
- The bytes of something foreign, a container of another name or in an archive among them, are
  copied under a name that says what they are, or into an archive; and only if they are all of it:
  an overlay without its backing image is worthless.
- A guest can write a container's header into its raw disk. `info` warns of that, everything
  else refuses; a user who knows that it is a raw disk says so (`copy --raw`).
"""

from __future__ import annotations

import shlex
from contextlib import suppress
from functools import partial
from typing import Final, NoReturn

from virtstore import formats, names
from virtstore.agent.policy import Place
from virtstore.backends.base import Image, Readable
from virtstore.errors import Corrupt, NotFound, Unsupported, UsageError
from virtstore.formats import Recognised
from virtstore.formats.archive_end import found_end
from virtstore.formats.disks.base import SECTOR
from virtstore.formats.foreign import Foreign
from virtstore.model import Compression, ContainerFormat
from virtstore.names import KINDS
from virtstore.transfer.pieces import Source
from virtstore.transfer.sources import open_source

#: Stands for the path of a copy's source, which may be on another host.
_SOURCE: Final = "SOURCE"


def what_is(place: Place, image: Readable) -> Recognised:
    """What an image is: an archive, something foreign, or raw, as a container's disk always is."""
    if place.store.capabilities.always_raw or image.container:
        return formats.RAW
    if place.store.capabilities.archives_only:
        with suppress(Corrupt):  # what is wrong with it, its reader tells
            if found_end(image):  # which has to be read anyway: one request less
                return Recognised(archive=formats.FORMATS["zstd"])
    return formats.recognise(image)


def looks_like(image: Readable) -> Foreign | None:
    """The foreign thing that the contents of a raw image look like."""
    return formats.foreign.detect(image)


def image_name(name: str) -> str:
    """What the image in an archive called `name` is called; of an image, its own name."""
    return names.without_archive_suffix(name)


def source_of(place: Place, image: Readable, *, steady: bool = False, raw: bool = False) -> Source:
    """An image as something to be read from start to end (see `transfer.sources.open_source`)."""
    raw_anyway = place.store.capabilities.always_raw or image.container
    name = "" if raw_anyway else place.name
    return open_source(image, partial(what_is, place), name=name, steady=steady, raw=raw)


def require_raw(place: Place, image: Image) -> None:
    """Raises `Unsupported` or `Corrupt` unless it is an image that can be changed in place."""
    require_images(place)
    if place.store.capabilities.always_raw or image.container:
        return
    found, foreign = what_is(place, image)
    if found:
        raise Unsupported(
            f"it is a compressed archive ({found.name}); 'virtstore uncompress' makes an image"
            " of it",
            path=place.path,
        )
    if foreign:
        raise Unsupported(
            f"it is {foreign.kind.what}, of which virtstore changes nothing;"
            f" {_making_raw(foreign.name, place.path)}",
            path=place.path,
        )
    formats.refuse_broken_promise(place.name)


def require_images(place: Place, *, new: bool = False) -> None:
    """Raises `Unsupported` where there can be nothing but archives; `NotFound` where not even such
    a thing is there, unless it is to be `new`."""
    if why := place.store.capabilities.archives_only:
        if not new and place.store.find(place.name) is None:
            raise NotFound("no such image", path=place.path)
        raise Unsupported(why, path=place.path)


def refuse_uncompressing(path: str, foreign: Foreign | None) -> NoReturn:
    """Raises `Unsupported`: virtstore unpacks nothing that it reads no archive in."""
    if foreign is None:
        raise Unsupported("it is not compressed", path=path)
    raise Unsupported(
        f"it is {foreign.kind.what}, which virtstore does not unpack;"
        f" {_making_raw(foreign.name, path)}",
        path=path,
    )


def require_whole(foreign: Foreign | None, path: str) -> None:
    """Raises `Unsupported` for a container whose disk is not in its bytes alone."""
    if foreign and foreign.container and foreign.container.needs:
        raise Unsupported(
            f"it is {foreign.kind.what} that is of no use without {foreign.container.needs};"
            f" {_making_raw(foreign.name, path)}, whole",
            path=path,
        )


def refuse_misleading_name(
    place: Place, holds: str | None = None, archive: Compression | None = None
) -> None:
    """Raises `UsageError` or `Unsupported` where the name promises something else than what is
    to be written: an image, or the foreign kind that it `holds`, as an `archive` or as it is."""
    if not place.store.capabilities.always_raw:
        _refuse_archive_suffix(place, archive)
        if archive:
            _refuse_container_name(place, archive)
        stem = names.without_archive_suffix(place.name) if archive else place.name
        promised = names.promised(stem)
        made = names.container_of(stem) if archive else _written(place)
        if promised and not made and not (holds and names.fits(stem, holds)):
            fitting = f".img{names.SUFFIXES[archive]}" if archive else ".img"
            raise Unsupported(
                f"its name says that it is {KINDS[promised].what}, and virtstore makes none; give"
                f" it another name, such as one that ends in {fitting}",
                path=place.path,
            )
        fits = holds and (names.fits(stem, holds) or place.store.container_of(stem) == holds)
        if holds is None or archive or fits:
            return
    if holds:
        can = place.store.capabilities
        why = f"{can.noun} is raw" if can.always_raw else "its name does not say so"
        raise Unsupported(_unfit(holds, why), path=place.path)


def refuse_opening_as_container(place: Place, holds: str | None) -> None:
    """Raises `Unsupported` where bytes that get this name as they are, and are no container or
    another one (`holds`), would be opened as a container from then on."""
    form = place.store.container_of(place.name)
    if form and form != holds:
        raise Unsupported(
            f"under that name it would be opened as {KINDS[form].what}, which it is not;"
            " 'virtstore copy' to that name makes one with the same disk",
            path=place.path,
        )


def rounded(place: Place, size: int) -> int:
    """The bytes that an image of that name gets if `size` are asked for. The disk in a container
    has whole sectors."""
    size = place.store.rounded(size)
    return size + -size % SECTOR if place.store.container_of(place.name) else size


def refuse_hiding(place: Place, foreign: Foreign, old: str) -> None:
    """Raises `Unsupported` where bytes that stay what they are get a name that does not say so.
    `old`: the one that they have."""
    if names.fits(place.name, foreign.name) or place.store.container_of(place.name) == foreign.name:
        return
    raise Unsupported(
        f"it is {foreign.kind.what}, and the new name does not say so; let the name end in"
        f" {old.rpartition('.')[2]!r} as well",
        path=place.path,
    )


def _written(place: Place) -> ContainerFormat | None:
    """The container that an image of this name becomes, if virtstore makes such."""
    form = place.store.container_of(place.name)
    return form if form in names.WRITTEN else None


def _refuse_container_name(place: Place, archive: Compression) -> None:
    """Raises `Unsupported` for an archive that would be opened as a container."""
    form = place.store.container_of(place.name)
    if form:
        raise Unsupported(
            f"its name says, or this host's configuration, that it is {KINDS[form].what}, and it"
            f" would be an archive; let the name end in {names.SUFFIXES[archive]}",
            path=place.path,
        )


def refuse_as_contents(place: Place, holds: str) -> None:
    """Raises `Unsupported`: what is overwritten in place is a disk, and stays what it is."""
    raise Unsupported(_unfit(holds, "what it would overwrite is a disk"), path=place.path)


def _refuse_archive_suffix(place: Place, archive: Compression | None) -> None:
    said = names.archive_format(place.name)
    if said and archive is None:
        raise UsageError(
            f"it would be a plain image, whose name must not end in {names.SUFFIXES[said]}: that"
            f" is a {said} archive's; choose another name (of a copy, --archive makes an archive)",
            path=place.path,
        )
    if said and said != archive:
        raise UsageError(
            f"its name says that it is a {said} archive, and it would be one of {archive}; leave"
            f" --format out, or let the name end in {names.SUFFIXES[archive or said]}",
            path=place.path,
        )


def _unfit(holds: str, why: str) -> str:
    kind = KINDS[holds]
    opened = ", of which virtstore reads the disk" if holds in names.OPENED else ""
    named = f"under a name that ends in {kind.suffixes[0]}{opened}, or " if kind.suffixes else ""
    return (
        f"what would be copied is {kind.what}, whose bytes are not those of the disk in it, and"
        f" {why}; {_making_raw(holds, _SOURCE)}. Its bytes can be kept {named}"
        "in an archive (copy --archive); --raw of copy and copy-contents takes them for a raw"
        " disk's, in which a guest wrote what looks so"
    )


def remarks(path: str, holds: str | None, archive: Compression | None = None) -> tuple[str, ...]:
    """What there is to say to who copied the bytes of something foreign to `path`."""
    if holds is None:
        return ()
    told = f"it holds the bytes of {KINDS[holds].what}"
    if archive:
        return (f"{told}, and comes back as one",)
    if holds in names.OPENED and names.fits(path, holds):
        return (f"{told}, and is opened as one",)
    return (f"{told}; {_making_raw(holds, path)}",)


def warnings_of(path: str, foreign: Foreign | None) -> tuple[str, ...]:
    """What `info` says of a file that is no archive, if it is no plain raw image either."""
    if foreign is None:
        try:
            formats.refuse_broken_promise(path)
        except Corrupt as error:
            return (error.message,)
        return ()
    told = [f"it is {foreign.kind.what}; {_making_raw(foreign.name, path)}"]
    if foreign.container and foreign.container.needs:
        told.append(f"it is of no use without {foreign.container.needs}")
    if not names.fits(path, foreign.name):
        told.append(
            "its name does not say so: a guest can write that into its raw disk, and then"
            " 'virtstore copy --raw' copies it"
        )
    return tuple(told)


def looks_foreign(foreign: Foreign | None, noun: str) -> tuple[str, ...]:
    """What `info` says of what is raw whatever is in it: a volume, say."""
    if foreign is None:
        return ()
    return (
        f"what is in it looks like {foreign.kind.what}; {noun} is taken for raw, so its bytes are"
        " copied, and it is lengthened without regard to that",
    )


def _making_raw(kind: str, path: str) -> str:
    """What to do. A container that a guest wrote can name any file of the host as its backing
    image, and qemu-img would follow it: so nobody is sent there whose file has another name."""
    command = KINDS[kind].convert.replace("FILE", shlex.quote(path))
    sure = not KINDS[kind].container or path == _SOURCE or names.fits(path, kind)
    unless = "" if sure else ", if it is one and not a raw disk into which a guest wrote that"
    return f"`{command}` makes a raw image of it{unless}"
