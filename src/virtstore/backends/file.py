"""An open plain file as an image, and as a draft: reads, writes, zeros and holes at offsets.

Space is reserved with fallocate, so that what is not written yet reads as zeros and no
later write can fail for want of room. Where a file system cannot do that, zeros are
written. Sources: fallocate(2), lseek(2) on SEEK_DATA and SEEK_HOLE.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import msgspec

from virtstore import linux
from virtstore.backends import attributes
from virtstore.backends.attributes import Attributes
from virtstore.backends.base import PARTIAL_SUFFIX, Holds, Identity
from virtstore.backends.descriptor import DescriptorImage
from virtstore.backends.reworked import Reworked
from virtstore.errors import InUse, Unsupported
from virtstore.model import Extent, ExtentKind

#: For file systems that cannot allocate or zero a range: we write zeros instead.
_CANNOT: Final = (errno.EOPNOTSUPP, errno.ENOSYS)

#: Says that a resize was begun (xattr(7)): where what it moves ended, and what that was. A copy
#: of the file does not have it; the file keeps it when others write something else into it.
_MARK: Final = "user.virtstore.shrinking"


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

    @property
    def identity(self) -> Identity:
        status = os.fstat(self._fd)
        return status.st_dev, status.st_ino

    @property
    def version(self) -> tuple[int, ...]:
        now = os.fstat(self._fd)
        return now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns

    def refuse_locked(self) -> None:
        """Raises `Denied` where somebody made it immutable, or append-only."""
        attributes.refuse_locked(self._fd)

    def match_copy_on_write(self, like: FileImage) -> None:
        """While it is empty: be subject to copy-on-write, or exempt from it, as `like` is."""
        attributes.match_copy_on_write(self._fd, like._fd)

    def mark(self, end: int, contents: str) -> None:
        """Note, for good, that these contents, which end at byte `end`, are being moved."""
        with suppress(OSError):  # not every file system has extended attributes
            os.setxattr(self._fd, _MARK, f"{end} {contents}".encode())
        self.flush()

    def marked(self, contents: str) -> int:
        """The end that `mark` noted of these contents; 0 for nothing."""
        try:
            end, _, noted = os.getxattr(self._fd, _MARK).partition(b" ")
        except OSError:
            return 0
        return int(end) if end.isdigit() and noted == contents.encode() else 0

    def unmark(self) -> None:
        """Forget, for good, what `mark` noted."""
        try:
            os.removexattr(self._fd, _MARK)
        except OSError as error:
            if error.errno not in (*_CANNOT, errno.ENODATA):
                raise
        else:
            self.flush()

    def zero(self, offset: int, length: int) -> None:
        try:
            linux.zero_range(self._fd, offset, length)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            self._write_zeros(offset, length)

    def extents(self) -> Iterator[Extent]:
        offset, size = 0, self.size
        while offset < size:
            data = self._seek(offset, os.SEEK_DATA, size)
            if data > offset:
                yield _extent(offset, data, "zero")
            hole = self._seek(data, os.SEEK_HOLE, size) if data < size else size
            if hole > data:
                yield _extent(data, hole, "data")
            offset = hole

    def reserve(self, size: int) -> None:
        """Make the file `size` bytes long, all of it allocated; holes become zeros. On
        failure the file is as long as before."""
        present = self.size
        try:
            linux.allocate(self._fd, 0, size, keep_size=True)
            os.ftruncate(self._fd, size)
        except OSError as error:
            if error.errno not in _CANNOT:
                with suppress(OSError):
                    os.ftruncate(self._fd, present)  # gives back what lies behind the end
                raise
            os.ftruncate(self._fd, size)
            self._fill_holes()

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def clone_from(self, source: FileImage) -> None:
        """Become what `source` is at this moment by sharing its blocks. `Unsupported` where
        the file system has no reflinks."""
        try:
            self.match_copy_on_write(source)
            linux.clone(source._fd, self._fd)
        except OSError as error:
            if error.errno not in (*_CANNOT, errno.EXDEV, errno.EINVAL, errno.ENOTTY):
                raise
            raise Unsupported(
                "the file system of this directory cannot share blocks between files;"
                " snapshots need XFS (made with reflink=1, its default) or Btrfs"
            ) from None

    def _fill_holes(self) -> None:
        for extent in list(self.extents()):
            if extent.kind == "zero":
                self._write_zeros(extent.offset, extent.length)

    def _seek(self, offset: int, whence: int, size: int) -> int:
        try:
            return min(os.lseek(self._fd, offset, whence), size)
        except OSError as error:
            if error.errno == errno.ENXIO:  # lseek(2): no data behind this offset
                return size
            raise

    def __enter__(self) -> FileImage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FileDraft(FileImage):
    """A file under its temporary name."""

    def __init__(self, fd: int, directory: int, name: str, new: NewFiles) -> None:
        super().__init__(fd)
        self.holds: Holds = "kept" if self._has_data() else "zeros"
        self._directory = directory
        self._name = name
        self._new = new

    def claim(self) -> None:
        """Have it alone, by whatever name, directory or user it was reached. Raises `InUse`."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(
                "another virtstore operation is writing it; try again when it has ended"
            ) from None

    def cut(self, length: int) -> None:
        self.truncate(length)

    def scratch(self) -> FileImage:
        return FileImage(nameless(self._directory))

    def publish(self, *, overwrite: bool, like: str | None = None) -> None:
        # What another user put where the image is to be says nothing of it.
        self._dress(self._name if overwrite else None, like)
        self.flush()
        partial = self._name + PARTIAL_SUFFIX
        if overwrite:
            os.rename(partial, self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        else:
            linux.rename_noreplace(self._directory, partial, self._name)
        os.fsync(self._directory)

    def _has_data(self) -> bool:
        return any(extent.kind != "zero" for extent in self.extents())

    def _dress(self, replaced: str | None, like: str | None) -> None:
        attributes.give(self._fd, to_have(self._directory, self._new, replaced, like))

    def __enter__(self) -> FileDraft:
        return self


class ReworkedFile(Reworked, FileDraft):
    """A file that is its own draft: it keeps its mode and owner, too."""

    def hide(self) -> None:
        self.unmark()  # it speaks of the contents that go
        partial = self._name + PARTIAL_SUFFIX
        linux.rename_noreplace(self._directory, self._name, partial)
        os.fsync(self._directory)

    def _dress(self, replaced: str | None, like: str | None) -> None:
        return

    def __enter__(self) -> ReworkedFile:
        return self


def to_have(
    directory: int, new: NewFiles, replaced: str | None, like: str | None = None
) -> Attributes:
    """What a new file is to have beside its contents: that of the file `like`, with its times, as
    gzip and zstd do it; or that of the file that it replaces; or what is configured."""
    if like is not None:
        return attributes.of_name(directory, like)
    if replaced is not None:
        with suppress(FileNotFoundError):
            found = attributes.of_name(directory, replaced)
            return msgspec.structs.replace(found, times=None)
    return attributes.of_new(directory, new.mode, new.owner, new.group)


def nameless(directory: int) -> int:
    """A file without a name, which is gone when it is closed."""
    return os.open(f"/proc/self/fd/{directory}", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)


def _extent(start: int, end: int, kind: ExtentKind) -> Extent:
    return Extent(start, end - start, kind)
