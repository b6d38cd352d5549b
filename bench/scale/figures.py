"""The unit costs, as they were measured, and what is assumed of a fleet.

Processor time is in seconds (user and system), sizes are bytes. GB is 10^9 bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

FILE: Final = Path(__file__).parent.parent.parent / "docs" / "scale.json"


class Figure(msgspec.Struct, frozen=True, omit_defaults=True):
    """One measurement. `what`: in words; `command`: what was run; `count`: with how many archives,
    hosts or images."""

    value: float
    unit: str
    what: str
    command: str
    date: str
    count: int | None = None


class Costs(msgspec.Struct, frozen=True):
    """The figures by name, as the computations use them."""

    figures: dict[str, Figure]

    def __getitem__(self, name: str) -> float:
        return self.figures[name].value


def load(file: Path = FILE) -> Costs:
    """The figures that are in the repository."""
    return Costs(msgspec.json.decode(file.read_bytes(), type=dict[str, Figure]))


def save(costs: Costs, file: Path = FILE) -> None:
    """Put figures there."""
    ordered = dict(sorted(costs.figures.items()))
    file.write_bytes(msgspec.json.format(msgspec.json.encode(ordered), indent=1) + b"\n")


def renewed(kept: Costs, measured: Costs, *, replace: bool = False) -> Costs:
    """All figures, those that were measured in place of the kept ones. One that was measured with
    more stays, unless `replace`."""
    larger = {
        name: figure
        for name, figure in kept.figures.items()
        if (new := measured.figures.get(name)) and (figure.count or 0) > (new.count or 0)
    }
    return Costs(kept.figures | measured.figures | ({} if replace else larger))


class Fleet(msgspec.Struct, frozen=True):
    """What is to be kept. `at_once`: images that a host backs up at a time (`-j`); `window`:
    seconds of a night."""

    hosts: int = 500
    images: int = 20_000
    size: float = 1e15
    window: float = 8 * 3600
    at_once: int = 2


class Machine(msgspec.Struct, frozen=True):
    """What a machine has for backups: bytes a second that its disks read and write and its network
    moves, and processors."""

    read: float
    write: float
    network: float
    cores: float


#: A host with machines on it gives backups two of its processors.
HOST: Final = Machine(read=1e9, write=0, network=1.25e9, cores=2)
#: A backup host: a shelf of disks that writes 2 GB/s, 25 Gbit/s.
TARGET: Final = Machine(read=2e9, write=2e9, network=3.1e9, cores=32)
#: A bucket's side is somebody else's; of the network to it a site has 100 Gbit/s.
LINK: Final = 12.5e9
