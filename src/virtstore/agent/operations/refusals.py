"""What several verbs refuse: a name that is taken, an image that others depend on."""

from __future__ import annotations

from typing import Final

from virtstore.agent.context import Agent
from virtstore.agent.policy import Place
from virtstore.backends.base import Store, Stored
from virtstore.errors import Denied, Exists, InUse, Unsupported, blamed_on

#: So many overlays are named.
_SHOWN: Final = 8
#: What to do where a name is taken.
_ANOTHER_NAME: Final = "; choose another name, or rename or delete what has it"


def neither(store: Store) -> str:
    """What is to be said of an image that was being changed in place."""
    if store.capabilities.fixed:
        return (
            "an interrupted copy left neither old nor new; the same command makes it whole, and"
            " so does a copy of another image"
        )
    return (
        "an interrupted 'virtstore copy-contents' left neither old nor new; the same command makes"
        " it whole, and 'virtstore clean' removes it for good"
    )


def refuse_fixed_place(place: Place) -> None:
    """Raises `Unsupported` where images are neither made nor removed."""
    if why := place.store.capabilities.fixed:
        raise Unsupported(why, path=place.path)


def require_sparse(place: Place) -> None:
    """Raises `Unsupported` where all space of an image is reserved."""
    able = place.store.capabilities
    if able.sparse:
        return
    remedy = "; leave --sparse out"
    if able.thin_pools:
        remedy += (
            ", or make it in a thin pool ('virtstore create --thin POOL') and use 'copy-contents'"
        )
    raise Unsupported(
        f"only a file can be sparse, and this is {able.noun}{remedy}", path=place.path
    )


def refuse_existing(agent: Agent, place: Place, remedy: str = _ANOTHER_NAME) -> None:
    """Raises where no new image can have this name: `Exists` if anything has it, what is left of an
    image included; `Denied` if what has it may be left of an image, and this session may not change
    images; `UsageError` if no image can be called so; `Unsupported` if the name cannot be given
    safely. `remedy`: what to do if an image has it."""
    with blamed_on(place.path):
        place.store.require_name(place.name)
    found = place.store.find(place.name)
    if found and found.was_image != "no":
        require_changing(agent, place)
    if found and found.was_image == "yes":
        raise Exists(
            f"an image of that name is there, which {neither(place.store)};"
            " 'virtstore copy --overwrite' puts another in its place",
            path=place.path,
        )
    if found and found.state == "complete":
        kind = {"directory": "a directory", "other": "something that is no image"}
        what = kind.get(found.type, "an image")
        told = f"{what} of that name is there already"
        remedy = "; choose another name" if found.type in kind else remedy
        raise Exists(told + remedy, path=place.path)
    with blamed_on(place.path):
        place.store.require_new_names()


def require_changing(agent: Agent, place: Place) -> None:
    """Raises `Denied` where this session may not change images: what has the name may be left of
    one."""
    try:
        agent.policy.require(place.path, "write")
    except Denied as error:
        error.message += (
            f"; what has that name may be an image which {neither(place.store)}, and only who may"
            " change images may go on with it, replace it or remove it"
        )
        raise


def refuse_overlays(place: Place) -> None:
    """Raises `InUse` for what others lie over: without what is in it now they are worthless."""
    overlays = place.store.overlays(place.name)
    if not overlays:
        return
    more = f" and {len(overlays) - _SHOWN} more" if len(overlays) > _SHOWN else ""
    first = overlays[0].removesuffix(".qcow2")
    raise InUse(
        f"overlays beside it lie over it ({', '.join(overlays[:_SHOWN])}{more}), which would be"
        " worthless without what is in it now; delete them first, or make whole images of them"
        f" ('virtstore copy {overlays[0]} {first}-whole.qcow2')",
        path=place.path,
    )


def refuse_dependents(found: Stored, remedy: str) -> None:
    """Raises `InUse`, for an image with which snapshots would be lost."""
    raise InUse(f"snapshots depend on it ({', '.join(found.dependents)}); {remedy}")
