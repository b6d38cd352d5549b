"""What is there: info and list. Nothing here changes anything, or fails because
of what an image contains."""

from __future__ import annotations

import pwd
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from typing import Final, NamedTuple, cast

from msgspec.structs import replace

from virtstore import formats
from virtstore.agent.container import looks_foreign, looks_like, warnings_of, what_is
from virtstore.agent.context import Agent, stored, unzeroed_from
from virtstore.agent.evidence import Scan, Uses
from virtstore.agent.operations import lost, sparing
from virtstore.agent.operations.archive_contents import foreign_in, look_into
from virtstore.agent.operations.cut_checks import device_of
from virtstore.agent.operations.refusals import neither
from virtstore.agent.policy import Place
from virtstore.backends.base import Image, Store, Stored
from virtstore.backends.kinds import Root
from virtstore.errors import Corrupt, Denied, Error, NotFound, Unsupported
from virtstore.filesystems import registry
from virtstore.filesystems.base import Device
from virtstore.filesystems.detect import Contents, detect_many
from virtstore.filesystems.signs import signs_of_a_cut
from virtstore.formats import disks
from virtstore.formats.archive_end import found_end
from virtstore.formats.containers import Container
from virtstore.formats.disks import VirtualDisk
from virtstore.formats.foreign import Foreign
from virtstore.location import canonical
from virtstore.model import (
    Compression,
    ContainerFormat,
    Entry,
    Filesystem,
    ImageInfo,
    ImageType,
    Origin,
)
from virtstore.protocol import (
    GetInfo,
    Listed,
    ListEnd,
    ListImages,
    Told,
)


class _Opened(NamedTuple):
    """An image to be described; `image` is None where it is not to be opened."""

    place: Place
    found: Stored
    image: Image | None


#: Entries in one message, and images that are open at once and probed by one process; twice, for
#: while one batch is being probed the next is opened. That fits the descriptors of a process.
_BATCH: Final = 400
_AT_ONCE: Final = 2
#: A path has 4 KiB at most, and so has all that is said of an image.
_IN_ONE_MESSAGE: Final = 64
_OVERLAYS: Final = 100
_NO_ARCHIVE: Final = "it is no archive, and what is in it was not looked at"
#: Seconds: in a guest's hundred partitions each tool could take as long as it may.
_MEASURING: Final = 60


def info(agent: Agent, request: GetInfo) -> Told:
    agent.session.stage("checking")  # what tools measure may take long
    with agent.policy.image(request.path, "read") as place:
        found = stored(place)
        with ExitStack() as stack:
            image = _open(place.store, found, stack)
            opened = _Opened(place, found, image)
            [told] = _describe_all(place.store, [opened], Scan(), deep=True)
            return Told(replace(told, overlays=_overlays(agent, place)))


def _overlays(agent: Agent, place: Place) -> tuple[str, ...]:
    """The paths of what lies over it, as far as this session may see it, as many as there is room
    for in a message."""
    parent = place.path.rpartition("/")[0]
    found = [f"{parent}/{name}" for name in place.store.overlays(place.name)]
    return tuple(path for path in found if agent.policy.may(path, "read"))[:_OVERLAYS]


def list_images(agent: Agent, request: ListImages) -> ListEnd:
    agent.session.stage("checking")
    scan = Scan() if request.long else None
    if request.path is None:
        if agent.policy.leaves_nothing:
            raise Denied(f"{agent.policy.restricted}. {agent.policy.how_to_allow}")
        roots = [root for root, _ in agent.policy.roots()]
        entries = [Entry(r.path, "", r.listed) for r in roots if not (r.is_image and request.long)]
        agent.session.send(Listed(tuple(entries)))
        trees = [r.path for r in roots if not r.is_image] if request.recursive else []
        for root in roots:
            if root.is_image and scan:
                _list_root(agent, root, scan)
    elif agent.policy.is_store(request.path):
        trees = [canonical(request.path)]
    else:
        trees = []
        if not _list_one(agent, request.path, scan) and not _may_come(agent, request):
            raise NotFound("no such image or directory", path=canonical(request.path))
    for tree in trees:
        _list_tree(agent, tree, request, scan)
    return ListEnd()


def _list_root(agent: Agent, root: Root, scan: Scan) -> None:
    """A root that is an image itself; one that is not there, or not ours to read, by its name."""
    there = False
    with suppress(NotFound, Denied, PermissionError):
        there = _list_one(agent, root.path, scan)
    if not there:
        agent.session.send(Listed((Entry(root.path, "", root.listed),)))


def _list_one(agent: Agent, path: str, scan: Scan | None) -> bool:
    """An image, or whatever else has that path. Whether anything has."""
    with agent.policy.image(path, "read") as place:
        found = place.store.named(place.name)
        parent = place.path.rpartition("/")[0]
        _tell(agent, *_look_at(place.store, parent, scan, found))
        return bool(found)


def _may_come(agent: Agent, request: ListImages) -> bool:
    """Whether the path is a directory that is there once something is in it."""
    return bool(request.sparing and request.path and agent.policy.makes_directories(request.path))


def _list_tree(agent: Agent, path: str, request: ListImages, scan: Scan | None) -> None:
    """A directory and, if that was asked for, those below it."""
    with agent.policy.store(path, "read") as store:
        agent.mend(store, path)
        found: Iterable[Stored] = store.scan()
        if request.sparing and store.capabilities.far:
            found = _worth_a_look(agent, path, list(found))
        below: list[str] = []
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for entries, images in _looked_at(store, path, scan, found, pool):
                _tell(agent, entries, images)
                below += [each.path for each in entries if each.type == "directory"]
    if request.recursive:
        for directory in below:
            # Gone since, not ours to read, or a mount: shown, and not looked into.
            with suppress(NotFound, Denied, PermissionError):
                _list_tree(agent, directory, request, scan)


def _worth_a_look(agent: Agent, path: str, found: Sequence[Stored]) -> Sequence[Stored]:
    """Those of some backups that are looked at; the others are told as they are listed."""
    seen = sparing.newest(found)
    known = {(each.name, each.state) for each in seen}
    rest = [each for each in found if (each.name, each.state) not in known]
    for message in sparing.unseen(path, rest):
        agent.session.send(message)
    return seen


def _looked_at(
    store: Store,
    path: str,
    scan: Scan | None,
    found: Iterable[Stored],
    pool: ThreadPoolExecutor,
) -> Iterator[tuple[list[Entry], list[ImageInfo]]]:
    """What `_look_at` tells of objects of a store, in batches. Few are looked at ahead of whoever
    takes them: a client may be slower than this host, and a million are too many to keep."""
    begun: deque[Future[tuple[list[Entry], list[ImageInfo]]]] = deque()
    objects = iter(found)
    while batch := list(islice(objects, min(_BATCH, store.capabilities.at_once))):
        begun.append(pool.submit(_look_at, store, path, scan, batch))
        if len(begun) > _AT_ONCE:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


def _look_at(
    store: Store, parent: str, scan: Scan | None, found: Sequence[Stored]
) -> tuple[list[Entry], list[ImageInfo]]:
    """The entries of some objects of a store; with a scan, the images among them described."""
    paths = [f"{parent.rstrip('/')}/{each.name}" for each in found]
    if scan is None:
        return [Entry(p, "", s.type, s.state) for p, s in zip(paths, found, strict=True)], []
    with ExitStack() as stack:
        opened: list[_Opened] = []
        entries = []
        store.announce([each.name for each in found if each.type not in ("directory", "other")])
        for path, each in zip(paths, found, strict=True):
            try:
                place = Place(store, each.name, path)
                opened.append(_Opened(place, each, _open(store, each, stack)))
            except (NotFound, Denied, PermissionError):  # no image, or not ours to read
                entries.append(Entry(path, "", each.type, each.state))
        return entries, _describe_all(store, opened, scan, deep=False)


def _tell(agent: Agent, entries: Sequence[Entry], images: Sequence[ImageInfo]) -> None:
    agent.session.send(Listed(tuple(entries)))
    # A hundred partitions in each of a few images fill a message; otherwise there is room for many.
    plain = [each for each in images if not each.partitions]
    for start in range(0, len(plain), _IN_ONE_MESSAGE):
        agent.session.send(Listed(images=tuple(plain[start : start + _IN_ONE_MESSAGE])))
    for each in images:
        if each.partitions:
            agent.session.send(Listed(images=(each,)))


def _open(store: Store, found: Stored, stack: ExitStack) -> Image | None:
    """The image, or None for a volume that is not active: looking must not activate it."""
    if not found.active:
        return None
    partial = found.state == "partial"
    return stack.enter_context(store.open(found.name, partial=partial, stored=True))


class _Packed(NamedTuple):
    """What a file holds, as far as its first bytes tell. `compression`: an archive's format;
    `size`: bytes of the image in it, or of the raw image; `foreign`: what else it is; `warnings`:
    what is wrong with it; `disk`: what the header says of a container that can be opened;
    `unread`: it could not be opened to be read."""

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


def _describe_all(
    store: Store, opened: Sequence[_Opened], scan: Scan, *, deep: bool
) -> list[ImageInfo]:
    """What `info` and `list -l` tell of some images of a store. `deep`: also what costs a tool of
    its own for each, such as a file system's minimum, and what is in an archive."""
    packed = [_packed(o) for o in opened]
    raw = [
        o
        for o, p in zip(opened, packed, strict=True)
        if o.image and p.is_raw and o.found.state == "complete"
        if not store.capabilities.archives_only  # where no tool can look into it
    ]
    inside = {id(o): c for o, c in zip(raw, _inside(raw, deep=deep), strict=True)}
    for index, (o, p) in enumerate(zip(opened, packed, strict=True)):
        if deep and o.image and p.compression and o.found.state == "complete":
            with suppress(OSError):
                packed[index], inside[id(o)] = _unfolded(o.image, p, p.compression)
        if deep and p.disk:
            inside[id(o)] = _in_container(o)
    uses = scan.of_each([o.image for o in opened if o.image])
    return [
        _describe(
            store,
            o,
            p,
            inside.get(id(o), Contents()),
            uses[o.image.identity] if o.image else Uses((), told=False),
        )
        for o, p in zip(opened, packed, strict=True)
    ]


def _in_container(opened: _Opened) -> Contents:
    """What is in the disk of a container, of which the header was found in order."""
    try:
        with opened.place.store.open(opened.place.name) as disk:
            [found] = _inside([opened._replace(image=disk)], deep=True)
            return found
    except (Error, OSError) as error:
        told = error.message if isinstance(error, Error) else error.strerror
        return Contents(warnings=(f"what is in it was not looked at: {told}",))


def _unfolded(image: Image, packed: _Packed, name: Compression) -> tuple[_Packed, Contents]:
    """What is in an archive, as far as a few of its blocks tell."""
    if foreign := foreign_in(image, formats.FORMATS[name]):
        told = f"it is an archive of {foreign.kind.what}"
        return packed._replace(foreign=foreign, warnings=(*packed.warnings, told)), Contents()
    return packed, look_into(image) if name == "zstd" and packed.size else Contents()


def _describe(
    store: Store,
    opened: _Opened,
    packed: _Packed,
    inside: Contents,
    uses: Uses,
) -> ImageInfo:
    container = packed.foreign.container if packed.foreign else None
    return ImageInfo(
        path=opened.place.path,
        host="",
        type=cast(ImageType, opened.found.type),
        size=packed.size,
        allocated=opened.image.allocated if opened.image else opened.found.allocated,
        compression=packed.compression,
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
            *packed.warnings,
            *inside.warnings,
            *_lost(store, opened, inside, packed.size),
        ),
        stored=_stored(opened, packed),
        cluster_size=packed.disk.cluster_size if packed.disk else None,
        internal_snapshots=packed.disk.snapshots if packed.disk else (),
        bitmaps=packed.disk.bitmaps if packed.disk else (),
        made=packed.origin.made if packed.origin else None,
        source=f"{packed.origin.host}:{packed.origin.path}" if packed.origin else None,
        moment=packed.origin.moment if packed.origin else None,
        quiesced=packed.origin.quiesced if packed.origin else None,
    )


def _stored(opened: _Opened, packed: _Packed) -> int | None:
    """The bytes of an archive. What lies on a volume may end anywhere within it."""
    lies_alone = opened.found.type in ("file", "object")
    is_archive = packed.compression and opened.image and lies_alone
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


def _lost(store: Store, opened: _Opened, inside: Contents, size: int | None) -> tuple[str, ...]:
    if size is None or opened.found.state != "complete":
        return ()
    found = lost.told(store, opened.place.path, opened.found.name, inside, size)
    return tuple(loss.message for loss in found)


def _lacking(found: Stored) -> tuple[str, ...]:
    """The warning for an image of which a part lies on a disk that is missing."""
    if found.lacks is None:
        return ()
    return (f"{found.lacks}; what lay on it cannot be read, unless it lies elsewhere, too",)


def _packed(opened: _Opened) -> _Packed:
    if opened.image is None:
        warning = "it is not active; its contents were not looked at"
        return _Packed(None, opened.found.size, (warning,))
    try:
        return _recognised(opened, opened.image)
    except Error as error:
        told = f"its contents were not looked at: {error.message}"
        return _Packed(None, opened.image.size, (told,), unread=True)


def _recognised(opened: _Opened, image: Image) -> _Packed:
    try:
        found, foreign = what_is(opened.place, image)
    except OSError:  # it cannot be read, which is told when its file system is looked for
        return _Packed(None, image.size)
    form = opened.place.store.container_of(opened.found.name)
    if form and found is None and opened.found.state == "complete":
        return _contained(opened, image, form)
    if found is None:
        return _unpacked(opened, image, foreign)
    try:
        size = found.image_size(image)
        end = found_end(image) if found.name == "zstd" else None
        return _Packed(found.name, size, origin=end.summary.made_of() if end else None)
    except (Corrupt, Unsupported) as error:
        return _Packed(found.name, None, (error.message,))
    except OSError as error:
        return _Packed(found.name, None, (f"it cannot be read: {error.strerror}",))


def _contained(opened: _Opened, image: Image, form: ContainerFormat) -> _Packed:
    """What a file is that is a container by its name, or by the configuration."""
    try:
        disk = disks.examine(image, form)
    except (Corrupt, Unsupported) as error:
        told = disks.naming(error.message, opened.place.path)
        return _Packed(None, None, (told,), Foreign(form, Container(form)))
    under = disk.backing
    if under is not None:
        under = opened.place.store.elsewhere.path_of(under)
    container = Container(form, disk.size, under)
    return _Packed(None, disk.size, (), Foreign(form, container), disk)


def _unpacked(opened: _Opened, image: Image, foreign: Foreign | None) -> _Packed:
    """What a file holds that is no archive: a raw image, or something foreign."""
    if opened.found.state != "complete":
        return _Packed(None, image.size)
    can = opened.place.store.capabilities
    if can.archives_only and foreign is None:
        told = warnings_of(opened.place.path, None) or (_NO_ARCHIVE,)
        return _Packed(None, image.size, told)
    if can.always_raw:
        with suppress(OSError):
            return _Packed(None, image.size, looks_foreign(looks_like(image), can.noun))
        return _Packed(None, image.size)
    told = warnings_of(opened.place.path, foreign)
    if foreign is None:
        return _Packed(None, image.size, told)
    return _Packed(None, foreign.container.size if foreign.container else None, told, foreign)


def _inside(opened: Sequence[_Opened], *, deep: bool) -> list[Contents]:
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
