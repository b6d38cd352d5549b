"""An open plain file as an image, and as a draft: reads, writes, zeros and holes at offsets.

Space is reserved with fallocate, so that what is not written yet reads as zeros and no
later write can fail for want of room. Where a file system cannot do that, zeros are
written. Sources: fallocate(2), lseek(2) on SEEK_DATA and SEEK_HOLE, flock(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from typing import Final

import msgspec

from virtstore import linux
from virtstore.backends.base import (
    PARTIAL_SUFFIX,
    REWORK_SUFFIX,
    Holds,
    Identity,
    ImageDraft,
    Look,
    Readable,
    ResumableSink,
    Version,
    nothing,
)
from virtstore.backends.descriptor import DescriptorImage, extents_of
from virtstore.backends.files import attributes, final_names, leftovers, marks
from virtstore.backends.files.attributes import Attributes
from virtstore.backends.in_place import RENAMED, InPlace
from virtstore.backends.version import of_status
from virtstore.digest import CHUNK
from virtstore.errors import InUse, Unsupported
from virtstore.model import Extent

#: What a hole reads as: no file system's blocks are smaller, but the last may be cut.
_ZEROS: Final = re.compile(rb"\0{512,}|\0+\Z")

#: Bytes of a block that files share, where they can (XFS, Btrfs).
BLOCK: Final = 4096
#: What copy_file_range(2) says where it cannot: between two file systems, or of some kinds.
_NO_COPY: Final = linux.CANNOT | {errno.EXDEV, errno.EPERM, errno.EBADF}

#: Bytes of zeros that are written between two looks at whether to go on.
_STEP: Final = 256 << 20

#: What flock(2) says where a file system has no locks: NFS without lockd, say.
_NO_LOCKS: Final = linux.CANNOT | {errno.ENOLCK}


class NewFiles(msgspec.Struct, frozen=True):
    """Mode and owner of the files that a directory's configuration asks for; -1: unchanged."""

    mode: int = 0o600
    owner: int = -1
    group: int = -1


class FileImage(DescriptorImage):
    """An open file."""

    @property
    def allocated(self) -> int:
        return os.fstat(self._fd).st_blocks * 512

    @cached_property
    def identity(self) -> Identity:
        status = os.fstat(self._fd)
        return status.st_dev, status.st_ino

    @property
    def version(self) -> Version:
        return of_status(os.fstat(self._fd))

    def refuse_locked(self) -> None:
        """Raises `Denied` where somebody made it immutable, or append-only."""
        attributes.refuse_locked(self._fd)

    def match_copy_on_write(self, like: FileImage) -> None:
        """Be subject to copy-on-write, or exempt from it, as `like` is. The file is empty."""
        attributes.match_copy_on_write(self._fd, like._fd)

    def mark(self, end: int, contents: str) -> None:
        """Note on the disk that the contents known as `contents`, which end at byte `end`, are
        being moved within the file."""
        marks.mark(self._fd, end, contents)
        self.flush()

    def marked(self, contents: str) -> int:
        """The end that `mark` noted for these contents; 0 if it noted none."""
        return marks.marked(self._fd, contents)

    def unmark(self) -> None:
        """Take the note of `mark` away, on the disk."""
        if marks.unmark(self._fd):
            self.flush()

    def note_losses(self, note: str) -> bool:
        """See `backends.base.Draft`."""
        return marks.note_losses(self._fd, note)

    def zero(self, offset: int, length: int) -> None:
        try:
            linux.zero_range(self._fd, offset, length)
        except OSError as error:
            if error.errno not in linux.CANNOT:
                raise
            self._write_zeros(offset, length)

    def extents(self) -> Iterator[Extent]:
        return extents_of(self._fd)

    def reserve(
        self, size: int, *, start: int = 0, in_use: bool = False, between: Look = nothing
    ) -> None:
        """Make the file `size` bytes long, at least as long as it is, with all space behind byte
        `start` allocated. Holes there become zeros. A failure leaves the old length. `in_use`:
        somebody may be writing to it; so a failure leaves the length up to which it was zeroed.
        `between` is called now and then while zeros are written, and may raise."""
        present = self.size
        if size <= start:
            return
        try:
            self._allocate(start, size, present, between)
        except BaseException:
            with suppress(OSError):  # gives back what lies behind the end
                os.ftruncate(self._fd, self.size if in_use else present)
            raise

    def _allocate(self, start: int, size: int, present: int, between: Look) -> None:
        for keep_size in (True, False):  # NFS can only make a file longer with it
            try:
                linux.allocate(self._fd, start, size - start, keep_size=keep_size)
            except OSError as error:
                if error.errno not in linux.CANNOT:
                    raise
            else:
                return self._lengthen(size)
        self._fill_holes(start, present, between)
        # Longer by what is written, behind the end as it is by then: nobody who has it open, or
        # makes it longer, finds space that is zeroed later.
        while (end := self.size) < size:
            between()
            self._write_zeros(end, min(_STEP, size - end))
        return self.flush()  # some file systems find only now that there is no room

    def _lengthen(self, size: int) -> None:
        if self.size < size:  # a domain that has it may have made it longer meanwhile
            os.ftruncate(self._fd, size)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def copy_range(self, offset: int, length: int, target: FileImage, at: int) -> None:
        """Copy a range into another file within the kernel, or raise. An end before that is an
        error (EIO)."""
        while length:
            count = _copy_some(self._fd, offset, length, target._fd, at)
            if count == 0:
                raise OSError(errno.EIO, f"the file ends at byte {offset}, within what is copied")
            offset, at, length = offset + count, at + count, length - count

    def clone_from(self, source: Readable) -> None:
        """Become what `source` is at this moment, by sharing its blocks. Raises `Unsupported` where
        the file system has no reflinks, or `source` lies elsewhere."""
        if not isinstance(source, FileImage):
            raise Unsupported("only files share blocks")
        try:
            self.match_copy_on_write(source)
            linux.clone(source._fd, self._fd)
        except OSError as error:
            if error.errno not in linux.CANNOT | {errno.EXDEV}:
                raise
            raise Unsupported(
                "no blocks can be shared here: that needs XFS (made with reflink=1, its default) or"
                " Btrfs, and both files on one such file system"
            ) from None

    def _fill_holes(self, start: int, end: int, between: Look) -> None:
        """Write zeros wherever the file reads as zeros between two bytes. The file system is not
        asked for holes: one that cannot reserve space often cannot tell them from data."""
        for offset in range(start, end, CHUNK):
            if (offset - start) % _STEP == 0:
                between()
            data = self.read_at(offset, min(CHUNK, end - offset))
            for run in _ZEROS.finditer(data):
                self._write_zeros(offset + run.start(), run.end() - run.start())


class FileDraft(FileImage, ImageDraft):
    """A file under its temporary name."""

    _suffix = PARTIAL_SUFFIX

    def __init__(self, fd: int, directory: int, name: str, new: NewFiles) -> None:
        super().__init__(fd)
        self.holds: Holds = "kept"
        self._directory = directory
        self._name = name
        self._new = new
        self.whole = False

    def claim(self, file: str, *, ours: bool) -> None:
        """Lock it, as `lock` does, and see what it holds. Raises `InUse` also if it is not called
        `file` any more: then another agent gave it its final name before it could be locked."""
        self.lock(ours=ours)
        if not final_names.is_named(self._directory, file, self._fd):
            raise InUse(
                "another virtstore operation has just ended that made it, or took it away; run the"
                " same command again"
            )
        self.holds = "kept" if self._has_data() else "zeros"

    def lock(self, *, ours: bool) -> None:
        """Lock the file against other agents, also those that reach it by another name, as another
        user or from another host. Raises `InUse`. `ours`: no lock is needed, since this agent has
        just made the file, or will rename it before it changes, in which one agent succeeds."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(
                "another virtstore operation is writing it; try again when it has ended"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            if not ours:
                raise InUse(
                    "an earlier operation left it partial, and this file system has no locks"
                    f" ({os.strerror(error.errno or 0)}), so another host may be writing it still;"
                    " if none is, 'virtstore clean' removes it"
                ) from None

    def share(self, source: Readable) -> None:
        leftovers.mark_shared(self._fd)
        self.truncate(0)
        self.clone_from(source)

    def finish(self) -> None:
        self.flush()
        self.whole = True

    def publish(self, *, overwrite: bool, like: str | None = None) -> None:
        self.finish()
        # What another user put where the image is to be says nothing of it.
        self._dress(self._name if overwrite else None, like)
        self.flush()
        if overwrite:
            final_names.give_over(self._directory, self._name, self._fd)
            self._remove_what_was_left()
        else:
            final_names.give(self._directory, self._name, self._fd, self._suffix)
        self.whole = False
        leftovers.unmark_draft(self._fd)

    def _remove_what_was_left(self) -> None:
        """Remove what an interrupted copy-contents left of the image that this one replaces."""
        with suppress(FileNotFoundError):
            os.unlink(self._name + REWORK_SUFFIX, dir_fd=self._directory)

    def _has_data(self) -> bool:
        return any(extent.kind != "zero" for extent in self.extents())

    def _dress(self, replaced: str | None, like: str | None) -> None:
        attributes.give(self._fd, to_have(self._directory, self._new, replaced, like))


class FileArchive(FileDraft, ResumableSink):
    """An archive under its temporary name. `discard` removes it."""

    def __init__(
        self, fd: int, directory: int, name: str, new: NewFiles, discard: Callable[[str], None]
    ) -> None:
        super().__init__(fd, directory, name, new)
        self._discard = discard

    def append(self, data: bytes) -> None:
        self.write_at(self.size, data)

    @cached_property
    def shared_unit(self) -> int:
        return BLOCK if shares_blocks(self._directory) else 1

    def append_from(self, other: Readable, offset: int, length: int) -> int:
        """Blocks are shared as far as whole ones lie alike in both; the rest is copied within the
        kernel."""
        if not isinstance(other, FileImage):
            return super().append_from(other, offset, length)
        at = self.size
        shared = 0
        if self.shared_unit == BLOCK and offset % BLOCK == at % BLOCK == 0:
            shared = self._share(other, offset, length // BLOCK * BLOCK, at)
        other.copy_range(offset + shared, length - shared, self, at + shared)
        return shared

    def _share(self, other: FileImage, offset: int, length: int, at: int) -> int:
        """Share whole blocks of another archive. Returns how many bytes these are."""
        if not length:
            return 0
        try:
            linux.clone_range(other._fd, offset, length, self._fd, at)
        except OSError as error:
            if error.errno not in linux.CANNOT | {errno.EXDEV}:
                raise
            return 0
        return length

    def cut(self, length: int) -> None:
        self.truncate(length)

    def scratch(self) -> FileImage:
        return FileImage(final_names.nameless(self._directory))

    def abandon(self) -> None:
        self._discard(self._name)


class ReworkedFile(FileDraft):
    """A file that is changed in place. It keeps its mode and owner."""

    _suffix = REWORK_SUFFIX

    def __init__(self, fd: int, directory: int, name: str, new: NewFiles) -> None:
        super().__init__(fd, directory, name, new)
        self.in_place = InPlace(self, self._hide, self._require_named)

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self.in_place.lose_name()
        super().write_at(offset, data)

    def zero(self, offset: int, length: int) -> None:
        self.in_place.lose_name()
        super().zero(offset, length)

    def publish(self, *, overwrite: bool, like: str | None = None) -> None:
        if not self.in_place.named:
            return super().publish(overwrite=False)
        self.in_place.require_same()
        self.flush()
        self.whole = False
        return None

    def _hide(self) -> None:
        self.unmark()  # it speaks of the contents that go
        attributes.take_power(self._fd)
        final_names.take(self._directory, self._name, self._suffix)

    def _require_named(self) -> None:
        if not final_names.is_named(self._directory, self._name, self._fd):
            raise InUse(RENAMED)

    def _dress(self, replaced: str | None, like: str | None) -> None:
        return


def shares_blocks(directory: int) -> bool:
    """Whether files there can share blocks (reflinks): found by trying it on two files that never
    get a name."""
    try:
        with (
            FileImage(final_names.nameless(directory)) as one,
            FileImage(final_names.nameless(directory)) as other,
        ):
            one.clone_from(other)
    except (OSError, Unsupported):
        return False
    return True


def _copy_some(source: int, offset: int, length: int, target: int, at: int) -> int:
    """Copy some bytes of a range into another file. Returns how many; none at the file's end."""
    try:
        return os.copy_file_range(source, target, min(length, _STEP), offset, at)
    except OSError as error:
        if error.errno not in _NO_COPY:
            raise
    data = os.pread(source, min(length, CHUNK), offset)
    return os.pwrite(target, data, at)


def to_have(
    directory: int, new: NewFiles, replaced: str | None, like: str | None = None
) -> Attributes:
    """The attributes that a new file is to have: those of the file `like`, with its times, as gzip
    and zstd do it; else those of the image that it replaces, or of what is left of that; else the
    configured ones."""
    if like is not None:
        return attributes.of_name(directory, like)
    for file in (replaced, replaced + REWORK_SUFFIX) if replaced else ():
        with suppress(FileNotFoundError):
            found = attributes.of_name(directory, file)
            return msgspec.structs.replace(found, times=None)
    return attributes.of_new(directory, new.mode, new.owner, new.group)
