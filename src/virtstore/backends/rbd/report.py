"""What `rbd` and `ceph` tell in JSON, as values.

Source: rbd(8), `--format json`, whose keys are as of Ceph 14 and later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, TypeVar

import msgspec

from virtstore.errors import Error
from virtstore.model import Extent
from virtstore.text import remark

#: What `rbd ls -l` says, beside its listing, of an image of which only the name is there.
_WITHOUT_HEADER: Final = re.compile(rb"error opening (.+?): \(2\)")

Kind = TypeVar("Kind")


class Parent(msgspec.Struct, frozen=True):
    """The snapshot that a clone lies over."""

    pool: str = ""
    pool_namespace: str = ""
    image: str = ""
    snapshot: str = ""


class Snapshot(NamedTuple):
    """A snapshot of an image. `protected`: it cannot be removed."""

    name: str
    id: int
    size: int
    protected: bool


class Listed(NamedTuple):
    """An image of a pool. `id` stays what it is as long as the image is there, whatever it is
    called; "" of one that is broken: a crash left no more than its name."""

    name: str
    id: str
    size: int
    parent: Parent | None = None
    snapshots: tuple[Snapshot, ...] = ()

    @property
    def broken(self) -> bool:
        return not self.id


class _Row(msgspec.Struct, frozen=True):
    """One of `rbd ls -l`: an image, or a snapshot of the image before it."""

    image: str
    id: str = ""
    size: int = 0
    parent: Parent | None = None
    snapshot: str | None = None
    snapshot_id: int = 0
    protected: str = "false"


class Watcher(msgspec.Struct, frozen=True):
    """A client that has an image open for writing: its address and its number in the cluster."""

    address: str
    client: int

    @property
    def detail(self) -> str:
        return f"client.{self.client} at {self.address}"


class _Status(msgspec.Struct, frozen=True):
    watchers: tuple[Watcher, ...] = ()


class _Used(msgspec.Struct, frozen=True):
    name: str
    used_size: int
    snapshot: str | None = None


class _Usage(msgspec.Struct, frozen=True):
    images: tuple[_Used, ...] = ()


class _PoolState(msgspec.Struct, frozen=True):
    pool_name: str
    flags_names: str = ""


class _Map(msgspec.Struct, frozen=True):
    flags: str = ""
    pools: tuple[_PoolState, ...] = ()


class _Trashed(msgspec.Struct, frozen=True):
    id: str
    name: str


class _Child(msgspec.Struct, frozen=True):
    """`id`: of one in the trash."""

    pool: str = ""
    pool_namespace: str = ""
    image: str = ""
    id: str = ""


class _Changed(msgspec.Struct, frozen=True):
    offset: int
    length: int
    exists: str


class Overlap(msgspec.Struct, frozen=True):
    """What an image shows of a parent: its first `overlap` bytes, where it has nothing itself."""

    pool: str
    image: str
    snapshot: str
    overlap: int
    pool_namespace: str = ""


class _Info(msgspec.Struct, frozen=True):
    parent: Overlap | None = None


def listing(said: bytes, complaints: bytes = b"") -> tuple[Listed, ...]:
    """What `rbd ls -l` said on its standard output, and beside that."""
    rows = _read(said, tuple[_Row, ...])
    snapshots: dict[str, list[Snapshot]] = {}
    for row in rows:
        if row.snapshot is not None:
            found = Snapshot(row.snapshot, row.snapshot_id, row.size, row.protected == "true")
            snapshots.setdefault(row.image, []).append(found)
    whole = [
        Listed(row.image, row.id, row.size, row.parent, tuple(snapshots.get(row.image, ())))
        for row in rows
        if row.snapshot is None
    ]
    names = {each.name for each in whole}
    broken = {name.decode("utf-8", "replace") for name in _WITHOUT_HEADER.findall(complaints)}
    return (*whole, *(Listed(name, "", 0) for name in sorted(broken - names)))


def watchers(said: bytes) -> tuple[Watcher, ...]:
    """What `rbd status` said: who has an image open for writing."""
    return _read(said, _Status).watchers


def usage(said: bytes) -> dict[tuple[str, str], int]:
    """What `rbd du` said: the bytes that each (image, snapshot) has of its own; "" for an image's
    present."""
    return {(each.name, each.snapshot or ""): each.used_size for each in _read(said, _Usage).images}


def why_full(said: bytes, pool: str) -> str:
    """Why nothing can be written to a pool for want of room, of what `ceph osd dump` said; "" where
    there is room."""
    known = _read(said, _Map)
    named = [each.flags_names.split(",") for each in known.pools if each.pool_name == pool]
    flags = {flag for each in named for flag in each}
    remedy = "remove what is not needed, or have it extended; then run the same command again"
    if "full" in known.flags.split(","):
        return f"the cluster is full; {remedy}"
    if "full_quota" in flags:
        return (
            f"the pool {pool} has used up its quota ('ceph osd pool get-quota {pool}' shows it);"
            " raise that, as long as it lasts Ceph removes no images there either, only snapshots;"
            " then run the same command again"
        )
    return f"the pool {pool} is full; {remedy}" if "full" in flags else ""


def trash(said: bytes) -> dict[str, str]:
    """What `rbd trash ls` said: the names that images had, by their ids."""
    return {each.id: each.name for each in _read(said, tuple[_Trashed, ...])}


def children(said: bytes) -> tuple[str, ...]:
    """What `rbd children` said: the images, as `POOL/IMAGE`, that lie over a snapshot."""
    found = _read(said, tuple[_Child, ...])
    return tuple("/".join(filter(None, (c.pool, c.pool_namespace, c.image or c.id))) for c in found)


def id_in(contents: bytes) -> str:
    """The id that the object `rbd_id.NAME` has: its length (4 bytes, little endian), and it."""
    length = int.from_bytes(contents[:4], "little")
    return contents[4 : 4 + length].decode("ascii", "replace")


def metadata(said: bytes) -> dict[str, str]:
    """What `rbd image-meta list` said, which is nothing where there is none."""
    return _read(said, dict[str, str]) if said.strip() else {}


def extents(said: bytes, size: int) -> Iterator[Extent]:
    """What `rbd diff` said of an image of `size` bytes: all of it in order, zeros where there is
    nothing."""
    at = 0
    for offset, length in _data(_read(said, tuple[_Changed, ...]), size):
        if offset > at:
            yield Extent(at, offset - at, "zero")
        if offset + length > at:
            start = max(at, offset)
            yield Extent(start, offset + length - start, "data")
            at = offset + length
    if at < size:
        yield Extent(at, size - at, "zero")


def changes(said: bytes, end: int) -> tuple[tuple[int, int], ...]:
    """What `rbd diff --from-snap` said was written, given back or cut off, of the first `end`
    bytes: (offset, length), in order."""
    rows = sorted((row.offset, row.length) for row in _read(said, tuple[_Changed, ...]))
    found: list[tuple[int, int]] = []
    for offset, length in rows:
        length = min(length, end - offset)
        if found and offset <= sum(found[-1]):
            begin = found[-1][0]
            found[-1] = begin, max(sum(found[-1]), offset + length) - begin
        elif length > 0:
            found.append((offset, length))
    return tuple(found)


def overlap(said: bytes) -> Overlap | None:
    """What `rbd info` said of a parent; None where there is none."""
    found: Overlap | None = _read(said, _Info).parent
    return found


def _data(rows: Iterable[_Changed], size: int) -> Iterator[tuple[int, int]]:
    for row in sorted(rows, key=lambda row: row.offset):
        length = min(row.length, size - row.offset)
        if row.exists == "true" and length > 0:
            yield row.offset, length


def _read(said: bytes, kind: type[Kind]) -> Kind:
    try:
        return msgspec.json.decode(said, type=kind)
    except (msgspec.DecodeError, ValueError) as error:
        told = f"{error}: {remark(said)!r}"
        raise Error(f"rbd said something that is not understood ({told})") from None
