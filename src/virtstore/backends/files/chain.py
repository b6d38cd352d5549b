"""What an overlay lies over: a chain of images, each opened by us and none by an engine.

Only a header says what the next one is, and somebody else may have written it. So each path in it
is asked for where paths are checked (`base.Elsewhere`), and what is opened there, for reading, is
kept: the engine gets descriptors, and names of no files. Whether one is a container its overlay's
header says, or else its own name or the configuration, and never its contents.

Source: QEMU's docs/interop/qcow2.txt, and its "BlockdevOptionsQcow2" for `backing`.
"""

from __future__ import annotations

import json
import os
import shlex
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final, NamedTuple

from virtstore import formats, names
from virtstore.backends.base import Elsewhere, Identity, Store
from virtstore.backends.descriptor import DescriptorImage
from virtstore.backends.files.file import FileImage
from virtstore.errors import Corrupt, Denied, Error, NotFound, Unsupported, from_os_error
from virtstore.exporter import Node
from virtstore.formats import disks
from virtstore.formats.disks import VirtualDisk
from virtstore.model import ContainerFormat

#: So many images may lie under one.
DEEPEST: Final = 32


class Member(NamedTuple):
    """An image of a chain, open for reading; `form` None: a raw one. `path` is for people, and
    `over` of its overlay, in a command."""

    file: DescriptorImage
    form: ContainerFormat | None
    path: str
    over: str


def open_chain(
    top: FileImage, disk: VirtualDisk, elsewhere: Elsewhere, held: ExitStack
) -> list[Member]:
    """What the overlay `top` lies over, the nearest first, as long as `held` holds it. Raises
    `Denied` for what may not be read, `Corrupt` for a chain without an end, and `Unsupported`.
    `FILE` in a message is the overlay."""
    members: list[Member] = []
    seen: set[Identity] = {top.identity}
    over = "FILE"
    while disk.backing is not None:
        path = elsewhere.path_of(disk.backing)
        if len(members) == DEEPEST:
            raise Unsupported(
                f"more than {DEEPEST} images lie under it;"
                " `qemu-img convert -f qcow2 -O qcow2 FILE NEW.qcow2` makes a whole image of all"
            )
        try:
            store, name = held.enter_context(elsewhere.opened(path))
            member = _opened(store, name, disk, path, over, held)
            if member.file.identity in seen:
                raise Corrupt("it lies over itself, so that the chain has no end; " + _rebase(over))
            disk = _below(member)
        except (Error, OSError) as error:
            raise _blamed(error, path, over) from None
        members.append(member)
        seen.add(member.file.identity)
        elsewhere, over = store.elsewhere, shlex.quote(path)
    return members


def nodes(members: Sequence[Member]) -> list[Node]:
    """QEMU's nodes for a chain, the lowest first: each names the next by the name of a node, and
    no file. They take no lock that would keep a guest from starting."""
    found: list[Node] = []
    for number, member in reversed(list(enumerate(members))):
        how: Node = {"read-only": True, "force-share": True}
        fd = member.file.descriptor
        driver = "host_device" if stat.S_ISBLK(os.fstat(fd).st_mode) else "file"
        file = {"driver": driver, "filename": f"/proc/self/fd/{fd}", "node-name": f"file-{number}"}
        under = beneath(found) if member.form == "qcow2" else {}
        disk = {"driver": member.form or "raw", "file": f"file-{number}", **under}
        found += [{**file, **how}, {**disk, "node-name": f"under-{number}", **how}]
    return found


def beneath(found: Sequence[Node]) -> Node:
    """What a qcow2's node has to say of what it lies over: of nothing, too, or the engine would
    open what the header names."""
    return {"backing": found[-1]["node-name"] if found else None}


def _opened(
    store: Store, name: str, disk: VirtualDisk, path: str, over: str, held: ExitStack
) -> Member:
    file = held.enter_context(store.open(name, stored=True))
    if not isinstance(file, DescriptorImage):
        noun = store.capabilities.noun
        raise Unsupported(f"it is {noun}, and only files and block devices are read under a qcow2")
    return Member(file, _form(disk.backing_format, store, name, file, over), path, over)


def _form(
    said: str | None, store: Store, name: str, file: DescriptorImage, over: str
) -> ContainerFormat | None:
    """The container that a member is to be opened as; None for a raw image."""
    if said == "raw":
        return None
    if store.capabilities.always_raw:
        raise Unsupported(
            f"it is {store.capabilities.noun}, which is read as a raw disk only, and the overlay"
            f" {f'says {json.dumps(said)}' if said else 'does not say of which format it is'}."
            f" Where it is raw, `qemu-img rebase -u -f qcow2 -b PATH -F raw {over}` says so"
        )
    form = store.container_of(name) if said is None else _known(said)
    if said is None and form is None and formats.recognise(file) != formats.RAW:
        raise Unsupported(
            "the overlay does not say of which format it is, its name says that it is raw, and it"
            " does not begin as a raw image. Whoever knows what it is says so:"
            f" `qemu-img rebase -u -f qcow2 -b PATH -F FORMAT {over}`"
        )
    return form


def _known(said: str) -> ContainerFormat:
    form = next((each for each in names.OPENED if each == said), None)
    if form is None:
        raise Unsupported(
            f"its format, as the overlay says, is {json.dumps(said)}, which is not opened;"
            " `qemu-img convert -f qcow2 -O qcow2 FILE NEW.qcow2` makes a whole image of both"
        )
    return form


def _below(member: Member) -> VirtualDisk:
    """What a member's header says; of a raw image, that nothing lies under it."""
    if member.form:
        return disks.examine(member.file, member.form)
    return VirtualDisk("qcow2", member.file.size)


def _rebase(over: str) -> str:
    return f"`qemu-img rebase -u -f qcow2 -b PATH -F FORMAT {over}` names another image"


def _blamed(error: Error | OSError, path: str, over: str) -> Error:
    """The error for an overlay of which the image under it is not to be had."""
    told = error if isinstance(error, Error) else from_os_error(error)
    message = disks.naming(told.message, path)
    kind = type(told) if isinstance(told, Denied | Unsupported) else Corrupt
    if isinstance(told, NotFound):
        message = f"{told.message}; put it back, or {_rebase(over)}"
    return kind(f"it is an overlay, and of what lies under it, {path}: {message}")
