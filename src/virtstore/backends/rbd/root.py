"""`[[rbd_pool]]`: a pool of a Ceph cluster that the configuration allows.

Many hosts have none, so what works on one is imported when it is opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import ClassVar, Final, Self

from virtstore.backends.base import Store
from virtstore.backends.root import Root, WrongValue
from virtstore.errors import Denied, NotFound
from virtstore.location import within
from virtstore.model import Access, EntryType, Finding, PlaceInfo

_TREE: Final = "/dev/rbd/"
#: What Ceph takes for a pool's name, a user's or a namespace's, as far as a path and an option can.
_NAME: Final = re.compile(r"(?!-)(?!\.{1,2}$)[A-Za-z0-9+_.:=-]{1,100}")


class RbdPoolRoot(Root, frozen=True):
    """`[[rbd_pool]]`. `name`: the pool. `conf`, `user`, `keyring`: as Ceph's programs take them;
    the user without `client.`, and "" for the keyring that `conf` says. `namespace`: of the pool;
    "" for what is in none."""

    section: ClassVar[str] = "rbd_pool"
    listed: ClassVar[EntryType] = "rbd-pool"
    what: ClassVar[str] = "an RBD pool"
    spelled: ClassVar[str] = "/dev/rbd/POOL/IMAGE"
    tools: ClassVar[tuple[str, ...]] = ("rbd", "rados", "ceph-conf")

    name: str
    access: Access = "read"
    conf: str = "/etc/ceph/ceph.conf"
    user: str = "admin"
    keyring: str = ""
    namespace: str = ""

    @property
    def path(self) -> str:
        return f"{_TREE}{self.name}"

    @classmethod
    def claims(cls, path: str, tree: str, access: Access) -> Self | None:
        name = tree.removeprefix(_TREE)
        return cls(name, access) if name != tree and _NAME.fullmatch(name) else None

    def check(self) -> None:
        for key, value in (("name", self.name), ("user", self.user), ("namespace", self.namespace)):
            if not _NAME.fullmatch(value) and (value or key != "namespace"):
                raise WrongValue(key, f"{value!r} is no {_WORDS[key]}")
        if self.user.startswith("client."):
            plain = self.user.removeprefix("client.")
            raise WrongValue("user", f'a user is written without "client."; write "{plain}"')
        for key, value in (("conf", self.conf), ("keyring", self.keyring)):
            if not value.startswith("/") and (value or key != "keyring"):
                raise WrongValue(key, f"{value!r} is no whole path of a file")

    def refuse_overlap(self, others: Iterable[Root]) -> None:
        for other in others:
            if within(other.path, self.path):
                raise Denied(
                    f"the configuration has {other.what} of its own in it, {other.path}, and locks"
                    " of the one would not count for the other; leave one of them out",
                    path=self.path,
                )

    def open(self, anchor: int, inside: str, name: str = "") -> Store:
        if inside:
            raise NotFound("an RBD pool has no directories", path=f"{self.path}/{inside}")
        from virtstore.backends.rbd import cluster, pool

        reached = cluster.Cluster(self.name, self.conf, self.user, self.keyring, self.namespace)
        return pool.RbdPool(reached)

    def describe(self, store: Store, access: Access) -> tuple[PlaceInfo, str]:
        from virtstore.backends.rbd import pool, room

        assert isinstance(store, pool.RbdPool)
        store.free()  # where it cannot be reached, that is said
        known = room.room(store.cluster)
        total, free = known or (0, 0)
        lacking = "" if known else room.UNKNOWN
        return PlaceInfo(self.path, access, self.listed, total, free), lacking

    def examine(self, store: Store, access: Access) -> Iterator[Finding]:
        from virtstore.backends.rbd import health, pool

        assert isinstance(store, pool.RbdPool)
        yield from health.examine(self.path, store, access)


_WORDS: Final = {
    "name": "name of a pool; it is what 'ceph osd lspools' shows",
    "user": "name of a user of Ceph",
    "namespace": "name of a namespace; it is what 'rbd namespace ls' shows",
}
