"""After a power cut and a boot: what is left, and what a user would have lost."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from virtstore import Error, Exists, Host, NotFound

from . import cut_steps
from .cut_operations import (
    GROUPS,
    OPERATIONS,
    POOL,
    SNAPSHOT,
    SOURCE,
    WEB,
    Contents,
    Kind,
    Operation,
)

Found = Literal["old", "new", "partial"]
Settle = Literal["clean", "again"]

#: What is looked for in the free space, piece by piece: a chunk of an exception store.
_BLOCK: Final = 4096


class Look(msgspec.Struct, frozen=True):
    """Judge what is left of an operation; `free`: the extents that the VG had free before."""

    operation: str
    kind: Kind
    settle: Settle
    free: int


class Verdict(msgspec.Struct, frozen=True):
    """`found`: what was there after the boot; `problems`: what a user would have lost."""

    found: Found
    problems: tuple[str, ...]


class _Volume(msgspec.Struct, frozen=True):
    name: str
    size: float
    used: float
    tags: str


class Judge:
    """Collects what is wrong with a volume group."""

    def __init__(self, host: Host, look: Look) -> None:
        self._host = host
        self._look = look
        self._operation = OPERATIONS[look.operation]
        self._group = GROUPS[look.kind]
        self._problems: list[str] = []

    def verdict(self) -> Verdict:
        try:
            return Verdict(self._found_and_settled(), tuple(self._problems))
        except Error as error:
            return Verdict("partial", (*self._problems, f"{error.code}: {error}"))

    def _found_and_settled(self) -> Found:
        complete, partial = self._listed(long=True)
        before = self._target(complete, partial=partial)
        self._check_tags(complete)
        self._check_bystanders()
        found: Found = "partial" if partial else "new" if before == "new" else "old"
        if self._look.settle == "clean":
            self._host.clean(f"/dev/{self._group}")
        else:
            self._run_again(found)
            before = "new"
        complete, partial = self._listed()
        after = self._target(complete, partial=False, gone=before == "none")
        if partial or after != before:
            self._complain(f"{self._look.settle} left {after}, {len(partial)} partial")
        self._check_space(complete, after)
        return found

    def _listed(self, *, long: bool = False) -> tuple[set[str], set[str]]:
        """The names of complete images and of partial ones."""
        listed = self._host.list(f"/dev/{self._group}", long=long)
        names = {(image.path.rpartition("/")[2], image.state) for image in listed}
        complete = {name for name, state in names if state == "complete"}
        return complete, {name for name, state in names if state == "partial"}

    def _target(self, complete: set[str], *, partial: object, gone: bool = False) -> str:
        """`old`, `new`, or `none`: it has no final name, and need not have one now."""
        operation = self._operation
        if operation.target not in complete:
            if None in (operation.old, operation.new):
                return "old" if operation.old is None else "new"
            if not (operation.reworks and partial) and not gone:
                self._complain(f"{operation.target} has lost its name")
            return "none"
        held = Path(f"/dev/{self._group}/{operation.target}").read_bytes()
        for state, contents in (("old", operation.old), ("new", operation.new)):
            if contents and held == contents.bytes():
                return state
        self._complain(f"{operation.target} is neither old nor new: {_difference(held, operation)}")
        return "none"

    def _check_bystanders(self) -> None:
        for name, size in (("web", WEB), ("source", SOURCE)):
            if name != self._operation.target:
                path = Path(f"/dev/{self._group}/{name}")
                if not path.exists() or path.read_bytes() != Contents(name, size).bytes():
                    self._complain(f"{name}, which nobody touched, is not what it was")

    def _check_tags(self, complete: set[str]) -> None:
        for volume in _volumes(self._group):
            if "virtstore." in volume.tags and (
                volume.name in complete
                or not volume.name.endswith((".virtstore-partial", ".virtstore-rework"))
            ):
                self._complain(f"{volume.name} is still tagged {volume.tags}")

    def _run_again(self, found: Found) -> None:
        cut_steps.count()
        done = found == "new"
        try:
            self._operation.run(self._host, f"/dev/{self._group}", self._look.kind)
        except (Exists, NotFound) as error:
            if not done:
                self._complain(f"the same command again: {error}")
        steps = cut_steps.counted()
        if found == "old" and steps != self._operation.steps_of(self._look.kind):
            self._complain(f"its steps are not those of the table: {steps}")

    def _check_space(self, complete: set[str], after: str) -> None:
        """Every volume that LVM knows of is one that virtstore shows, and the rest is free."""
        volumes = _volumes(self._group)
        inner = {POOL} if self._look.kind == "thin" else set()
        if names := {v.name for v in volumes if not v.name.startswith("[")} - complete - inner:
            self._complain(f"volumes that nobody sees: {names}")
        if tagged := [v.name for v in volumes if v.tags]:
            self._complain(f"tags are left on {tagged}")
        takes = self._operation.takes[self._look.kind] if after == "new" else 0
        if after == "none" and self._look.kind == "thick" and self._operation.old:
            takes = -self._operation.old.size
        left = free(self._group)
        if left != self._look.free - takes:
            self._complain(f"{left} extents are free, not {self._look.free - takes}")
        self._check_pool(volumes)
        if self._operation.unseen and self._look.kind == "thick" and after == "new":
            self._check_free_space(self._operation.unseen)

    def _check_pool(self, volumes: list[_Volume]) -> None:
        used = {v.name: v.size * v.used / 100 for v in volumes}
        in_pool = used.pop(POOL, 0)
        used.pop(SNAPSHOT, 0)  # its blocks are its origin's
        if in_pool > sum(used.values()) + (1 << 17):
            self._complain(f"the pool holds {in_pool:.0f} bytes, its volumes {used}")

    def _check_free_space(self, unseen: Contents) -> None:
        lvm("lvcreate", "--yes", "-Zn", "-Wn", "-l", "100%FREE", "-n", "rest", self._group)
        held = Path(f"/dev/{self._group}/rest").read_bytes()
        blocks = set(_blocks(unseen.bytes())) - {bytes(_BLOCK)}
        if shown := sum(block in blocks for block in _blocks(held)):
            self._complain(f"{shown} blocks of what is gone are in the free space")

    def _complain(self, problem: str) -> None:
        self._problems.append(problem)


def _blocks(contents: bytes) -> Iterator[bytes]:
    return (contents[start : start + _BLOCK] for start in range(0, len(contents), _BLOCK))


def _difference(held: bytes, operation: Operation) -> str:
    said = [f"{len(held)} bytes"]
    for state, contents in (("old", operation.old), ("new", operation.new)):
        if contents:
            pairs = zip(held, contents.bytes(), strict=False)
            first = next((n for n, (a, b) in enumerate(pairs) if a != b), None)
            said.append(f"differs from {state} at {first}")
    if b"somebody's old data" in held:
        said.append("shows old data")
    return ", ".join(said)


def _volumes(group: str) -> list[_Volume]:
    columns = "lv_name,lv_size,data_percent,lv_tags"
    rows = lvm("lvs", "-a", "--units=b", "--nosuffix", "--reportformat=json", "-o", columns, group)
    return [
        _Volume(r["lv_name"], float(r["lv_size"]), float(r["data_percent"] or 0), r["lv_tags"])
        for r in json.loads(rows)["report"][0]["lv"]
    ]


def free(group: str) -> int:
    return int(lvm("vgs", "--noheadings", "-o", "vg_free_count", group))


def lvm(*command: str) -> str:
    # Not through PATH: what we do ourselves is no step of an operation.
    argv = ["/usr/sbin/lvm", *command]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout
