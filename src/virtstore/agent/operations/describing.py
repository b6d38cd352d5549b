"""What `info` and `list -l` tell of images that are open: all that can be read off them.

Images are described many at a time: one process probes all of them, and who uses them is looked
for once."""

from __future__ import annotations

import pwd
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from functools import cache
from typing import Final, cast

from msgspec.structs import replace

from virtstore import formats
from virtstore.agent.context import unzeroed_from
from virtstore.agent.evidence import Scan, Uses
from virtstore.agent.operations import lost
from virtstore.agent.operations.archive_contents import foreign_in, look_into
from virtstore.agent.operations.cut_checks import device_of
from virtstore.agent.operations.form import Form, Opened, form_of
from virtstore.agent.operations.refusals import neither
from virtstore.backends.base import Image, Store, Stored
from virtstore.errors import Error
from virtstore.filesystems import registry
from virtstore.filesystems.base import Device
from virtstore.filesystems.detect import Contents, detect_many
from virtstore.filesystems.signs import signs_of_a_cut
from virtstore.model import (
    Compression,
    Filesystem,
    ImageInfo,
    ImageType,
)

#: Seconds: in a guest's hundred partitions each tool could take as long as it may.
_MEASURING: Final = 60


def describe_all(
    store: Store, opened: Sequence[Opened], scan: Scan, *, deep: bool
) -> list[ImageInfo]:
    """What `info` and `list -l` tell of some images of a store. `deep`: also what costs a tool of
    its own for each, such as a file system's minimum, and what is in an archive."""
    forms = [form_of(o) for o in opened]
    raw = [
        o
        for o, form in zip(opened, forms, strict=True)
        if o.image and form.is_raw and o.found.state == "complete"
        if not store.capabilities.archives_only  # where no tool can look into it
    ]
    inside = {id(o): c for o, c in zip(raw, _inside(raw, deep=deep), strict=True)}
    if deep:
        for index, o in enumerate(opened):
            forms[index], inside[id(o)] = _looked_into(o, forms[index], inside.get(id(o)))
    uses = scan.of_each([o.image for o in opened if o.image])
    return [
        _describe(
            store,
            o,
            form,
            inside.get(id(o), Contents()),
            uses[o.image.identity] if o.image else Uses((), told=False),
        )
        for o, form in zip(opened, forms, strict=True)
    ]


def _looked_into(opened: Opened, form: Form, raw: Contents | None) -> tuple[Form, Contents]:
    """The form of an image and what is in it, after a look into an archive or a container; of one
    that is `raw`, what is known already."""
    if opened.image and form.compression and opened.found.state == "complete":
        with suppress(OSError):
            return _unfolded(opened.image, form, form.compression)
    if form.disk:
        return form, _in_container(opened)
    return form, raw or Contents()


def _unfolded(image: Image, form: Form, name: Compression) -> tuple[Form, Contents]:
    """What is in an archive, as far as a few of its blocks tell."""
    if foreign := foreign_in(image, formats.FORMATS[name]):
        told = f"it is an archive of {foreign.kind.what}"
        return form._replace(foreign=foreign, warnings=(*form.warnings, told)), Contents()
    return form, look_into(image) if name == "zstd" and form.size else Contents()


def _in_container(opened: Opened) -> Contents:
    """What is in the disk of a container, of which the header was found in order."""
    try:
        with opened.place.store.open(opened.place.name) as disk:
            [found] = _inside([opened._replace(image=disk)], deep=True)
            return found
    except (Error, OSError) as error:
        told = error.message if isinstance(error, Error) else error.strerror
        return Contents(warnings=(f"what is in it was not looked at: {told}",))


def _inside(opened: Sequence[Opened], *, deep: bool) -> list[Contents]:
    """What is in each raw image; where this host lacks the tools, a warning instead."""
    with ExitStack() as stack:
        images = [o.image for o in opened if o.image]
        devices = [stack.enter_context(device_of(image)) for image in images]
        try:
            found = detect_many(devices)
        except Error as error:
            return [Contents(warnings=(error.message,))] * len(devices)
        if deep:
            return [_with_minimum(d, c) for d, c in zip(devices, found, strict=True)]
        return found


def _with_minimum(device: Device, contents: Contents) -> Contents:
    """The same with each file system's minimum, of those that were asked within `_MEASURING`."""
    deadline = time.monotonic() + _MEASURING

    def measured(part: Device, filesystem: Filesystem | None) -> Filesystem | None:
        known = registry.FILESYSTEMS.get(filesystem.type) if filesystem else None
        if filesystem is None or known is None or time.monotonic() > deadline:
            return filesystem
        with suppress(OSError):  # it cannot be read
            return replace(filesystem, minimum=known.minimum(part))
        return filesystem

    partitions = tuple(
        replace(p, filesystem=measured(device.part(p.start, p.size), p.filesystem))
        for p in contents.partitions
    )
    return replace(
        contents,
        filesystem=measured(device, contents.filesystem),
        partitions=partitions,
        warnings=(*contents.warnings, *signs_of_a_cut(device, contents)),
    )


def _describe(
    store: Store,
    opened: Opened,
    form: Form,
    inside: Contents,
    uses: Uses,
) -> ImageInfo:
    container = form.foreign.container if form.foreign else None
    return ImageInfo(
        path=opened.place.path,
        host="",
        type=cast(ImageType, opened.found.type),
        size=form.size,
        allocated=opened.image.allocated if opened.image else opened.found.allocated,
        compression=form.compression,
        container=container.format if container else None,
        backing=container.backing if container else None,
        domain=uses.domain,
        modified=_modified(opened.found),
        owner=_owner(opened.found),
        state=opened.found.state,
        snapshot_of=opened.found.snapshot_of,
        snapshots=opened.found.snapshots,
        filesystem=inside.filesystem,
        partitions=inside.partitions,
        mounted=any(use.by == "mount" for use in uses.shown),
        in_use=uses.shown,
        warnings=(
            *_neither(store, opened.found),
            *_unzeroed(store, opened.found),
            *_lacking(opened.found),
            *form.warnings,
            *inside.warnings,
            *_lost(store, opened, inside, form.size),
        ),
        stored=_stored(opened, form),
        cluster_size=form.disk.cluster_size if form.disk else None,
        internal_snapshots=form.disk.snapshots if form.disk else (),
        bitmaps=form.disk.bitmaps if form.disk else (),
        made=form.origin.made if form.origin else None,
        source=f"{form.origin.host}:{form.origin.path}" if form.origin else None,
        moment=form.origin.moment if form.origin else None,
        quiesced=form.origin.quiesced if form.origin else None,
    )


def _stored(opened: Opened, form: Form) -> int | None:
    """The bytes of an archive. What lies on a volume may end anywhere within it."""
    lies_alone = opened.found.type in ("file", "object")
    is_archive = form.compression and opened.image and lies_alone
    return opened.image.size if is_archive and opened.image else None


def _modified(found: Stored) -> datetime | None:
    """When it was last written to; None for a time that somebody set and no calendar has."""
    if found.modified is None:
        return None
    with suppress(ValueError, OverflowError, OSError):  # before the year 1, or behind 9999
        return datetime.fromtimestamp(found.modified // 10**9, UTC)
    return None


def _owner(found: Stored) -> str | None:
    """The name of the user whose file it is; the number of one whom this host does not know."""
    return None if found.owner is None else _user_name(found.owner)


@cache  # a directory may ask another host
def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except (KeyError, OSError):
        return str(number)


def _neither(store: Store, found: Stored) -> tuple[str, ...]:
    """The warning for what an interrupted copy-contents may have left of an image."""
    may = {"yes": "it is an image which", "maybe": "it may be an image which"}
    return (f"{may[found.was_image]} {neither(store)}",) if found.was_image in may else ()


def _unzeroed(store: Store, found: Stored) -> tuple[str, ...]:
    start = store.unzeroed(found.name)
    return () if start is None else (unzeroed_from(start),)


def _lacking(found: Stored) -> tuple[str, ...]:
    """The warning for an image of which a part lies on a disk that is missing."""
    if found.lacks is None:
        return ()
    return (f"{found.lacks}; what lay on it cannot be read, unless it lies elsewhere, too",)


def _lost(store: Store, opened: Opened, inside: Contents, size: int | None) -> tuple[str, ...]:
    if size is None or opened.found.state != "complete":
        return ()
    found = lost.told(store, opened.place.path, opened.found.name, inside, size)
    return tuple(loss.message for loss in found)
