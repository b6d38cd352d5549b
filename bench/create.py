"""Creating 100 GiB: nothing but reserving space, so it should take what fallocate(1) takes and
the time in which virtstore starts. Where the disk has no such room, a sparse XFS lends it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from bench import demands, xfs
from bench.inputs import GIB
from bench.model import Result
from bench.place import Place
from bench.race import Command, Race, shell

_WANTED = 100 * GIB
#: What the file system itself takes, and virtstore leaves free.
_SPARE = 16 * GIB
_FALLOCATE, _START_UP = "fallocate", "virtstore create --dry-run"


@dataclass(frozen=True)
class _Room:
    """Where an image of `size` fits."""

    directory: str
    size: int
    note: str


def measure_create(place: Place, runs: int) -> Result:
    with _room(place) as room:
        placed = replace(place, names={**place.names, "new": f"{room.directory}/new.img"})
        return _race(room).measure(placed, runs)


def _race(room: _Room) -> Race:
    gone, size = shell("rm -f {new}"), f"{room.size >> 30}G"
    right = shell(f"[ $(stat -c %s {{new}}) = {room.size} ]")
    return Race(
        "create",
        f"create an image of {room.size >> 30} GiB",
        (
            Command("virtstore", f"virtstore create {{new}} {size}", (), gone, right, "{new}"),
            Command(
                _FALLOCATE,
                f"fallocate -l {size} {{new}} && sync {{new}}",
                ("fallocate",),
                gone,
                right,
                "{new}",
            ),
            Command(_START_UP, f"virtstore create --dry-run {{new}} {size}", (), gone),
        ),
        (demands.no_slower_than_sum((_FALLOCATE, _START_UP), 1.1), demands.memory),
        (room.note,) if room.note else (),
    )


@contextmanager
def _room(place: Place) -> Iterator[_Room]:
    free = shutil.disk_usage(place.a).free
    with ExitStack() as stack:
        if free > _WANTED + _SPARE:
            yield _Room("{a}", _WANTED, "")
        elif xfs.possible():
            directory = stack.enter_context(xfs.mounted(place, "a", _WANTED + _SPARE))
            note = "On an XFS in a sparse file, for want of room on this machine's disk."
            yield _Room(str(directory), _WANTED, note)
        else:
            size = 1 << ((free // 2).bit_length() - 1)
            yield _Room("{a}", size, "Smaller than 100 GiB, for want of room.")
