"""`[[volume_group]]`: a volume group that the configuration allows.

Many hosts have none, so what works on one is imported when it is opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Final, Self

from virtstore.backends.base import Store
from virtstore.backends.root import Root, WrongValue
from virtstore.errors import NotFound
from virtstore.model import Access, EntryType, Finding, VolumeGroup

_NAME: Final = re.compile(r"(?!-)(?!\.{1,2}$)[A-Za-z0-9+_.-]{1,127}")  # lvm(8), "Valid names"


class VolumeGroupRoot(Root, frozen=True):
    """`[[volume_group]]`. `name`: as vgs shows it."""

    section: ClassVar[str] = "volume_group"
    listed: ClassVar[EntryType] = "volume-group"
    what: ClassVar[str] = "a volume group"
    spelled: ClassVar[str] = "/dev/VG/LV"
    tools: ClassVar[tuple[str, ...]] = ("lvm", "dmsetup")

    name: str
    access: Access = "read"

    @property
    def path(self) -> str:
        return f"/dev/{self.name}"

    @classmethod
    def claims(cls, path: str, tree: str, access: Access) -> Self | None:
        """The group need not be there, but what has its path is no device."""
        name = tree.removeprefix("/dev/")
        looks_so = name != tree and _NAME.fullmatch(name) and name not in ("mapper", "rbd")
        return cls(name, access) if looks_so and not _is_device(tree) else None

    def check(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise WrongValue(
                "name", f'{self.name!r} is no volume group\'s name; it is what vgs shows, as "vg0"'
            )

    def open(self, anchor: int, inside: str, name: str = "") -> Store:
        if inside:
            raise NotFound("a volume group has no directories", path=f"{self.path}/{inside}")
        from virtstore.backends.lvm import volume_group

        return volume_group.VolumeGroup(self.name)

    def describe(self, store: Store, access: Access) -> tuple[VolumeGroup, str]:
        from virtstore.backends.lvm import volume_group

        assert isinstance(store, volume_group.VolumeGroup)
        told = VolumeGroup(
            path=self.path,
            access=access,
            total=store.room.size,
            free=store.room.free,
            extent_size=store.room.extent_size,
            thin_pools=store.thin_pools(),
        )
        return told, store.room.missing

    def examine(self, store: Store, access: Access) -> Iterator[Finding]:
        from virtstore.backends.lvm import health, volume_group

        assert isinstance(store, volume_group.VolumeGroup)
        yield from health.examine(self.path, store.room, access)


def _is_device(path: str) -> bool:
    with suppress(OSError):
        return Path(path).exists() and not Path(path).is_dir()
    return False
