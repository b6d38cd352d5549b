"""What is there: info and list. Nothing here changes anything, or fails because
of what an image contains."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import islice
from typing import Final

from msgspec.structs import replace

from virtstore.agent.context import Agent, stored
from virtstore.agent.evidence import Scan
from virtstore.agent.operations import sparing
from virtstore.agent.operations.describing import describe_all
from virtstore.agent.operations.form import Opened
from virtstore.agent.policy import Place
from virtstore.backends.base import Image, Store, Stored
from virtstore.backends.kinds import Root
from virtstore.errors import Denied, NotFound
from virtstore.location import canonical
from virtstore.model import (
    Entry,
    ImageInfo,
)
from virtstore.protocol import (
    GetInfo,
    Listed,
    ListEnd,
    ListImages,
    Told,
)

#: Entries in one message, and images that are open at once and probed by one process; twice, for
#: while one batch is being probed the next is opened. That fits the descriptors of a process.
_BATCH: Final = 400
_AT_ONCE: Final = 2
#: A path has 4 KiB at most, and so has all that is said of an image.
_IN_ONE_MESSAGE: Final = 64
_OVERLAYS: Final = 100


def info(agent: Agent, request: GetInfo) -> Told:
    agent.session.stage("checking")  # what tools measure may take long
    with agent.policy.image(request.path, "read") as place:
        found = stored(place)
        with ExitStack() as stack:
            image = _open(place.store, found, stack)
            opened = Opened(place, found, image)
            [told] = describe_all(place.store, [opened], Scan(), deep=True)
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
        opened: list[Opened] = []
        entries = []
        store.announce([each.name for each in found if each.type not in ("directory", "other")])
        for path, each in zip(paths, found, strict=True):
            try:
                place = Place(store, each.name, path)
                opened.append(Opened(place, each, _open(store, each, stack)))
            except (NotFound, Denied, PermissionError):  # no image, or not ours to read
                entries.append(Entry(path, "", each.type, each.state))
        return entries, describe_all(store, opened, scan, deep=False)


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
