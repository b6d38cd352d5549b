"""A directory of which some files are containers: what is done to one is done to the disk in it.

A file's name says that it is one, or the directory's configuration (`names.container_of`). All
that is about the file is `Directory`'s: names, drafts, marks, sharing blocks.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cached_property
from typing import Final

from virtstore import formats, names
from virtstore.backends.base import NO_OVERLAY, Image, ImageDraft, Look, Stored, nothing
from virtstore.backends.files import container_tools, new_clusters
from virtstore.backends.files.container import ContainerDraft, ContainerImage, ReworkedContainer
from virtstore.backends.files.container_tools import Over
from virtstore.backends.files.directory import Directory
from virtstore.backends.files.file import FileDraft, NewFiles
from virtstore.backends.files.new_container import NewContainer
from virtstore.backends.version import settled
from virtstore.errors import FREE_OR_CHOOSE, Corrupt, Denied, InUse, NoSpace, NotFound, Unsupported
from virtstore.formats import containers, disks
from virtstore.libvirt import virsh
from virtstore.libvirt.domains import driver_formats
from virtstore.model import ContainerFormat
from virtstore.undo import undone_by

#: A disk has whole sectors: QEMU makes it as much longer.
_SECTOR: Final = 512


class ContainerDirectory(Directory):
    """See `Directory`. `format`: the container that files are whose names say nothing, None where
    they are raw."""

    def __init__(
        self, fd: int, new_files: NewFiles | None = None, format: ContainerFormat | None = None
    ) -> None:
        super().__init__(fd, new_files)
        self._format = format

    def container_of(self, name: str) -> ContainerFormat | None:
        return names.container_of(name, self._format) or self._of_domain(name)

    def _of_domain(self, name: str) -> ContainerFormat | None:
        """The container that libvirt's domains have a file as whose name says nothing. They are
        asked only where its contents look like that, which alone would tell nothing: a guest can
        write a header into its raw disk."""
        if names.archive_format(name) or not virsh.is_there():
            return None
        with suppress(NotFound, Denied, OSError), self.file(name) as file:
            found = containers.detect(file)
            status = os.fstat(file.descriptor)
            known = self._driver_formats.get((status.st_dev, status.st_ino)) if found else None
            if found and known == {found.format}:
                return found.format if found.format in names.OPENED else None
        return None

    @cached_property
    def _driver_formats(self) -> Mapping[tuple[int, int], set[str]]:
        return driver_formats()

    def open(
        self, name: str, *, writable: bool = False, partial: bool = False, stored: bool = False
    ) -> Image:
        form = None if stored else self.container_of(name)
        if form is None:
            return self.file(name, writable=writable, partial=partial)
        if writable:
            _require_written(form)
        try:
            with _named(name):
                file = self.file(name, writable=writable, partial=partial)
                return ContainerImage(file, form, self.elsewhere, writable=writable)
        except (Corrupt, Denied, Unsupported):
            if not partial:
                raise
            return self.file(name, writable=writable, partial=partial)

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
        form = None if stored else self.container_of(name)
        if form is None:
            return super().draft(name, size, thin, sparse=sparse)
        if thin:
            raise Unsupported("a directory has no thin pools")
        _require_written(form)
        file = self._draft(name)
        try:
            kept = _holds_disk_of(file, size)
            if not kept:
                file.truncate(0)
                if preallocate:
                    self._refuse_what_does_not_fit(size)
                container_tools.make(file.descriptor, size, preallocate=preallocate)
        except BaseException as error:
            file.close()
            if not isinstance(error, InUse):  # a killed agent's daemon lets go of it soon
                self.discard(name)
            raise
        with nullcontext() if kept else undone_by(lambda: self.discard(name)):
            if not kept and new_clusters.fits(file):
                return NewContainer(file, self.elsewhere)
            return ContainerDraft(file, self.elsewhere, holds="kept" if kept else "zeros")

    def overlay(self, name: str, size: int, over: str, form: ContainerFormat | None) -> ImageDraft:
        if self.container_of(name) != "qcow2":
            raise Unsupported(NO_OVERLAY)
        file = self._draft(name)
        with undone_by(lambda: self.discard(name)):
            with undone_by(file.close):
                file.truncate(0)
                container_tools.make(file.descriptor, size, over=Over(over, form or "raw"))
            return ContainerDraft(file, self.elsewhere, holds="kept")

    def rework(self, name: str, before: Callable[[Image], None] = lambda image: None) -> ImageDraft:
        form = self.container_of(name)
        if form is None:
            return super().rework(name, before)
        _require_written(form)
        file = self._reworked(name, before, reserve=False)
        with _named(name):
            disk = ReworkedContainer(file, self.elsewhere)
        if file.in_place.named:  # opening it may have written to it: which bitmaps are in use
            file.in_place.begin(before, settled(file))
        return disk

    def grow(
        self,
        name: str,
        size: int,
        *,
        in_use: bool = False,
        between: Look = nothing,
        sparse: bool = False,
    ) -> None:
        form = self.container_of(name)
        if form is None:
            return super().grow(name, size, in_use=in_use, between=between, sparse=sparse)
        return self._set_size(name, form, size)

    def reserve(self, name: str) -> None:
        """See the contract. Of a container's disk nothing can be reserved afterwards."""
        if self.container_of(name) is None:
            super().reserve(name)

    def shrink(self, name: str, size: int) -> None:
        form = self.container_of(name)
        if form is None:
            return super().shrink(name, size)
        self._set_size(name, form, size)
        with self.file(name, writable=True) as file:
            file.unmark()
        return None

    def _set_size(self, name: str, form: ContainerFormat, size: int) -> None:
        _require_written(form)
        with self.file(name, writable=True) as file:
            file.refuse_locked()
        file = self.file(name, writable=True)
        with _named(name), ContainerImage(file, form, self.elsewhere, writable=True) as disk:
            if disk.size == size:
                return
            try:
                disk.truncate(size)
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    raise NoSpace(
                        f"no room for the tables of a disk of {size} bytes; {FREE_OR_CHOOSE}"
                    ) from None
                if error.errno == errno.EOPNOTSUPP:
                    raise Unsupported(_NOT_RESIZED) from None
                raise
            disk.settle()

    def overlays(self, name: str) -> tuple[str, ...]:
        if names.archive_format(name) and self._is_archive(name):
            return ()  # nor is it looked for among a million of them
        there = list(self.scan())
        paths = self._paths_of(name, there)
        found = {each.name for each in there if self._under(each) in paths}
        return tuple(sorted(each for each in found if self.container_of(each) == "qcow2"))

    def _is_archive(self, name: str) -> bool:
        """Whether a file is what its name says. Nothing lies over that."""
        with suppress(NotFound, Denied, OSError), self.file(name) as file:
            return formats.detect(file) is not None
        return False

    def _paths_of(self, name: str, there: Sequence[Stored]) -> set[str]:
        """The paths by which QEMU reaches a file here: its names, and those of links to them."""
        path_of = self.elsewhere.path_of
        whole = [each for each in there if each.state == "complete"]
        itself = {each.identity for each in whole if each.name == name}
        paths = {path_of(name), *(path_of(e.name) for e in whole if e.identity in itself)}
        return paths | {path_of(e.name) for e in whole if self._target(e) in paths}

    def _target(self, found: Stored) -> str | None:
        """The path that a symbolic link leads to at once, which is not followed."""
        if found.type != "other":
            return None
        with suppress(OSError):
            return self.elsewhere.path_of(os.readlink(found.name, dir_fd=self._fd))
        return None

    def _under(self, found: Stored) -> str | None:
        """The path of what a file lies over, if it is an overlay; a raw disk in which a guest wrote
        that is none. Nor is an archive, of which there may be thousands beside one."""
        if found.type != "file" or names.archive_format(found.name):
            return None
        with suppress(NotFound, Denied, OSError):
            with self.file(found.name, partial=found.state == "partial") as file:
                seen = containers.detect(file)
            return self.elsewhere.path_of(seen.backing) if seen and seen.backing else None
        return None

    def frozen(self, name: str) -> Image:
        form, copy = self.container_of(name), self._frozen(name)
        with _named(name):
            return ContainerImage(copy, form, self.elsewhere) if form else copy


@contextmanager
def _named(name: str) -> Iterator[None]:
    """What to do, in what is refused here, is said of the file called `name`."""
    try:
        yield
    except (Corrupt, Denied, Unsupported) as error:
        error.message = disks.naming(error.message, name)
        raise


#: What QEMU says no more of than that it is not supported.
_NOT_RESIZED: Final = (
    "QEMU does not resize it: a qcow2 of version 2 with internal snapshots is not resized."
    " `qemu-img amend -f qcow2 -o compat=1.1 FILE` makes it version 3"
)


def _require_written(form: ContainerFormat) -> None:
    """Raises `Unsupported` for a container that is only read here."""
    if form not in names.WRITTEN:
        raise Unsupported(
            f"a {form} container is only read here; copy it to a name that ends in .qcow2 or .img,"
            " and change that"
        )


def _holds_disk_of(file: FileDraft, size: int) -> bool:
    """Whether a draft that was left holds a disk of this size, with which a copy can go on."""
    if not file.size:
        return False
    try:
        disk = disks.examine(file, "qcow2")
        others = disk.backing or disk.snapshots or disk.bitmaps  # which this is to have none of
        if disk.size != size + -size % _SECTOR or others:
            return False
        container_tools.check(file.descriptor, mend_leaks=True)
    except (Corrupt, Unsupported):
        return False
    return True
