"""Images become longer or shorter, whatever is in them: grow, shrink."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from virtstore.agent.container import require_raw, rounded
from virtstore.agent.context import (
    Agent,
    changed,
    planned,
    refuse_fixed,
    require_room,
    stored,
    unzeroed_from,
)
from virtstore.agent.evidence import Scan, list_uses
from virtstore.agent.operations import lost
from virtstore.agent.operations.cut_checks import device_of, first_data, refuse_to_cut
from virtstore.agent.operations.live_growth import Seen, grow_container, tell_domains
from virtstore.agent.operations.live_growth import steps as live_steps
from virtstore.agent.operations.refusals import refuse_overlays, require_sparse
from virtstore.agent.policy import Place
from virtstore.backends.base import Image
from virtstore.errors import Error, InUse, Unsafe, UsageError
from virtstore.filesystems.claims import losses
from virtstore.filesystems.detect import Contents, detect, end_of_contents
from virtstore.protocol import Done, GrowImage, ShrinkImage
from virtstore.units import format_apart, format_size, parse_target_size


def grow(agent: Agent, request: GrowImage) -> Done:
    with (
        agent.locked(request.path, "write", unzeroed=True) as place,
        place.store.open(place.name) as image,
    ):
        refuse_overlays(place)
        if done := grow_container(agent, place, image, request.size, dry_run=request.dry_run):
            return done
        require_raw(place, image)
        if request.sparse:
            require_sparse(place)
        size = rounded(place, parse_target_size(request.size, image.size))
        if size < image.size:
            asked, present = format_apart(size, image.size)
            raise UsageError(
                f"{asked} is less than its {present}; 'virtstore shrink' makes it smaller"
            )
        unzeroed = place.store.unzeroed(place.name)
        contents = _contents(image)
        noted = lost.warnings(place, contents, image.size)
        if size == image.size and unzeroed is None:
            # An earlier run may have been killed before the domain was told.
            seen = Seen() if request.dry_run else tell_domains(image)
            warnings = (*noted, *seen.warnings)
            return Done(changed(place, image, changed=seen.changed, warnings=warnings))
        if size > image.size:
            refuse_fixed(place)
        agent.policy.check_size(size)
        if unzeroed is not None:
            _refuse_to_zero(agent, image, unzeroed)
        if any(use.by == "swap" for use in Scan().of(image).users):
            agent.refuse_use(image)  # the kernel does not let a swap file grow
        told = noted
        if size > image.size:
            told = (*_losses(contents, image.size), *noted)
        if request.dry_run:
            growing = _growing(place, image, size, unzeroed, sparse=request.sparse)
            steps = (*growing, *live_steps(image))
            return Done(planned(place, size, *steps, warnings=told))
        if size > image.size:
            told = (*told, *lost.note_before_growth(place, contents, image.size))
        before = image.size
        agent.session.stage("allocating")
        _grow(agent, place, image, size, sparse=request.sparse)
        grown = image.size != before or unzeroed is not None
        told = (*told, *tell_domains(image).warnings)
        return Done(changed(place, image, changed=grown, warnings=told))


def _contents(image: Image) -> Contents:
    """What is in an image, as far as this host has a tool to look with."""
    with suppress(Error), device_of(image) as device:
        return detect(device)
    return Contents(measured=False)


def _losses(contents: Contents, size: int) -> tuple[str, ...]:
    """What an image of `size` bytes has lost that was cut, as warnings. It is looked for before the
    image grows: afterwards zeros stand there."""
    found = losses(contents.filesystem, contents.partitions, size)
    return tuple(f"before it grew: {each}" for each in found)


def _growing(
    place: Place, image: Image, size: int, unzeroed: int | None, *, sparse: bool
) -> Iterator[str]:
    """The steps of a growth. Raises `NoSpace`."""
    reserves = stored(place).type in ("file", "lvm") and image.container is None
    if reserves and not sparse:
        require_room(place, size - image.size)
    if unzeroed is not None:
        yield f"zero {place.path} from byte {unzeroed} on, which a growth that was cut short left"
    if size > image.size:
        how = ", with nothing reserved" if sparse else ""
        yield f"grow {place.path} from {format_size(image.size)} to {format_size(size)}{how}"


def _grow(agent: Agent, place: Place, image: Image, size: int, *, sparse: bool) -> None:
    """Grow an image, also one that somebody uses. Raises `InUse` where somebody begins to use it
    meanwhile."""
    uses = agent.uses(image)

    def look() -> None:
        agent.session.check()
        if new := Scan().of(image).users - uses.users:
            raise InUse(
                f"somebody began to use it while its new space was being zeroed ({list_uses(new)})"
            )

    place.store.grow(place.name, size, in_use=uses.in_use, between=look, sparse=sparse)


def _refuse_to_zero(agent: Agent, image: Image, start: int) -> None:
    """Raises `InUse` or `Unsafe` where what lies behind byte `start`, which a growth that was
    cut short did not zero, may have been written since."""
    agent.refuse_use(image)
    with device_of(image) as device:
        end = end_of_contents(detect(device))
    if end == 0 and first_data(image, 0, start) is not None:
        end = None  # something is in it that nobody recognises
    if end is None or end > start:
        raise Unsafe(
            f"{unzeroed_from(start)}, or the image's own: what is in it may have grown into that."
            " If nothing was written there, 'virtstore shrink' to that size cuts it off; if it"
            f" was, 'lvchange --deltag virtstore.zero.{start}' on it there says so"
        )


def shrink(agent: Agent, request: ShrinkImage) -> Done:
    with (
        agent.locked(request.path, "write", unzeroed=True) as place,
        place.store.open(place.name) as image,
    ):
        require_raw(place, image)
        refuse_overlays(place)
        size = rounded(place, parse_target_size(request.size, image.size))
        if size > image.size:
            asked, present = format_apart(size, image.size)
            raise UsageError(
                f"{asked} is more than its {present}; 'virtstore grow' makes it larger"
            )
        noted = lost.warnings(place, _contents(image), image.size)
        if size == image.size:
            return Done(changed(place, image, changed=False, warnings=noted))
        refuse_fixed(place)
        agent.refuse_loss(image, forced=request.force_defined)
        if not request.discard_data:
            refuse_to_cut(image, size)
        if request.dry_run:
            step = f"shrink {place.path} from {format_size(image.size)} to {format_size(size)}"
            return Done(planned(place, size, step, warnings=noted))
        before = image.size
        agent.refuse_loss(image, forced=request.force_defined)  # to look took its time
        agent.session.stage("resizing")
        place.store.shrink(place.name, size)
        return Done(changed(place, image, changed=image.size != before, warnings=noted))
