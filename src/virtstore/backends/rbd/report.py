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

#: What `rbd ls -l` says, beside its listing, of an image that it cannot open, and why.
_NOT_OPENED: Final = re.compile(rb"^rbd: error opening (.+): (\(\d+\) .*)$", re.MULTILINE)
#: Why it cannot open an image of which only the name is there.
_WITHOUT_HEADER: Final = "(2) "
#: How the locks are called that Ceph takes by itself.
_OF_CEPH: Final = "auto "

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
    called; "" of one that cannot be opened. `refused`: why that is, in Ceph's words. `locked`:
    somebody holds a lock of it, who may have it open only."""

    name: str
    id: str
    size: int
    parent: Parent | None = None
    snapshots: tuple[Snapshot, ...] = ()
    refused: str = ""
    locked: bool = False

    @property
    def broken(self) -> bool:
        """Whether a crash left no more than its name."""
        return not self.id and not self.refused

    @property
    def has_nothing(self) -> bool:
        """Whether it, or a snapshot, has no bytes at all: `rbd` crashes that is asked how much of
        such a one is used (Ceph 16)."""
        return bool(self.id) and 0 in (self.size, *(each.size for each in self.snapshots))


class _Row(msgspec.Struct, frozen=True):
    """One of `rbd ls -l`: an image, or a snapshot of the image before it."""

    image: str
    id: str = ""
    size: int = 0
    parent: Parent | None = None
    snapshot: str | None = None
    snapshot_id: int = 0
    protected: str = "false"
    lock_type: str = ""


class Watcher(msgspec.Struct, frozen=True):
    """A client that has an image open for writing: its address and its number in the cluster.
    `lock`: the name of the lock that somebody took by hand; it stays when its client is gone."""

    address: str
    client: int
    lock: str = ""

    @property
    def detail(self) -> str:
        lock = f", by the lock {self.lock!r} that 'rbd lock' shows and removes" if self.lock else ""
        return f"client.{self.client} at {self.address}{lock}"


class _Lock(msgspec.Struct, frozen=True):
    id: str
    locker: str
    address: str


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


class _Mirroring(msgspec.Struct, frozen=True):
    primary: bool = True


class Facts(msgspec.Struct, frozen=True):
    """What a listing does not tell of an image. `snapshot_count`: with those of groups, of
    mirroring, and those that were removed and that images lie over. `group`: that it is in.
    `data_pool`: the pool that has its contents, "" for its own; their objects have names that begin
    with `block_name_prefix`. `stripe_unit`: 0 where it is the object's size."""

    features: tuple[str, ...] = ()
    object_size: int = 0
    stripe_unit: int = 0
    stripe_count: int = 0
    data_pool: str = ""
    block_name_prefix: str = ""
    snapshot_count: int = 0
    mirroring: _Mirroring | None = None
    group: str = ""
    parent: Overlap | None = None


def listing(said: bytes, complaints: bytes = b"") -> tuple[Listed, ...]:
    """What `rbd ls -l` said on its standard output, and beside that."""
    # An image that is about to lose its name is listed twice.
    rows = {(r.id, r.image, r.snapshot): r for r in _read(said, tuple[_Row, ...])}.values()
    snapshots: dict[str, dict[int, Snapshot]] = {}
    for row in rows:
        if row.snapshot is not None:
            found = Snapshot(row.snapshot, row.snapshot_id, row.size, row.protected == "true")
            snapshots.setdefault(row.image, {})[found.id] = found
    whole = [
        Listed(
            row.image,
            row.id,
            row.size,
            row.parent,
            tuple(snapshots.get(row.image, {}).values()),
            locked=bool(row.lock_type),
        )
        for row in rows
        if row.snapshot is None
    ]
    names = {each.name for each in whole}
    return (*whole, *(each for each in _not_opened(complaints) if each.name not in names))


def _not_opened(complaints: bytes) -> Iterator[Listed]:
    """The images that `rbd ls -l` could not open, by their names."""
    for name, why in sorted(dict(_NOT_OPENED.findall(complaints)).items()):
        words = remark(why)
        refused = "" if words.startswith(_WITHOUT_HEADER) else words
        yield Listed(name.decode("utf-8", "replace"), "", 0, refused=refused)


def watchers(said: bytes) -> tuple[Watcher, ...]:
    """What `rbd status` said: who has an image open for writing."""
    return _read(said, _Status).watchers


def locks(said: bytes) -> tuple[Watcher, ...]:
    """What `rbd lock ls` said: who holds a lock that was taken by hand. Whoever has an image open
    holds one that Ceph takes by itself."""
    held = _read(said, tuple[_Lock, ...])
    return tuple(
        Watcher(each.address, int(each.locker.rpartition(".")[2]), each.id)
        for each in held
        if not each.id.startswith(_OF_CEPH)
    )


def usage(said: bytes) -> dict[tuple[str, str], int]:
    """What `rbd du` said: the bytes that each (image, snapshot) has of its own; "" for an image's
    present."""
    return {(each.name, each.snapshot or ""): each.used_size for each in _read(said, _Usage).images}


def written(said: bytes) -> int:
    """The bytes that there are of what `rbd diff` said."""
    return sum(each.length for each in _read(said, tuple[_Changed, ...]) if each.exists == "true")


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
    return facts(said).parent


def facts(said: bytes) -> Facts:
    """What `rbd info` said."""
    return _read(said, Facts)


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
