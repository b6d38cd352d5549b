"""The operations whose power is cut: what each starts from, does, and may leave.

Every volume group starts alike, with `web`, `source` and a snapshot of that, `source-s`, in
it; the rest of its disk is full of somebody's old data. `thick` ones lie in vg0, `thin` ones
in a pool of vg1 that does not zero (`-Zn`), which is the harder case.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from typing import Final, Literal, NamedTuple

from virtstore import Host

Kind = Literal["thick", "thin"]

GROUPS: Final[dict[Kind, str]] = {"thick": "vg0", "thin": "vg1"}
POOL: Final = "pool"
SNAPSHOT: Final = "source-s"

#: Sizes in MiB; an extent is one.
WEB: Final = 12
SOURCE: Final = 8


class Contents(NamedTuple):
    """`base` (the contents that a volume had to begin with), then zeros up to `size` MiB."""

    base: str
    size: int

    def bytes(self) -> bytes:
        return _contents(self.base).ljust(self.size << 20, b"\0")


class Operation(NamedTuple):
    """`old` and `new`: what `target` holds before and after, None where there is no such
    volume. `steps`: the LVM commands that it consists of; `thin_steps`: where they are others
    for thin volumes. `takes`: MiB that the VG has less of afterwards. `reworks`: between old
    and new it has no final name. `unseen`: what the VG's free space must not show once the
    new state is there."""

    name: str
    run: Callable[[Host, str, Kind], object]
    target: str
    old: Contents | None
    new: Contents | None
    steps: tuple[str, ...]
    takes: dict[Kind, int]
    reworks: bool = False
    thin_steps: tuple[str, ...] | None = None
    unseen: Contents | None = None

    def steps_of(self, kind: Kind) -> tuple[str, ...]:
        return self.steps if kind == "thick" or self.thin_steps is None else self.thin_steps


def _create(host: Host, group: str, kind: Kind) -> object:
    return host.create(f"{group}/new", f"{WEB}M", thin=POOL if kind == "thin" else None)


def _grow(host: Host, group: str, kind: Kind) -> object:
    return host.image(f"{group}/web").grow("20M")


def _snapshot(host: Host, group: str, kind: Kind) -> object:
    return host.image(f"{group}/web").snapshot("web-s")


def _copy(host: Host, group: str, kind: Kind) -> object:
    return host.image(f"{group}/source").copy(host.image(f"{group}/new"), snapshot=True)


def _overwrite(host: Host, group: str, kind: Kind) -> object:
    return host.image(f"{group}/source").copy(host.image(f"{group}/web"), overwrite=True)


def _copy_contents(host: Host, group: str, kind: Kind) -> object:
    return host.image(f"{group}/source").copy_contents(host.image(f"{group}/web"))


def _delete(host: Host, group: str, kind: Kind) -> object:
    return host.image(f"{group}/web").delete()


def _delete_snapshot(host: Host, group: str, kind: Kind) -> object:
    return host.image(f"{group}/{SNAPSHOT}").delete()


_PUBLISH: Final = ("lvrename", "lvchange")
_REPLACE: Final = ("lvchange", "lvrename", "lvrename", "lvchange", "lvremove")

#: A copy makes a thick volume, also of a thin one; a thick snapshot's exception store is an
#: extent larger than its origin.
OPERATIONS: Final = {
    operation.name: operation
    for operation in (
        Operation(
            *("create", _create, "new", None, Contents("", WEB)),
            steps=("lvcreate", *_PUBLISH),
            takes={"thick": WEB, "thin": 0},
        ),
        Operation(
            *("grow", _grow, "web", Contents("web", WEB), Contents("web", 20)),
            steps=("lvchange", "lvrename", "lvextend", "lvchange", "lvrename", "lvchange"),
            takes={"thick": 20 - WEB, "thin": 0},
        ),
        Operation(
            *("snapshot", _snapshot, "web-s", None, Contents("web", WEB)),
            steps=("lvcreate", *_PUBLISH),
            takes={"thick": WEB + 1, "thin": 0},
        ),
        Operation(
            *("copy", _copy, "new", None, Contents("source", SOURCE)),
            steps=("lvcreate", "lvcreate", *_PUBLISH, "lvconvert", "lvremove"),
            thin_steps=("lvcreate", "lvcreate", *_PUBLISH, "lvremove"),
            takes={"thick": SOURCE, "thin": SOURCE},
        ),
        Operation(
            *("overwrite", _overwrite, "web", Contents("web", WEB), Contents("source", SOURCE)),
            steps=("lvcreate", *_REPLACE),
            takes={"thick": SOURCE - WEB, "thin": 0},
        ),
        Operation(
            *("copy-contents", _copy_contents, "web"),
            *(Contents("web", WEB), Contents("source", WEB)),
            steps=("lvchange", "lvrename", *_PUBLISH),
            takes={"thick": 0, "thin": 0},
            reworks=True,
        ),
        Operation(
            *("delete", _delete, "web", Contents("web", WEB), None),
            steps=("lvremove",),
            takes={"thick": -WEB, "thin": 0},
        ),
        Operation(
            *("delete-snapshot", _delete_snapshot, SNAPSHOT, Contents("source", SOURCE), None),
            steps=("lvchange", "lvconvert", "lvremove"),
            thin_steps=("lvremove",),
            takes={"thick": -SOURCE - 1, "thin": 0},
            unseen=Contents("source", SOURCE),
        ),
    )
}


@cache
def _contents(base: str) -> bytes:
    """What a volume holds to begin with: data of its own, but for a run of zeros, and a
    stretch in which `web` and `source` are equal."""
    if not base:
        return b""
    size = (WEB if base == "web" else SOURCE) - 3
    common = random.Random("common").randbytes(1 << 20)
    return common + bytes(2 << 20) + random.Random(base).randbytes(size << 20)
