"""What the readers of containers' headers share: their answer, and looks that stay in bounds."""

from __future__ import annotations

import re
import shlex
import struct
from typing import Final

import msgspec

from virtstore.errors import Corrupt, Unsupported
from virtstore.formats.base import ArchiveSource
from virtstore.model import ContainerFormat
from virtstore.units import MAX_SIZE, format_size

SECTOR: Final = 512
#: A larger disk is in no machine, and an engine would be asked for minutes where its data begins.
_MOST: Final = 1 << 50


class VirtualDisk(msgspec.Struct, frozen=True):
    """What a container's header says, all of it checked and bounded. `size`: bytes that the guest
    sees. `cluster_size`: bytes that are allocated at a time. `backing`: the path of the image that
    it is laid over, as the header has it, and `backing_format` the word for that image's format,
    None where the header does not say. `snapshots` and `bitmaps`: the names of those inside,
    printable."""

    format: ContainerFormat
    size: int
    cluster_size: int | None = None
    backing: str | None = None
    backing_format: str | None = None
    snapshots: tuple[str, ...] = ()
    bitmaps: tuple[str, ...] = ()


def fields(source: ArchiveSource, offset: int, form: str) -> tuple[int, ...]:
    """The numbers at `offset`, as `struct` has `form`. Raises `Corrupt` where the file ends."""
    length = struct.calcsize(form)
    return struct.unpack(form, read(source, offset, length))


def read(source: ArchiveSource, offset: int, length: int) -> bytes:
    """These bytes, all of them. Raises `Corrupt` where the file ends before."""
    require_inside(source, "a part of its header", offset, length)
    return source.read_at(offset, length)


def require_inside(source: ArchiveSource, what: str, offset: int, length: int) -> None:
    """Raises `Corrupt` unless `what` lies in the file."""
    if offset + length > source.size:
        raise Corrupt(
            f"{what} would lie at byte {offset}, {length} bytes long, and the file has only"
            f" {source.size}: it was cut, or its header is damaged; restore it from a backup, or"
            " copy it again from where it came from"
        )


def not_one(format: ContainerFormat) -> Corrupt:
    """The error for a file that has another beginning than its name says."""
    return Corrupt(
        f"by its name, or by this host's configuration, it is a {format} container, and it does not"
        " begin as one. If it is a raw image, give it a name that ends in .raw; if it was"
        f" a {format}, its header is damaged: restore it from a backup"
    )


def require_size(size: int) -> None:
    """Raises `Unsupported` or `Corrupt` for the size of a disk that there cannot be."""
    if size == 0:
        raise Unsupported(
            "its disk has no bytes; make another one, of a size"
            " (`qemu-img create -f qcow2 FILE SIZE`)"
        )
    if size > MAX_SIZE:
        raise Corrupt(
            f"its header says that the disk has {size} bytes, more than any can have (8 EiB): the"
            " header is damaged, or was made to do harm; restore it from a backup"
        )
    if size > _MOST:
        raise Unsupported(
            f"its header says that the disk has {format_size(size)}, and virtstore opens those of"
            f" up to {format_size(_MOST)}; `qemu-img resize --shrink FILE SIZE` makes it smaller."
            " If it never was so large, its header is damaged"
        )


def naming(message: str, path: str) -> str:
    """A message of this package with the path of the container in place of `FILE`."""
    return re.sub(r"\bFILE\b", lambda _: shlex.quote(path), message)


def converted(format: ContainerFormat) -> str:
    """The command line that makes a plain container of one in `format`."""
    return f"`qemu-img convert -f {format} -O qcow2 FILE NEW.qcow2`"
