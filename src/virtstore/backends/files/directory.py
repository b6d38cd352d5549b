"""Images that are plain files in a directory.

The directory is a descriptor that the policy opened; names are looked up in it without
following anything. A draft is `NAME.virtstore-partial`, mode 0600, its space reserved by
fallocate, and becomes `NAME` by a rename (see final_names.py): old or new at any moment.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from virtstore.backends.base import (
    PARTIAL_SUFFIX,
    REWORK_SUFFIX,
    Capabilities,
    Image,
    ImageDraft,
    Look,
    Readable,
    Store,
    Stored,
    nothing,
)
from virtstore.backends.files import (
    abilities,
    attributes,
    final_names,
    leftovers,
    listing,
    marks,
    opening,
)
from virtstore.backends.files.file import (
    FileArchive,
    FileDraft,
    FileImage,
    NewFiles,
    ReworkedFile,
    shares_blocks,
    to_have,
)
from virtstore.backends.files.sparse import SparseDraft
from virtstore.backends.version import settled
from virtstore.errors import (
    FREE_OR_CHOOSE,
    Denied,
    Exists,
    InUse,
    NoSpace,
    NotFound,
    Unsupported,
    UsageError,
    from_os_error,
)
from virtstore.units import format_apart, format_size

#: What the kernel says where there is no room, a quota's end, or no file can be so long.
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

#: Bytes that a name has at the most, wherever it is (linux/limits.h).
_NAME_MAX: Final = 255

#: What ntfs-3g adds for a moment to the name of a file that another one replaces. Its renaming
#: fails with EINVAL where that makes the name too long. Longer than any suffix of ours.
_OF_NTFS_3G: Final = ".ntfs-3g-0000000001"


class Directory(Store):
    """One directory below a root; `fd` is an ordinary descriptor on it, which it owns. What a file
    holds is nothing to this class (container_directory.py)."""

    capabilities = Capabilities(
        archives=True,
        sparse=True,
        unnote=f"setfattr -x {marks.LOST} {{path}}",
    )

    def __init__(self, fd: int, new_files: NewFiles | None = None) -> None:
        self._fd = fd
        self._new_files = new_files or NewFiles()

    def close(self) -> None:
        os.close(self._fd)

    def identity(self, name: str) -> str:
        status = os.fstat(self._fd)
        return f"{status.st_dev}:{status.st_ino}/{name}"

    def interrupted(self) -> list[str]:
        return final_names.interrupted(self._fd)

    def is_interrupted(self, name: str) -> bool:
        return final_names.is_interrupted(self._fd, name)

    def mend(self, name: str) -> None:
        final_names.mend(self._fd, name)

    def require_new_names(self) -> None:
        final_names.require_new(self._fd)

    def lacks(self) -> tuple[str, ...]:
        """What this directory's file system cannot do (see `abilities.lacking`)."""
        return abilities.lacking(self._fd)

    def free(self) -> int:
        space = os.fstatvfs(self._fd)
        return space.f_bavail * space.f_frsize

    def total(self) -> int:
        """Bytes of the file system that the directory is on."""
        space = os.fstatvfs(self._fd)
        return space.f_blocks * space.f_frsize

    def filesystem(self) -> str:
        """The type of the file system that the directory is on, as mount(8) names it; "" in a
        chroot, whose own root may not be in its table of mounts."""
        with open(f"/proc/self/fdinfo/{self._fd}") as facts:
            mount = next(line.split()[1] for line in facts if line.startswith("mnt_id:"))
        with open("/proc/self/mountinfo", errors="surrogateescape") as mounts:
            found = [line.split() for line in mounts if line.split()[0] == mount]
        # proc(5): the type follows the separator.
        return next((fields[fields.index("-") + 1] for fields in found), "")

    def space(self) -> os.statvfs_result:
        """What the file system tells of itself (statvfs(3))."""
        return os.fstatvfs(self._fd)

    def is_writable(self) -> bool:
        """Whether this agent's user may make files in it."""
        return os.access(f"/proc/self/fd/{self._fd}", os.W_OK | os.X_OK, effective_ids=True)

    def scan(self) -> Iterator[Stored]:
        return listing.scan(self._fd)

    def named(self, name: str) -> list[Stored]:
        return listing.named(self._fd, name)

    def find(self, name: str) -> Stored | None:
        return listing.find(self._fd, name)

    def open(
        self, name: str, *, writable: bool = False, partial: bool = False, stored: bool = False
    ) -> Image:
        return self.file(name, writable=writable, partial=partial)

    def file(self, name: str, *, writable: bool = False, partial: bool = False) -> FileImage:
        """The file itself, opened, whatever is in it (see `open`)."""
        file = self._left(name) if partial else name
        return FileImage(opening.regular(self._fd, file, os.O_RDWR if writable else os.O_RDONLY))

    def archive(self, name: str) -> FileArchive:
        fd, made = self._open_partial(name)
        draft = FileArchive(fd, self._fd, name, self._new_files, self.discard)
        _claim(draft, name + PARTIAL_SUFFIX, made=made)
        return draft

    def _draft(self, name: str, kind: type[FileDraft] = FileDraft) -> FileDraft:
        fd, made = self._open_partial(name)
        draft = kind(fd, self._fd, name, self._new_files)
        _claim(draft, name + PARTIAL_SUFFIX, made=made)
        return draft

    def require_name(self, name: str) -> None:
        if final_names.is_internal(name):
            raise UsageError(
                "files that virtstore tries things on, or that the file system keeps while they are"
                " open, are called so, and no listing shows them; choose another name"
            )
        suffix = _OF_NTFS_3G if self.filesystem().startswith("fuse") else PARTIAL_SUFFIX
        told = os.fstatvfs(self._fd).f_namemax  # 1530 of FAT, in which 255 characters have room
        most = min(told or _NAME_MAX, _NAME_MAX) - len(suffix)
        length = len(os.fsencode(name))
        if length > most:
            raise UsageError(
                f"its name has {length} bytes, and at most {most} are possible here: while an"
                f" image is made or overwritten it is called that and {suffix}; choose a"
                " shorter name"
            )

    def require_attributes(self, name: str, like: str | None = None) -> None:
        with suppress(NotFound, PermissionError), self.file(name) as replaced:
            replaced.refuse_locked()
        wanted = to_have(self._fd, self._new_files, name, like)
        with final_names.trial(self._fd) as trial:
            attributes.give(trial, wanted)

    def draft(
        self,
        name: str,
        size: int,
        thin: str | None = None,
        *,
        sparse: bool = False,
        preallocate: bool = False,
        stored: bool = False,
    ) -> ImageDraft:
        if thin:
            raise Unsupported("a directory has no thin pools")
        draft = self._draft(name, SparseDraft if sparse else FileDraft)
        try:
            if draft.size == 0:
                with suppress(NotFound, Denied, OSError), self.file(name) as replaced:
                    draft.match_copy_on_write(replaced)
            if draft.size > size:
                draft.truncate(size)
            if not sparse:
                self._refuse_what_does_not_fit(size - draft.allocated)
            draft.reserve(size)
        except BaseException as error:
            draft.close()
            self.discard(name)
            _explain(error, size)
            raise
        return draft

    def rework(self, name: str, before: Callable[[Image], None] = lambda image: None) -> ImageDraft:
        return self._reworked(name, before)

    def _reworked(
        self, name: str, before: Callable[[Image], None], *, reserve: bool = True
    ) -> ReworkedFile:
        stored = self.find(name)
        if stored is None:
            raise NotFound("no such image")
        self.require_new_names()  # as it gets its own back
        file = name if stored.state == "complete" else self._left(name)
        fd = opening.regular(self._fd, file, os.O_RDWR)
        image = ReworkedFile(fd, self._fd, name, self._new_files)
        try:
            if reserve:  # one that was copied in by hand may be sparse; writing must not fail then
                self._refuse_what_does_not_fit(stored.size - stored.allocated)
            image.claim(file, ours=stored.state == "complete")
            if reserve:
                image.reserve(image.size)
            if stored.state == "complete":
                self._refuse_partial_beside(name)
                image.in_place.begin(before, settled(image))
            elif not file.endswith(REWORK_SUFFIX):  # an older version's, maybe
                left = name + REWORK_SUFFIX
                os.rename(file, left, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except BaseException as error:
            image.close()
            _explain(error, stored.size)
            raise
        return image

    def _refuse_partial_beside(self, name: str) -> None:
        if any(final_names.exists(self._fd, file) for file in leftovers.names(name)):
            raise InUse(
                "an interrupted operation left a partial image beside this one;"
                " remove it with 'virtstore clean'"
            )

    def _left(self, name: str) -> str:
        """The file name of a partial image. What is left of an image goes before a draft."""
        *files, last = leftovers.names(name)
        return next((file for file in files if final_names.exists(self._fd, file)), last)

    def remove(self, name: str, *, with_snapshots: bool = False) -> None:
        # It is closed before it goes: FUSE and NFS keep what is open.
        with self.file(name) as image:  # refuses what is no image
            image.refuse_locked()
        os.unlink(name, dir_fd=self._fd)
        final_names.flush(self._fd)

    def rename(self, name: str, new: str) -> None:
        with self.file(name) as image:  # as in `remove`
            image.refuse_locked()
        final_names.change(self._fd, name, new)

    def discard(self, name: str, *, was_image: bool = False) -> None:
        reworked, draft = name + REWORK_SUFFIX, name + PARTIAL_SUFFIX
        for file in (reworked, draft) if was_image else (draft,):
            with final_names.missing_suppressed():
                self._refuse_claimed(file)
                self._unlink(file)
                final_names.flush(self._fd)

    def _unlink(self, file: str) -> None:
        """Raises `Denied`, with what to do, where somebody made the file immutable."""
        try:
            os.unlink(file, dir_fd=self._fd)
        except PermissionError:
            with suppress(NotFound, OSError), self.file(file) as locked:
                locked.refuse_locked()
            raise

    def _refuse_claimed(self, file: str) -> None:
        """Raises `InUse` where somebody is writing it, maybe on another host, whose locks of
        images are not ours."""
        with suppress(NotFound, Denied, OSError):
            fd = opening.regular(self._fd, file, os.O_RDWR)
            with FileDraft(fd, self._fd, file, self._new_files) as left:
                left.lock(ours=True)

    def grow(
        self,
        name: str,
        size: int,
        *,
        in_use: bool = False,
        between: Look = nothing,
        sparse: bool = False,
    ) -> None:
        with self.file(name, writable=True) as image:
            present = image.size
            try:
                if sparse:
                    image.truncate(max(size, present))
                else:
                    self._refuse_what_does_not_fit(size - present)
                    image.reserve(size, start=present, in_use=in_use, between=between)
            except OSError as error:
                _explain(error, size)
                raise
            image.flush()
            if size > present:
                image.unmark()

    def reserve(self, name: str) -> None:
        with self.file(name, writable=True) as image:
            self._refuse_what_does_not_fit(image.size - image.allocated)
            try:
                image.reserve(image.size)
            except OSError as error:
                _explain(error, image.size)
                raise
            image.flush()

    def unzeroed(self, name: str) -> int | None:
        return None  # what a file system reserves reads as zeros

    def losses(self, name: str) -> str:
        return marks.losses(self._fd, name)

    def note_losses(self, name: str, note: str) -> bool:
        with self.file(name, writable=True) as image:
            noted = image.note_losses(note)
            image.flush()
            return noted

    def shrink(self, name: str, size: int) -> None:
        with self.file(name, writable=True) as image:
            image.truncate(size)
            image.flush()
            image.unmark()

    def snapshot(self, name: str, new: str, size: int | None) -> None:
        with self.file(name) as image:
            draft = self._draft(new)
            try:
                with draft:
                    draft.share(image)
                    draft.note_losses(self.losses(name))
                    # It holds what its image holds: nobody else may read it, either.
                    draft.publish(overwrite=False, like=self._or_as_configured(name))
            except BaseException as error:
                self.discard(new)
                if isinstance(error, FileExistsError):
                    raise Exists(f"{new} is there already") from None
                raise

    @contextmanager
    def guarded(self, name: str, end: int, contents: str) -> Iterator[str]:
        """See the contract. A directory undoes nothing. Where its file system has extended
        attributes, one notes that the change was begun. The note stays until the image is cut or
        `forget_remnants` is called, as what the change left behind does."""
        with self.file(name, writable=True) as image:
            image.mark(max(end, image.marked(contents)), contents)
        yield name

    def remnants(self, name: str, contents: str) -> int:
        with self.file(name) as image:
            return image.marked(contents)

    def forget_remnants(self, name: str) -> None:
        with self.file(name, writable=True) as image:
            image.unmark()

    def frozen(self, name: str) -> Image:
        return self._frozen(name)

    def _frozen(self, name: str) -> FileImage:
        with self.file(name) as image:
            # A file without a name: nothing to remove, even if the machine dies.
            copy = FileImage(final_names.nameless(self._fd))
            try:
                copy.clone_from(image)
            except BaseException:
                copy.close()
                raise
            return copy

    def require_sharing(self, source: Readable) -> None:
        with FileImage(final_names.nameless(self._fd)) as trial:
            trial.clone_from(source)

    def shares_blocks(self) -> bool:
        """Whether files here can share blocks (reflinks): found by trying it on two files
        that never get a name."""
        return shares_blocks(self._fd)

    def _or_as_configured(self, like: str) -> str | None:
        """`like`, if a file of this agent's can be given that file's attributes; else None."""
        with suppress(Denied):
            self.require_attributes(like, like)
            return like
        return None

    def _refuse_what_does_not_fit(self, more: int) -> None:
        free = self.free()
        if more > free:
            needed, left = format_apart(more, free)
            raise NoSpace(f"{needed} more are needed and {left} are free; {FREE_OR_CHOOSE}")

    def _open_partial(self, name: str) -> tuple[int, bool]:
        """A draft's file, and whether it is new."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with suppress(FileExistsError):
            return os.open(name + PARTIAL_SUFFIX, flags, 0o600, dir_fd=self._fd), True
        fd = opening.regular(self._fd, name + PARTIAL_SUFFIX, os.O_RDWR)
        status = os.fstat(fd)
        if status.st_uid == os.geteuid() and status.st_nlink == 1:
            return fd, False
        # Somebody else's, or reachable by another name: nothing to build an image upon.
        os.close(fd)
        self.discard(name)
        return os.open(name + PARTIAL_SUFFIX, flags, 0o600, dir_fd=self._fd), True


def _claim(draft: FileDraft, file: str, *, made: bool) -> None:
    fd = draft.descriptor
    try:
        draft.claim(file, ours=made)
        if not made:
            attributes.set_mode(fd, 0o600)
        if leftovers.is_shared(fd):  # of what it holds no space is reserved, nor could be
            draft.truncate(0)
            draft.holds = "zeros"
        leftovers.mark_draft(fd)
    except BaseException:
        draft.close()
        raise


def _explain(error: BaseException, size: int) -> None:
    """Turn the kernel's 'no room' into an error that says what was wanted."""
    if isinstance(error, OSError) and error.errno in _FULL:
        told = from_os_error(OSError(error.errno, os.strerror(error.errno)))
        raise NoSpace(f"no room for {format_size(size)}: {told.message}") from None
