"""resize, by who has the image: of a disk that a running domain has, only the disk can grow, as by
`grow`; what is on it is the guest's. Everything else is resized with what is in it."""

from __future__ import annotations

from virtstore.agent.context import Agent
from virtstore.agent.operations import image_size, live_growth, moving_swap
from virtstore.agent.operations.filesystem_size import MINIMUM
from virtstore.libvirt import virsh
from virtstore.protocol import Done, GrowImage, ResizeImage
from virtstore.units import parse_target_size


def resize(agent: Agent, request: ResizeImage) -> Done:
    if virsh.is_there() and (size := _grows_live(agent, request)):
        return image_size.grow(agent, GrowImage(request.path, str(size), request.dry_run))
    return moving_swap.resize(agent, request)


def _grows_live(agent: Agent, request: ResizeImage) -> int | None:
    """The bytes to which the disk of a running domain is to grow; None where anything else is
    asked."""
    if request.size == MINIMUM or request.partition is not None or request.move_swap:
        return None
    with (
        agent.locked(request.path, "write", unzeroed=True) as place,
        place.store.open(place.name) as image,
    ):
        present = live_growth.live_size(place, image)
        if present is None:
            return None
        size = parse_target_size(request.size, present)
        return size if size > present else None
