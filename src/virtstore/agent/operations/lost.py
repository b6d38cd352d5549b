"""What an image had lost when it was made longer is told for as long as that is true: from the note
that it has (filesystems/losses.py), and in a copy of it too."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from virtstore.agent.context import Agent
from virtstore.agent.operations.copy_target import Opened
from virtstore.agent.policy import Place
from virtstore.backends.base import Store
from virtstore.errors import Error
from virtstore.filesystems.base import Device
from virtstore.filesystems.detect import Contents, detect
from virtstore.filesystems.losses import Loss, after_growth, losses_noted, valid

_NO_NOTE: Final = (
    "where it lies there can be no note of that (extended attributes): nothing says later that"
    " something is missing"
)
_OF_A_COPY: Final = "what is missing of the source is missing of it, too; 'virtstore info' shows it"


def told(store: Store, path: str, name: str, contents: Contents, size: int) -> Iterator[Loss]:
    """What an image of `size` bytes, which holds `contents`, had lost before it grew."""
    note = valid(store.losses(name))
    forget = store.capabilities.unnote.format(note=note, path=shlex.quote(path))
    for loss in losses_noted(note, contents, size):
        yield loss._replace(
            message=f"{loss.message}; where they were put back since, or are not wanted,"
            f" '{forget}' on its host says so"
        )


def warnings(place: Place, contents: Contents, size: int) -> tuple[str, ...]:
    """The same, as warnings for a person."""
    found = told(place.store, place.path, place.name, contents, size)
    return tuple(loss.message for loss in found)


def note_before_growth(place: Place, contents: Contents, size: int) -> tuple[str, ...]:
    """Note what is missing of an image of `size` bytes that is about to grow. Returns what there is
    to say where that cannot be noted."""
    noted = place.store.losses(place.name)
    note = after_growth(noted, contents, size)
    if note == noted or place.store.note_losses(place.name, note):
        return ()
    return (_NO_NOTE,)


def note_in_copy(agent: Agent, opened: Opened, size: int, note: str) -> tuple[str, ...]:
    """Give a finished copy of an image of `size` bytes the source's note. A raw one that is
    longer than its source hides, as a growth does, that the source was cut. Returns
    warnings for its user."""
    note = valid(note)
    if opened.image and opened.image.size > size:
        agent.session.stage("checking")
        with suppress(Error), opened.image.lend() as fd:
            note = after_growth(note, detect(Device(fd, size)), size)
    kept = opened.draft.note_losses(note)
    return () if not note else (_OF_A_COPY,) if kept else (_OF_A_COPY, _NO_NOTE)
