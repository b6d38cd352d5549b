"""Time and memory of one job against the size of the image, for the plot."""

from __future__ import annotations

from bench import demands
from bench.inputs import GIB, SOLID
from bench.model import Contender, Result
from bench.place import Place
from bench.race import Command, Race, shell

_PARTS = (16, 8, 4, 2, 1)
_COPIED = 3


def measure_sizes(place: Place, runs: int) -> Result:
    """Images that are full of data: the first quarter, half, … of solid.img."""
    size = SOLID // place.scale
    contenders = tuple(_measure(place, size // part, min(runs, _COPIED)) for part in _PARTS)
    job = "copy images of 0.25 to 4 GiB, full of data, to an archive on another host"
    return Result("sizes", job, contenders, (demands.memory(contenders),))


def _measure(place: Place, size: int, runs: int) -> Contender:
    command = Command(
        f"{size / GIB:g} GiB",
        "virtstore copy --archive --json {a}/part.img b:{b}/out.zst",
        before=shell("rm -f {b}/out.zst"),
        made="{b}/out.zst",
    )
    race = Race("", "", (command,), (), after=shell("rm {a}/part.img"))
    shell(f"head -c {size} {{a}}/solid.img > {{a}}/part.img")(place)
    return race.measure(place, runs).contenders[0]
