"""`[[directory]]`: a tree of images that the configuration allows, as plain files.

The directory is opened once a session, and must be the administrator's alone
(places.py). Whatever lies below it is reached from that descriptor without following
symbolic links and without leaving its file system, so a path that was allowed cannot be made to
mean something else later.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import shlex
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import ClassVar, Final, Literal, Self

from msgspec.structs import replace

from virtstore import linux
from virtstore.backends.base import Store
from virtstore.backends.files import places
from virtstore.backends.files.container_directory import ContainerDirectory
from virtstore.backends.files.directory import Directory
from virtstore.backends.files.file import NewFiles
from virtstore.backends.root import Root, WrongValue
from virtstore.errors import NotFound
from virtstore.location import unclear, within
from virtstore.model import Access, DirectoryInfo, EntryType, Finding

_MODE: Final = re.compile("(0|0o)?[0-7]{3}")


class DirectoryRoot(Root, frozen=True):
    """`mode` (octal text), `owner` and `group` are those of new files; `volatile`: it may be one
    that a reboot empties; `format`: of the images whose names say nothing (`names.container_of`).
    """

    section: ClassVar[str] = "directory"
    listed: ClassVar[EntryType] = "directory"
    what: ClassVar[str] = "a directory"
    spelled: ClassVar[str] = "/DIRECTORY/NAME"

    path: str
    access: Access = "read"
    mode: str = "0600"
    owner: str | int | None = None
    group: str | int | None = None
    volatile: bool = False
    format: Literal["raw", "qcow2"] = "raw"

    @classmethod
    def claims(cls, path: str, tree: str, access: Access) -> Self | None:
        of_a_bucket = within(tree, "/s3") and not os.path.isdir("/s3")
        return None if of_a_bucket or within(tree, "/dev") else cls(tree, access)

    def unfit(self) -> str | None:
        return places.no_place_for_images(self.path)

    def how_to_make(self) -> str:
        there = os.path.lexists(self.path)
        return "" if there else f"install -d -m 700 {shlex.quote(self.path)}"

    @cached_property
    def new_files(self) -> NewFiles:
        """What new files have. Raises `WrongValue`."""
        if not _MODE.fullmatch(self.mode):
            raise WrongValue("mode", f'mode {self.mode!r} is none; write it in octal, as "0600"')
        return NewFiles(
            int(self.mode, 8),
            _number("owner", "user", self.owner, lambda name: pwd.getpwnam(name).pw_uid),
            _number("group", "group", self.group, lambda name: grp.getgrnam(name).gr_gid),
        )

    def check(self) -> None:
        if why := unclear(self.path):
            meant = os.path.expanduser(os.path.expandvars(self.path))
            meant = f"; write {meant!r}" if meant != self.path else ""
            raise WrongValue("path", f"{self.path!r} is no directory's path: {why}{meant}")
        _ = self.new_files

    def part(self, path: str) -> Self:
        return replace(self, path=path)

    def anchor(self, file: str) -> int:
        try:
            fd = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise NotFound(
                f"this configured directory cannot be opened: {error.strerror}", path=self.path
            ) from None
        try:
            places.refuse_unfit(self.path, fd, file, volatile=self.volatile)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def open(self, anchor: int, inside: str, name: str = "") -> Directory:
        try:
            fd = linux.open_beneath(anchor, inside or ".", os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            places.refuse_unreachable(error, self.path, anchor, inside)
        return ContainerDirectory(fd, self.new_files, "qcow2" if self.format == "qcow2" else None)

    def describe(self, store: Store, access: Access) -> tuple[DirectoryInfo, str]:
        assert isinstance(store, Directory)
        told = DirectoryInfo(
            path=self.path,
            access=access,
            filesystem=store.filesystem(),
            total=store.total(),
            free=store.free(),
            snapshots=store.shares_blocks(),
            lacks=store.lacks() if access != "read" else (),
        )
        return told, ""

    def examine(self, store: Store, access: Access) -> Iterator[Finding]:
        from virtstore.backends.files import health  # few agents are asked for it

        assert isinstance(store, Directory)
        yield from health.examine(self.path, store, access)


def _number(key: str, what: str, value: str | int | None, look_up: Callable[[str], int]) -> int:
    """-1, which chown(2) takes for no change, where nothing was said. Raises `WrongValue`."""
    if value is None:
        return -1
    try:
        number = value if isinstance(value, int) else look_up(value)
    except (KeyError, ValueError):
        number = -1
    if not 0 <= number < 0xFFFFFFFF:
        raise WrongValue(key, f"there is no {what} {value!r} here")
    return number
