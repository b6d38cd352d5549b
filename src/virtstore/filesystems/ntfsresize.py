"""ntfsresize and ntfs-3g.probe: the exact commands, and what the tools mean by what they say.

What was seen of the tools (2022.10.3): ntfsresize looks at neither hibernation nor the journal
any more, and resizes a hibernated volume without a word, so ntfs-3g.probe is asked first; what
that looks for it only looks for when it could write. ntfsresize refuses a marked volume unless
forced once, and forced once more it asks nothing; unforced, it takes the end of its input for
a yes. It ends where the real path of its device does not exist. `-s N` makes N/cluster-1
clusters and a sector; its "might resize at N" is such an N, often one cluster too many, and by
its manual too hopeful at times. Once no cluster is to spare, it passes its check with status 1
("Volume is full"). What it is given begins where the volume does: a partition needs a loop
device.

It copies clusters to free ones, then tells the file table, and the boot sector last. Stopped half
way (by a power cut: virtstore never stops it) it has overwritten no contents, but the volume may
not open before chkdsk was there: of 36 that were killed on purpose 12 had lost sight of the
mirror of their table and 16 had half emptied their journal, which is refused, and 8 could be gone
on with, all files intact.

Sources: ntfsresize(8), ntfs-3g.probe(8) "Exit codes", ntfsprogs/ntfsresize.c.
"""

from __future__ import annotations

import re
from typing import Final

from virtstore import run
from virtstore.filesystems.base import Device
from virtstore.text import remark

#: Exit codes of ntfs-3g.probe.
NOT_NTFS: Final = 12
INCONSISTENT: Final = 13
HIBERNATED: Final = 14
UNCLEAN: Final = 15
UNKNOWN: Final = 18  # of damage that has no code of its own

#: Sizes are given in KiB: see ntfsvolume.py.
UNIT: Final = 1024


def probe_argv(device: Device) -> tuple[str, ...]:
    return ("ntfs-3g.probe", "--readwrite", device.path)


def info_argv(device: Device, *, marked: bool) -> tuple[str, ...]:
    return ("ntfsresize", "--info", *_force(marked), device.path)


def rehearse_argv(device: Device, size: int, *, marked: bool) -> tuple[str, ...]:
    return ("ntfsresize", "--no-action", *_force(marked), *_size(size), device.path)


def resize_argv(device: Device, size: int, *, marked: bool) -> tuple[str, ...]:
    return ("ntfsresize", *_force(marked), "--force", *_size(size), device.path)


def _size(size: int) -> tuple[str, ...]:
    return ("--size", f"{size // UNIT}ki")


def _force(marked: bool) -> tuple[str, ...]:
    return ("--force",) if marked else ()


def parse_minimum(output: bytes) -> int | None:
    """Bytes in the advice that ntfsresize gives."""
    match = re.search(rb"You might resize at (\d{1,19}) bytes", output)
    return int(match[1]) if match else None


def parse_progress(output: bytes) -> int | None:
    """Hundredths of a percent of what has to move; None before that begins."""
    moving = output.partition(b"Relocating needed data")[2].partition(b"Updating")[0]
    steps: list[tuple[bytes, bytes]] = re.findall(rb"(\d{1,3})\.(\d\d) percent", moving[-200:])
    return int(steps[-1][0]) * 100 + int(steps[-1][1]) if steps else None


def complaint(said: run.Completed) -> str:
    """The first thing that ntfsresize or the probe calls an error, on one printable line."""
    lines = [line.strip() for line in (said.stdout + said.stderr).splitlines() if line.strip()]
    for number, line in enumerate(lines):
        if line.startswith(b"ERROR"):
            text = b" ".join(lines[number : number + 2]).decode("utf-8", "replace")
            return remark(re.sub(r"^ERROR(\(\d+\))?: ", "", text))
    return said.complaint


def is_full(said: run.Completed) -> bool:
    """It passed the check, has no cluster to spare, and gets exit status 1 for that."""
    return b"Volume is full" in said.stdout


#: What a rehearsal that fails says, unless the volume fails its check.
DOES_NOT_FIT: Final = re.compile(
    rb"New size can't be less|The fragmentation type, you have|can't be split up|Volume is full"
    rb"|Not enough free space|Couldn't allocate|Illegal new volume size"
)
UNSUPPORTED: Final = re.compile(
    rb"isn't supported|not supported yet|Unknown NTFS version|is too large"
)
