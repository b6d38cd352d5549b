"""An image gets another name where it is: rename.

Nothing is copied and nothing replaced. What an image has with it goes along: its times and
attributes, a volume's snapshots and marks. A draft that will have the old name is none of it.
"""

from __future__ import annotations

from contextlib import suppress

import msgspec

from virtstore import names
from virtstore.agent.container import (
    refuse_hiding,
    refuse_misleading_name,
    refuse_opening_as_container,
    what_is,
)
from virtstore.agent.context import Agent, changed, planned
from virtstore.agent.operations.refusals import refuse_existing, refuse_fixed_place, refuse_overlays
from virtstore.agent.policy import Place
from virtstore.backends.base import Image
from virtstore.backends.kinds import RESERVED_SUFFIXES
from virtstore.errors import Corrupt, Error, UsageError
from virtstore.model import Changed
from virtstore.protocol import Done, RenameImage


def rename(agent: Agent, request: RenameImage) -> Done:
    if request.name.endswith(RESERVED_SUFFIXES):
        raise UsageError(
            f"{request.name!r} ends like what virtstore calls an image that is not finished; choose"
            " another name"
        )
    with agent.locked(request.path, "write", unzeroed=True) as place:
        refuse_fixed_place(place)
        with place.store.open(place.name, stored=True) as image:
            told = _told(place, image)
            if request.name == place.name:
                return Done(msgspec.structs.replace(told, changed=False, dry_run=request.dry_run))
            agent.refuse_loss(image, forced=request.force_defined)
            refuse_overlays(place)
            path = f"{place.path.rpartition('/')[0]}/{request.name}"
            with agent.locked(path, "append", unzeroed=True) as target:
                refuse_existing(agent, target)
                _refuse_other_promise(place, target, image)
                if request.dry_run:
                    step = f"rename {place.path} to {target.path}"
                    return Done(planned(target, told.size, step))
                target.store.discard(target.name)  # a draft of something else
                target.store.rename(place.name, target.name)
                return Done(msgspec.structs.replace(told, path=target.path))


def _told(place: Place, image: Image) -> Changed:
    """The answer, but for the new name. The size of what is in an archive may not be known."""
    told = changed(place, image)
    if place.store.container_of(place.name):
        with suppress(Error), place.store.open(place.name) as disk:  # a damaged one has a name, too
            return changed(place, disk)
    if not (archive := what_is(place, image).archive):
        return told
    size = None
    with suppress(Corrupt):
        size = archive.image_size(image)
    return msgspec.structs.replace(told, size=size)


def _refuse_other_promise(place: Place, target: Place, image: Image) -> None:
    """Raises `UsageError` or `Unsupported` where the new name promises other contents than the
    image has. What the old one promises as well is nothing that a user does now."""
    form = target.store.container_of(target.name)
    same = form in (None, place.store.container_of(place.name))
    if same and _promised(place.name) == _promised(target.name):
        return
    archive, foreign = what_is(place, image)
    if foreign and not archive:
        refuse_hiding(target, foreign, place.name)
    kind = foreign.name if foreign else None
    refuse_misleading_name(target, kind, archive.name if archive else None)
    refuse_opening_as_container(target, kind)


def _promised(name: str) -> tuple[str | None, str | None]:
    return names.archive_format(name), names.promised(names.without_archive_suffix(name))
