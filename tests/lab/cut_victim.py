"""What runs, as root, in the machine whose power is cut: `python -m tests.lab.cut_victim PLAN`.

One boot does two things: it judges what the last cut left in one volume group, and then it
runs an operation on the other, during which the next cut comes. One agent does both.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Final

import msgspec

from virtstore import connect

from . import cut_steps
from .cut_judge import Judge, Look, free, lvm
from .cut_operations import GROUPS, OPERATIONS, POOL, SNAPSHOT, SOURCE, WEB, Contents, Kind

_OLD_DATA: Final = b"somebody's old data.".ljust(32, b".") * (1 << 15)


class Run(msgspec.Struct, frozen=True):
    operation: str
    kind: Kind
    hold: str = ""


class Plan(msgspec.Struct, frozen=True):
    look: Look | None = None
    run: Run | None = None


def main() -> None:
    plan = msgspec.json.decode(sys.argv[1], type=Plan | None)
    if plan is None:
        return _say(json.dumps(_prepare()))
    _configure()
    with connect() as host:
        if plan.look:
            _say(msgspec.json.encode(Judge(host, plan.look).verdict()).decode())
        if plan.run:
            cut_steps.count(plan.run.hold)
            _say("begin")
            OPERATIONS[plan.run.operation].run(host, f"/dev/{GROUPS[plan.run.kind]}", plan.run.kind)
            _say("ended")
    return None


def _say(line: str) -> None:
    print(line, flush=True)


def _prepare() -> dict[str, int]:
    """Make both volume groups. Returns the extents that are free in each."""
    for disk, (kind, group) in zip(("/dev/ubda", "/dev/ubdb"), GROUPS.items(), strict=True):
        _fill_with_old_data(disk)
        lvm("vgcreate", "--physicalextentsize", "1M", group, disk)
        if kind == "thin":
            pool = ("-T", "-L", "40M", "--poolmetadatasize", "2M", "-Zn", f"{group}/{POOL}")
            lvm("lvcreate", "--yes", *pool)
        for name, size in (("web", WEB), ("source", SOURCE)):
            where = ("-V", f"{size}M", "--thinpool", POOL) if kind == "thin" else ("-L", f"{size}M")
            lvm("lvcreate", "--yes", *where, "-n", name, group)
            _write(f"/dev/{group}/{name}", Contents(name, size).bytes())
        _snapshot(group, kind)
    return {kind: free(group) for kind, group in GROUPS.items()}


def _snapshot(group: str, kind: Kind) -> None:
    """A snapshot of `source`; a thick one has all of its origin in its exception store."""
    room = ("-L", f"{SOURCE + 1}M") if kind == "thick" else ("-kn",)
    lvm("lvcreate", "--yes", "-s", *room, "-n", SNAPSHOT, f"{group}/source")
    if kind == "thick":
        _write(f"/dev/{group}/source", Contents("source", SOURCE).bytes())


def _fill_with_old_data(disk: str) -> None:
    with open(disk, "rb") as device:
        size = device.seek(0, os.SEEK_END)
    _write(disk, _OLD_DATA * (size // len(_OLD_DATA)))


def _write(device: str, contents: bytes) -> None:
    """A thin volume keeps what was flushed; sync(2) writes it out and does not flush it."""
    with open(device, "r+b") as volume:
        volume.write(contents)
        volume.flush()
        os.fsync(volume.fileno())


def _configure() -> None:
    lines = [f'[[volume_group]]\nname = "{g}"\naccess = "write"\n' for g in GROUPS.values()]
    Path("/etc/virtstore/config.toml").write_text("".join(lines))
    cut_steps.install()


if __name__ == "__main__":
    main()
