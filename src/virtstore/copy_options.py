"""The options of a copy, each written once.

The Python API takes them as keywords, the command line makes flags of those, with the lines below
them as help, and a request carries them to the agents as one value, `CopyOptions`. A new option is
a keyword and a field here, and what acts on it.
"""

from __future__ import annotations

from typing import Literal, TypedDict

import msgspec

from virtstore.model import Compression
from virtstore.names import archive_format
from virtstore.units import parse_rate

#: What a copy does with its target: makes it, replaces one that is there, or writes into it.
CopyMode = Literal["new", "overwrite", "contents"]

#: Whether a guest's file systems are frozen for a moment: "try" where that can be.
Quiesce = bool | Literal["try"]

#: Bytes a second, with their unit ("10M", "10M/s", "5000B"); 0 is no limit.
Rate = str | int


class ContentsKeywords(TypedDict, total=False):
    """What both `copy` and `copy_contents` take."""

    snapshot: bool
    "Copy the image as it is at this moment, from a snapshot."
    bwlimit: Rate | None
    "What to move at the most in a second (500K, 10M, 10M/s); 0 is no limit."
    allow_in_use: bool
    "Copy an image that somebody may be writing to."
    nice: bool
    "Leave processor and disks to others, on both hosts."
    force_defined: bool
    "Overwrite an image although a domain of libvirt, which is shut off, is defined on it."
    raw: bool
    "What is copied is a raw disk, even if it looks like a container: a guest wrote that."


class TargetKeywords(TypedDict, total=False):
    """What only `copy` takes: what becomes of its target."""

    archive: bool
    "Compress the target."
    overwrite: bool
    """Replace an existing target, once the copy is whole. A block device is overwritten in place:
    what is on it is lost, and a copy that is cut short leaves neither old nor new."""
    sparse: bool
    """Reserve nothing for the target, a file, and let its zeros take no room. A full disk is then
    found in the middle of the copy, or later by the guest, whose writes fail."""
    reflink: bool
    """Share the source's blocks instead of writing them, at once and atomically: within one file
    system of one host (XFS, Btrfs). Nothing is reserved, as with --sparse: a guest that writes to
    either needs room for that. The image is read once, for its digest."""
    format: Compression | None
    "The archive's format (default: what the target's name says, else zstd)."
    live: bool
    """Copy the disk of a running libvirt domain as it is at this moment, while the guest goes on
    writing. The domain's own backup job does that, for every format; the storage needs no
    snapshots. What the guest overwrites meanwhile takes room in a configured directory."""
    quiesce: Quiesce
    """With --live, or with --snapshot of a running domain's image: freeze the guest's file systems
    for that moment, 10 s at most, so that what was written is on the disk. An agent has to run in
    the guest; --quiesce=try does without where none answers, and says so."""
    keep_snapshot: bool
    """With --snapshot and --archive, of an RBD image: leave the snapshot behind, so that the next
    copy with this archive for its --base reads only what was written since. One is kept for each
    place of archives; it takes room for what is overwritten, until the next copy replaces it."""
    base: str | None
    """An earlier archive of the image, on the target's host (in Python its path there): what that
    has is neither sent nor compressed again. The new archive is whole without it, and shares its
    blocks where the file system can (XFS, Btrfs)."""
    level: int | None
    """The compression level, of an archive or of what travels to an image (default: the format's
    own; on the way to an image it adapts to the link)."""


class CopyKeywords(ContentsKeywords, TargetKeywords, total=False):
    """What `copy` takes."""


class CopyOptions(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """The same as one value. An agent that does not know an option refuses the request."""

    snapshot: bool = False
    bwlimit: Rate | None = None
    allow_in_use: bool = False
    nice: bool = False
    raw: bool = False
    force_defined: bool = False
    archive: bool = False
    overwrite: bool = False
    sparse: bool = False
    reflink: bool = False
    live: bool = False
    quiesce: Quiesce = False
    format: Compression | None = None
    level: int | None = None
    base: str | None = None
    keep_snapshot: bool = False

    def for_source(self) -> CopyOptions:
        """The same without what concerns the target only, and older sources need not know."""
        return msgspec.structs.replace(self, base=None)

    def for_receiver(self) -> CopyOptions:
        """The same without what concerns the source only, and older targets need not know."""
        return msgspec.structs.replace(self, keep_snapshot=False)

    def for_target(self, path: str) -> CopyOptions:
        """The same, with the format of the archive that a target of this path becomes."""
        if not self.archive or self.format:
            return self
        return msgspec.structs.replace(self, format=archive_format(path) or "zstd")

    @property
    def compression(self) -> Compression | None:
        """The format of the archive that the target becomes; None for an image."""
        return (self.format or "zstd") if self.archive else None

    @property
    def bytes_per_second(self) -> int | None:
        """What may be moved in a second; None for any number. Raises `UsageError`."""
        return None if self.bwlimit is None else parse_rate(self.bwlimit)

    def mode(self, *, contents: bool) -> CopyMode:
        """What the copy does with its target. `contents`: it writes into an image."""
        return "contents" if contents else "overwrite" if self.overwrite else "new"
