"""The options of backups and of restoring them, each written once: Python's keywords, the flags of
the command line with the lines below them as help, and one value for who acts on them."""

from __future__ import annotations

from typing import TypedDict

import msgspec

from virtstore.copy_options import ContentsKeywords, Quiesce, Rate
from virtstore.errors import UsageError
from virtstore.units import parse_rate


class BackupKeywords(TypedDict, total=False):
    """What `backup` takes."""

    no_snapshot: bool
    "Only images that nobody writes to: make no snapshots and no live copies."
    live: bool
    """Let the QEMU of a running libvirt domain keep the moment, also where the place of its image
    has snapshots (default: where it has none, or the image is a qcow2 or the like)."""
    quiesce: Quiesce
    """Freeze the file systems of guests that run for the moment of their backup, 10 s at most. An
    agent has to run in the guest; --quiesce=try does without where none answers, and says so."""
    keep_snapshot: bool
    """Only RBD images: leave the snapshot that a backup is made of behind, so that the next one
    reads only what was written since. One is kept for each directory of backups; it takes room for
    what is overwritten, until the next backup replaces it."""
    verify: bool
    "Read each backup through once it is made, and check every block."
    include: tuple[str, ...]
    """Of a directory or volume group: only images whose names fit such a pattern ('web*', with *, ?
    and [] as the shell has them). May be given more than once."""
    exclude: tuple[str, ...]
    """Of a directory or volume group: no image whose name fits such a pattern. May be given more
    than once."""
    bwlimit: Rate | None
    "What to move at the most in a second for each image (500K, 10M, 10M/s); 0 is no limit."
    nice: bool
    "Leave processor and disks to others, on both hosts."


class BackupOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The same as one value. Raises `UsageError` where they contradict each other."""

    no_snapshot: bool = False
    live: bool = False
    quiesce: Quiesce = False
    keep_snapshot: bool = False
    verify: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    bwlimit: Rate | None = None
    nice: bool = False

    def __post_init__(self) -> None:
        if self.no_snapshot and (self.live or self.quiesce):
            raise UsageError(
                "--live and --quiesce are for images that somebody writes to, which --no-snapshot"
                " leaves out: leave one of them out"
            )
        if self.keep_snapshot and (self.no_snapshot or self.live):
            raise UsageError(
                "--keep-snapshot is for images that a snapshot is made of: leave --no-snapshot and"
                " --live out"
            )
        if self.bwlimit is not None:
            parse_rate(self.bwlimit)


class RestoreKeywords(TypedDict, total=False):
    """What `restore` takes."""

    overwrite: bool
    """Replace an image that is there. Where it is as large as the backup's, or larger, its contents
    are overwritten in place, the blocks that differ, and what is behind them is zeroed. A file that
    is smaller is replaced by another one."""
    force_defined: bool
    "Overwrite an image although a domain of libvirt, which is shut off, is defined on it."
    bwlimit: Rate | None
    "What to move at the most in a second (500K, 10M, 10M/s); 0 is no limit."
    nice: bool
    "Leave processor and disks to others, on both hosts."


class RestoreOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The same as one value."""

    overwrite: bool = False
    force_defined: bool = False
    bwlimit: Rate | None = None
    nice: bool = False

    @property
    def of_copy(self) -> ContentsKeywords:
        """What of it a copy takes."""
        return ContentsKeywords(
            force_defined=self.force_defined, bwlimit=self.bwlimit, nice=self.nice
        )
