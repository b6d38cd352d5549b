"""Files out of an image, into a directory here.

What they are called and where they lie there a guest says, so it is not believed. A file is made in
the directory that its path leads to from the target, step by step, by descriptors, through no link
and no `..`. It has a name of its own until it is whole. Links are made last thing of all that is in
an archive of names: nothing is ever written through one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, Self

from virtstore import protocol
from virtstore.client.new_file import NewFile, name_meanwhile, rename
from virtstore.errors import Corrupt, Error, Exists, Unsafe, UsageError, from_os_error
from virtstore.model import Extracted, FileEntry
from virtstore.protocol import AnyMessage, FileTold
from virtstore.text import shown

_ZEROS: Final = bytes(1 << 20)
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_TOLD: Final = 3
NOT_CARRIED: Final = (
    "owners, modes, attributes and hard links are not carried over: what was extracted"
    " belongs to you, with the modes of any new file"
)


def entry(told: FileTold) -> FileEntry:
    """What an agent told of a file, for people and programs."""
    modified = None
    if told.modified:
        with suppress(ValueError, OverflowError, OSError):
            modified = datetime.fromtimestamp(told.modified, UTC)
    target = shown(told.target) if told.kind == "symlink" else None
    warnings = (told.trouble,) if told.trouble else ()
    return FileEntry(shown(told.path), told.kind, told.size, modified, target, warnings)


class Extraction:
    """Makes files in `directory` of what an agent tells. `done` of `total` bytes, of those files
    that were begun. Raises `Exists` unless `overwrite`, `Corrupt` for a path that leads elsewhere,
    and the kernel's errors as our own."""

    def __init__(self, directory: str, *, overwrite: bool, dry_run: bool = False) -> None:
        self.done = self.total = 0
        self._dry_run = dry_run
        self._directory = directory
        self._overwrite = overwrite
        self._counts = {"file": 0, "directory": 0, "symlink": 0}
        self._left_out: list[str] = []
        self._broken: list[str] = []
        self._notes: tuple[str, ...] = ()
        self._file: NewFile | None = None
        self._top = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.discard()
        if self._top >= 0:
            os.close(self._top)

    def take(self, message: AnyMessage, payload: bytes) -> None:
        """The next of what the agent tells."""
        match message:
            case protocol.FileTold():
                self._finish()
                self._open()
                self._begin(message)
            case protocol.FilePart() if self._file:
                self._write(self._file, message.offset, payload)
                self.done = max(self.done, self._file.begins_at + message.offset + len(payload))
            case protocol.FileBroken() if self._file:
                self._broken.append(f"{shown(self._file.path)}: {message.message}")
                self._file.discard()
                self._file = None
            case protocol.FilesEnd():
                self._finish()
                self._notes = message.notes

    def _open(self) -> None:
        """Open the directory, which is made only once there is something to put into it."""
        if self._top >= 0 or (self._dry_run and not os.path.isdir(self._directory)):
            return
        try:
            os.makedirs(self._directory, exist_ok=True)
            self._top = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileExistsError, NotADirectoryError):
            raise Exists(f"{self._directory} is no directory; -o names one") from None
        except OSError as error:
            raise from_os_error(error, path=self._directory) from error

    def _write(self, file: NewFile, offset: int, data: bytes) -> None:
        try:
            file.write(offset, data)
        except OSError as error:  # its disk is full, say
            raise self._failure(error, file.path) from error

    def outcome(self, host: str, path: str) -> Extracted:
        """What was done. Raises `Corrupt` if a file could not be read to its end."""
        if self._broken:
            raise Corrupt(
                f"{_few(self._broken)}; what cannot be read was left out, all else is in"
                f" {self._directory}",
                host=host,
                path=path,
            )
        warnings = [*self._notes, NOT_CARRIED]
        if self._left_out:
            told = _few(self._left_out)
            warnings.append(f"not made, as no file, directory or link: {told}")
        counts = self._counts
        return Extracted(
            path=path,
            host=host,
            directory=self._directory,
            files=counts["file"],
            directories=counts["directory"],
            links=counts["symlink"],
            size=self.done,
            dry_run=self._dry_run,
            warnings=tuple(warnings),
        )

    def _begin(self, told: FileTold) -> None:
        names = told.path.split(b"/") if told.path else []
        if any(name in (b"", b".", b"..") or b"\0" in name for name in names):
            raise Corrupt(
                f"the image has a file of the path {shown(told.path)!r}, which none can be"
            )
        if told.trouble:
            self._broken.append(f"{shown(told.path)}: {told.trouble}")
            return
        try:
            self._make(told, names)
        except OSError as error:
            raise self._failure(error, told.path) from error

    def _make(self, told: FileTold, names: list[bytes]) -> None:
        if not names:  # all of the image: its top is the directory itself
            return
        if self._dry_run:
            self._try(told, names)
            return
        parent = self._parent(names[:-1])
        try:
            if told.kind == "directory":
                self._make_directory(parent, names[-1])
            elif told.kind == "symlink":
                self._make_link(parent, names[-1], told.target)
            elif told.kind == "file":
                self._refuse_existing(parent, names[-1])
                self._file = NewFile(os.dup(parent), told, names[-1], self.total)
                self.total += told.size
            else:
                self._left_out.append(shown(told.path))
                return
            self._counts[told.kind] += 1
        finally:
            os.close(parent)

    def _try(self, told: FileTold, names: list[bytes]) -> None:
        """Count what would be made. Raises `FileExistsError` where it is there."""
        if told.kind not in self._counts:
            self._left_out.append(shown(told.path))
            return
        self._counts[told.kind] += 1
        self.done += told.size
        self.total += told.size
        if told.kind != "directory" and self._top >= 0:
            with suppress(FileNotFoundError):
                self._refuse_existing(self._top, b"/".join(names))

    def _parent(self, names: list[bytes]) -> int:
        """A descriptor of the directory in which something is to be made."""
        here = os.dup(self._top)
        for name in names:
            try:
                below = os.open(name, _DIRECTORY, dir_fd=here)
            except FileNotFoundError:
                os.mkdir(name, dir_fd=here)
                below = os.open(name, _DIRECTORY, dir_fd=here)
            finally:
                os.close(here)
            here = below
        return here

    def _make_directory(self, parent: int, name: bytes) -> None:
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=parent)
        os.close(os.open(name, _DIRECTORY, dir_fd=parent))  # a link there is not one to go through

    def _make_link(self, parent: int, name: bytes, target: bytes) -> None:
        if not target or b"\0" in target:
            raise Corrupt(f"the image has a link, {shown(name)}, that leads nowhere at all")
        self._refuse_existing(parent, name)
        made = name_meanwhile()
        os.symlink(target, made, dir_fd=parent)
        rename(parent, made, name, overwrite=self._overwrite)

    def _refuse_existing(self, parent: int, name: bytes) -> None:
        try:
            os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not self._overwrite:
            raise FileExistsError(17, "File exists")

    def _finish(self) -> None:
        """Give the present file its name."""
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            file.publish(overwrite=self._overwrite)
        except OSError as error:
            raise self._failure(error, file.path) from error
        self.done = max(self.done, file.begins_at + file.size)

    def _failure(self, error: OSError, path: bytes) -> Error:
        where = os.path.join(self._directory, shown(path))
        if isinstance(error, FileExistsError):
            return Exists(
                f"{where} is there already, and was left alone; --overwrite replaces it, -o names"
                " another directory"
            )
        if error.errno in (20, 40):  # ENOTDIR, ELOOP
            return Unsafe(
                f"{where} would lie behind a link, or in what is no directory; nothing is written"
                " through those. Extract to an empty directory (-o)"
            )
        return from_os_error(error, path=where)


class Whole:
    """Makes one file's contents of what an agent tells, holes as zeros."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._begun = False
        self.done = self.total = 0

    def take(self, message: AnyMessage, payload: bytes) -> Iterator[bytes]:
        match message:
            case protocol.FileTold():
                self._begin(message)
            case protocol.FilePart():
                yield from self._zeros(message.offset)
                if message.offset < self.done or self.done + len(payload) > self.total:
                    raise Corrupt(f"more came of {self._path} than the file has")
                self.done += len(payload)
                yield payload
            case protocol.FileBroken():
                raise Corrupt(f"{self._path}: {message.message}; what came of it is not all")
            case protocol.FilesEnd():
                yield from self._zeros(self.total)

    def _begin(self, told: FileTold) -> None:
        if self._begun or told.kind != "file":
            raise UsageError(f"{self._path} in it is no file, but a {told.kind}; name one file")
        self._begun, self.total = True, told.size

    def _zeros(self, end: int) -> Iterator[bytes]:
        while self.done < min(end, self.total):
            step = min(len(_ZEROS), end - self.done, self.total - self.done)
            self.done += step
            yield _ZEROS[:step]


def _few(told: list[str]) -> str:
    more = f" and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
    return ", ".join(told[:_MOST_TOLD]) + more
