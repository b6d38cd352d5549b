"""Images come and go: create, delete, snapshot, clean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final, NamedTuple

import msgspec

from virtstore import names
from virtstore.agent import locks
from virtstore.agent.container import (
    refuse_hiding,
    refuse_misleading_name,
    refuse_opening_as_container,
    require_images,
    require_raw,
    what_is,
)
from virtstore.agent.context import (
    Agent,
    changed,
    planned,
    require_room,
    stored,
)
from virtstore.agent.operations.refusals import (
    refuse_dependents,
    refuse_existing,
    refuse_fixed_place,
    refuse_overlays,
    require_sparse,
)
from virtstore.agent.policy import Place
from virtstore.backends.base import NO_OVERLAY, Image, ImageDraft, Store, Stored
from virtstore.errors import WHO_CLEANS, Denied, InUse, Unsupported, UsageError, blamed_on
from virtstore.location import canonical
from virtstore.model import Changed, Cleaned, ContainerFormat
from virtstore.protocol import (
    CleanUp,
    CreateImage,
    DeleteImage,
    Done,
    DoneCleaning,
    TakeSnapshot,
)
from virtstore.units import format_apart, format_size, parse_size

#: Bytes that are zeroed at once.
_STEP: Final = 256 << 20


def create(agent: Agent, request: CreateImage) -> Done:
    size = parse_size(request.size)
    agent.policy.refuse_root(request.path)
    with (
        _under(agent, request, size) as under,
        agent.locked(request.path, "append") as place,
    ):
        refuse_fixed_place(place)
        require_images(place, new=True)
        if request.thin and not place.store.capabilities.thin_pools:
            noun = place.store.capabilities.noun
            raise Unsupported(f"--thin makes volumes in a volume group, and this is {noun}")
        if request.sparse:
            require_sparse(place)
        refuse_existing(agent, place)
        refuse_misleading_name(place)
        agent.policy.check_size(size)
        place.store.require_attributes(place.name)
        if under and place.store.container_of(place.name) != "qcow2":
            raise Unsupported(NO_OVERLAY)
        if request.dry_run:
            return Done(planned(place, size, _step_of_creation(place, request, size, under)))
        place.store.discard(place.name)  # a draft of something else must not become this
        agent.session.stage("allocating")
        with _draft(place, request, size, under) as draft:
            if under is None and draft.holds != "zeros":
                _zero(agent, draft)
            agent.session.stage("flushing")
            agent.session.progress(draft.size, draft.size)
            draft.publish(overwrite=False)
            return Done(changed(place, draft))


class _Under(NamedTuple):
    """The image that a new one is to lie over; `form` None: a raw one."""

    path: str
    form: ContainerFormat | None


@contextmanager
def _under(agent: Agent, request: CreateImage, size: int) -> Iterator[_Under | None]:
    """What a new image is to lie over, locked so that nobody removes it meanwhile; None for an
    image of its own. Raises `InUse` where somebody writes to it."""
    if request.backing is None:
        yield None
        return
    if agent.policy.address(request.backing) == agent.policy.address(request.path):
        raise UsageError("an image cannot lie over itself")
    with agent.locked(request.backing, "read", shared=True) as place:
        stored(place)
        with blamed_on(place.path), place.store.open(place.name) as image:
            _require_under(place, image, size)
            agent.refuse_use(image, writers_only=True)
            under = _Under(place.path, image.container)
        yield under


def _require_under(place: Place, image: Image, size: int) -> None:
    """Raises unless a new image of `size` bytes can lie over this one."""
    if place.store.capabilities.always_raw:
        noun = place.store.capabilities.noun
        raise Unsupported(
            f"an overlay is made of a file only, and this is {noun}: nothing would keep it from"
            " being changed under the overlay"
        )
    require_raw(place, image)
    if size < image.size:
        asked, under = format_apart(size, image.size)
        raise UsageError(
            f"{asked} is less than the {under} of what it is to lie"
            " over, of which it would have a part only; make it as large, and then shrink it"
            " ('virtstore resize')"
        )


def _draft(place: Place, request: CreateImage, size: int, under: _Under | None) -> ImageDraft:
    if under:
        return place.store.overlay(place.name, size, under.path, under.form)
    return place.store.draft(
        place.name,
        size,
        request.thin,
        sparse=request.sparse,
        preallocate=request.preallocate,
    )


def _step_of_creation(place: Place, request: CreateImage, size: int, under: _Under | None) -> str:
    """What a dry run says. Raises `NoSpace` where so much could not be reserved."""
    container = place.store.container_of(place.name)
    nothing = request.sparse or (container and not request.preallocate)
    if not request.thin and not nothing and place.store.capabilities.reserves:
        require_room(place, size)
    if under:
        return f"create {place.path}, {format_size(size)} ({container}), over {under.path}"
    space = "nothing of it" if nothing or not place.store.capabilities.reserves else "wholly"
    kind = f" ({container})" if container else ", sparse" if request.sparse else ""
    return f"create {place.path}, {format_size(size)}{kind}, {space} allocated, and zeroed"


def delete(agent: Agent, request: DeleteImage) -> Done:
    with agent.locked(request.path, "write", unzeroed=True) as place:
        found = stored(place)
        refuse_fixed_place(place)
        partial = found.state == "partial"
        if found.dependents and not request.with_snapshots:
            refuse_dependents(found, "--with-snapshots removes them too")
        if not partial:
            refuse_overlays(place)
        with place.store.open(place.name, partial=partial, stored=True) as image:
            agent.refuse_loss(image, forced=request.force_defined)
            size = image.size
        taken = found.snapshots if request.with_snapshots else ()
        for path in taken:
            _refuse_loss_of(agent, place, path, forced=request.force_defined)
        if request.dry_run:
            steps = [f"delete {path}" for path in (*taken, place.path)]
            return Done(planned(place, size, *steps))
        with _locked_beside(place, taken):
            if partial:
                for path in taken:
                    place.store.remove(path.rpartition("/")[2])
                place.store.discard(place.name, was_image=True)
            else:
                place.store.remove(place.name, with_snapshots=request.with_snapshots)
        return Done(Changed(path=place.path, host="", changed=True))


def _refuse_loss_of(agent: Agent, place: Place, path: str, *, forced: bool) -> None:
    """Raises `InUse` where somebody uses, or counts on, another image of the same store."""
    name = path.rpartition("/")[2]
    with blamed_on(path), place.store.open(name, stored=True) as image:
        agent.refuse_loss(image, forced=forced)


def snapshot(agent: Agent, request: TakeSnapshot) -> Done:
    agent.policy.require(request.path, "append")  # it will lie beside its image
    with agent.locked(request.path, "read", shared=True) as source:
        stored(source)
        refuse_fixed_place(source)
        require_images(source)
        asked = request.name or None
        if asked and ("/" in asked or asked in (".", "..")):
            raise UsageError(f"{asked!r} is not a name: a snapshot lies beside its image")
        name = source.store.snapshot_name(source.name, asked)
        size = None if request.size is None else parse_size(request.size)
        if size and not source.store.capabilities.sized_snapshots:
            noun = source.store.capabilities.noun
            raise Unsupported(
                f"--size is for snapshots of volumes; one of {noun} shares its blocks"
            )
        parent = source.path.rpartition("/")[0]
        with agent.locked(f"{parent}/{name}", "append") as target:
            refuse_existing(agent, target)
            size_seen = _image_size(source, target)
            if request.dry_run:
                if not source.store.capabilities.sized_snapshots:
                    source.store.frozen(source.name).close()  # trying tells
                step = f"make {target.path} a snapshot of {source.path}"
                with source.store.open(source.name) as image:
                    return Done(planned(target, size_seen or image.size, step))
            agent.session.stage("snapshot")
            target.store.discard(target.name)
            target.store.snapshot(source.name, target.name, size)
            with target.store.open(target.name) as image:
                told = changed(target, image)
                return Done(msgspec.structs.replace(told, size=size_seen or told.size))


def _image_size(source: Place, target: Place) -> int | None:
    """Bytes of the image in an archive of which a snapshot is to be taken; None for an image.
    Raises where the snapshot's name promises something else than what it will be."""
    with source.store.open(source.name, stored=True) as image:
        found, foreign = what_is(source, image)
        if found:
            refuse_opening_as_container(target, None)
            return found.image_size(image)
    holds = foreign.name if foreign else None
    if foreign and names.fits(source.name, foreign.name):
        refuse_hiding(target, foreign, source.name)
    refuse_misleading_name(target, holds)
    refuse_opening_as_container(target, holds)
    return None


def clean(agent: Agent, request: CleanUp) -> DoneCleaning:
    _require_cleaning(agent, request.path)
    agent.session.stage("checking")
    if agent.policy.is_store(request.path):
        with agent.policy.store(request.path, "write") as store:
            agent.mend(store, request.path)
            found, stays = _clean_store(store, request)
    else:
        with agent.policy.image(request.path, "write") as place:
            found, stays = _clean_image(place, request), []
    result = Cleaned(
        path=request.path,
        host="",
        removed=tuple(sorted({path for path, _ in found})),
        freed=sum(s.allocated for _, s in found),
        dry_run=request.dry_run,
        warnings=tuple(stays),
    )
    return DoneCleaning(result)


@contextmanager
def _locked_beside(place: Place, paths: Iterable[str]) -> Iterator[None]:
    """Hold the locks of other images of the same store. Raises `InUse`."""
    with ExitStack() as held:
        for path in paths:
            held.enter_context(locks.hold(place.store.identity(path.rpartition("/")[2])))
            place.store.refresh()
        yield


def _zero(agent: Agent, draft: ImageDraft) -> None:
    """Zero a whole draft, in steps between which the client may go away."""
    for offset in range(0, draft.size, _STEP):
        draft.zero(offset, min(_STEP, draft.size - offset))
        draft.cache.write_out(offset, min(_STEP, draft.size - offset), wait=True)
        agent.session.progress(offset, draft.size)


def _require_cleaning(agent: Agent, path: str) -> None:
    """Raises `Denied` where nothing may be removed. Who may make images there is told what to do
    with an image that a cut connection left."""
    try:
        agent.policy.require(path, "write", directory=True)
    except Denied as error:
        if agent.policy.may(path, "append"):
            error.message += f". The copy that was cut goes on with what it left; {WHO_CLEANS}"
        raise


def _clean_store(store: Store, request: CleanUp) -> tuple[list[tuple[str, Stored]], list[str]]:
    """Remove all leftovers that nobody is working on. Returns what they were of, by their paths,
    and which stay, with the reason. Raises `Denied` for the first that may not be removed, once
    all others are."""
    base = canonical(request.path)
    found: list[tuple[str, Stored]] = []
    stays: list[str] = []
    refused: list[Denied] = []
    for partial in [each for each in store.scan() if each.state == "partial"]:
        path = f"{base}/{partial.name}"
        try:
            with blamed_on(path):
                _clean_up(store, partial, request)
            found.append((path, partial))
        except InUse as error:
            stays.append(f"{path} stays: {error.message}")
        except Denied as error:
            refused.append(error)
    if refused:
        if found and not request.dry_run:
            refused[0].message += "; what else was left there was removed"
        raise refused[0]
    return found, sorted(stays)


def _clean_image(place: Place, request: CleanUp) -> list[tuple[str, Stored]]:
    """The same for one image. Raises `InUse` where somebody is working on it."""
    here = [each for each in place.store.named(place.name) if each.state == "partial"]
    if not here:
        stored(place)
        return []
    refuse_fixed_place(place)
    with blamed_on(place.path):
        for partial in here:
            _clean_up(place.store, partial, request)
    return [(place.path, partial) for partial in here]


def _clean_up(store: Store, partial: Stored, request: CleanUp) -> None:
    """Remove a leftover. Raises `InUse` where an operation is working on it, or snapshots would be
    lost with it."""
    with locks.hold(store.identity(partial.name)):
        if partial.dependents:
            refuse_dependents(partial, "'virtstore delete --with-snapshots' removes all of it")
        if not request.dry_run:
            store.refresh()
            store.discard(partial.name, was_image=partial.was_image == "yes")
