"""virtstore's Python API: hosts, and the images on them.

    with virtstore.connect("ssh://a") as a, virtstore.connect("local:") as here:
        image = a.create("/mnt/images/web.img", "10G")
        here.image("/images/golden.img").copy_contents(image)
        image.growfs()

A `Host` is a session with its agent. An `Image` is a value: a host and a path; whether
there is anything at that path is found out by asking. Sizes are bytes, or text as the
command line takes it. Every method that changes something takes `dry_run`: everything is
checked, and nothing is changed. Every method raises the errors of errors.py, with host and path.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar, Unpack

import msgspec

from virtstore import protocol
from virtstore.backups.retention import Keep, Pruned
from virtstore.backups.series import Backups
from virtstore.client import examination, extraction, listing, ssh
from virtstore.client.copying import copied
from virtstore.client.diff import compare
from virtstore.client.kept_for import kept_for
from virtstore.client.sessions import Sessions, with_both
from virtstore.client.telling import Teller, unheard
from virtstore.copy_options import ContentsKeywords, CopyKeywords, CopyOptions
from virtstore.errors import Error, Unsupported, UsageError, spelled
from virtstore.location import HostAddress, canonical, parse_host
from virtstore.model import (
    Access,
    Authorized,
    Changed,
    Cleaned,
    Compression,
    CopyResult,
    Difference,
    Entry,
    Extracted,
    FileEntry,
    Finding,
    ImageInfo,
    Installed,
    Job,
    Scope,
    StorageInfo,
    Uninstalled,
    Verified,
)
from virtstore.progress import ProgressCallback
from virtstore.protocol import Answer, Ask, Frame, Progressed, answer_to
from virtstore.requests import check
from virtstore.units import parse_age

if TYPE_CHECKING:
    from virtstore.client.export import Export

Size = str | int
#: Seconds: longer than there has been a calendar of such years, and short enough for Python.
_AGES = 10**11
_Placed = TypeVar(
    "_Placed", ImageInfo, Entry, StorageInfo, Changed, Cleaned, Verified, Finding, Job
)


def connect(uri: str = "local:", *, config: str | None = None, verbose: bool = False) -> Host:
    """Open a session with a host: `"local:"`, `"HOST"`, `"USER@HOST"`, `"ssh://…"` or
    `"ssh:HOST"`. `config` is the configuration file of a local agent; `verbose` shows the
    agent's log on standard error. Raises `UsageError`, `ConnectionFailed`."""
    host = Host(parse_host(uri), config=config, verbose=verbose)
    host.open()
    return host


class Host:
    """A host, through a session with its agent, which is opened when it is first needed. Its
    methods may be called from any thread, also at the same time: a request that finds the session
    busy has one of its own, and so has a copy."""

    def __init__(
        self,
        address: HostAddress,
        *,
        config: str | None = None,
        verbose: bool = False,
        ssh_options: tuple[str, ...] = (),
    ) -> None:
        self.address = address
        self.name = address.name
        self._sessions = Sessions(address, config=config, verbose=verbose, ssh_options=ssh_options)

    def open(self, *, shared: bool = True) -> None:
        """Open the session now; `shared`: over a connection that all further ones share. Raises
        `ConnectionFailed`."""
        self._sessions.open_first(shared=shared)

    def image(self, path: str) -> Image:
        """The image at an absolute path of this host; nothing is asked yet."""
        return Image(self, path)

    def create(
        self,
        path: str,
        size: Size,
        *,
        thin: str | None = None,
        sparse: bool = False,
        preallocate: bool = False,
        backing: str | None = None,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> Made:
        """A new image of `size`, wholly zeroed and wholly allocated; a file of which nothing is
        allocated if `sparse`. Of a qcow2 nothing is, unless it is to `preallocate`. `backing`: the
        path of an image on the same host that it is to lie over: a qcow2 that has what that has,
        and takes room for what is written to it. Raises `Exists`, `NoSpace`, `Denied`,
        `Unsupported`."""
        request = protocol.CreateImage(
            path, _text(size), thin, dry_run, sparse, preallocate, backing
        )
        return self._make(request, "create", progress)

    def doctor(self, *, progress: ProgressCallback | None = None) -> list[Finding]:
        """What could go wrong on the host and on the way to it, the worst first, each with what to
        do. What is in order is there too (`"ok"`). Raises `ConnectionFailed`."""
        try:
            answer = self._ask(protocol.Examine(), "doctor", progress)
        except Unsupported as error:
            return [self._placed(examination.too_old(error))]
        return [self._placed(each) for each in examination.findings(self._seen(answer))]

    def jobs(self) -> list[Job]:
        """What is running on the host now, by agents of the same user, as far as this session may
        see it; the oldest first."""
        return [self._placed(job) for job in self._ask(protocol.ListJobs()).jobs]

    def list(
        self,
        path: str | None = None,
        *,
        long: bool = False,
        recursive: bool = False,
        progress: ProgressCallback | None = None,
    ) -> list[Entry | ImageInfo]:
        """What is in a directory, sorted by path; without `path` the host's roots. `long`:
        images as `ImageInfo`."""
        tell = Teller("list", progress)
        request = protocol.ListImages(path, long, recursive)
        came = listing.entries(self._sessions, request, tell, set())
        found = [msgspec.structs.replace(each, host=self.name) for each in came]
        tell.done(None)
        return sorted(found, key=lambda each: (each.path, each.state))

    def backups(
        self,
        directory: str,
        *,
        max_age: timedelta | str | None = None,
        progress: ProgressCallback | None = None,
    ) -> Backups:
        """What backups are in a directory (`NAME.YYYY-MM-DDTHHMMSSZ.img.zst`), by image. Those of
        which the newest is older than `max_age` (`"26h"`) are `late`. Raises `NotFound`,
        `Denied`."""
        oldest = _age(max_age) if isinstance(max_age, str) else max_age
        tell = Teller("backups", progress)
        found = self._backups(directory, tell, oldest)
        tell.done(None)
        return found

    def prune(
        self,
        directory: str,
        keep: Keep,
        *,
        images: Sequence[str] = (),
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> Pruned:
        """Remove the backups in a directory that no rule keeps: those of some `images`, by their
        names there, or all. What is not whole, dated in the future, in use or foreign stays. Raises
        `NotFound` for an image without backups, `Denied` where the session may not remove any, and
        `Unsafe` where somebody else removes backups there at the same time."""
        from virtstore.client import pruning

        tell = Teller("prune", progress)
        now = datetime.now(UTC)
        work = pruning.Work(
            look=lambda path: self.list(path, long=True),
            remove=lambda path: self.image(path).delete(dry_run=dry_run),
            told=partial(tell, "removing"),
            now=now,
            dry_run=dry_run,
        )
        found = pruning.only(self._backups(directory, tell), images)
        done = pruning.prune(found, keep, work)
        tell.done(None)
        return done

    def _backups(self, directory: str, tell: Teller, max_age: timedelta | None = None) -> Backups:
        path = canonical(directory)
        told = "it is an image; name the directory that it is in"
        no_directory = UsageError(told, host=self.name, path=path)
        return listing.found_backups(self._sessions, path, tell, max_age, no_directory=no_directory)

    def storage_info(self, *, progress: ProgressCallback | None = None) -> StorageInfo:
        """The host's roots, free space, file systems and formats."""
        reply = self._ask(protocol.GetStorageInfo(), "storage-info", progress)
        return self._placed(reply.info)

    def clean(
        self, path: str, *, dry_run: bool = False, progress: ProgressCallback | None = None
    ) -> Cleaned:
        """Remove what interrupted operations left in a directory, or of one image."""
        done = self._ask(protocol.CleanUp(path, dry_run), "clean", progress)
        return self._placed(done.result)

    def _seen(self, answer: protocol.Examined) -> examination.Seen:
        session = self._sessions.first
        version, login = (session.version, session.login) if session else ("", 0.0)
        return examination.Seen(
            answer,
            version,
            login,
            received=time.time(),
            settings=ssh.settings_for(self.address),
            alone=ssh.can_share(self.address),
            far=self.address.host is not None,
        )

    def install(
        self,
        directories: Sequence[str] = (),
        volume_groups: Sequence[str] = (),
        *,
        scope: Scope | None = None,
        bundle: str | None = None,
        downgrade: bool = False,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> Installed:
        """Put this virtstore on the host, which needs ssh and Python only. `directories` and
        `volume_groups` (`"PATH"` or `"PATH:ACCESS"`) are what a first configuration allows.
        `scope`: for everybody (`"root"`), by sudo where the login is not root's, or for the
        `"user"` alone who logs in; without it, whichever the login is. `bundle`: the path of
        another bundle than this virtstore's own. Raises `Unsupported`, and `Exists` where another
        virtstore is there."""
        from virtstore.client import first_configuration, install

        tell = Teller("install", progress)
        wish = install.Wish(
            first_configuration.wanted(directories, volume_groups), scope, downgrade, dry_run
        )
        done = install.install(
            self.address, install.bundle_of(bundle), wish, tell, verbose=self._sessions.verbose
        )
        tell.done(None)
        return done

    def uninstall(
        self,
        *,
        scope: Scope | None = None,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> Uninstalled:
        """Remove what `install` put on the host; its configuration and its images stay. Raises
        `InUse` while virtstore is at work there."""
        from virtstore.client import install

        tell = Teller("uninstall", progress)
        tell("connecting")
        done = install.uninstall(
            self.address, scope, dry_run=dry_run, verbose=self._sessions.verbose
        )
        tell.done(None)
        return done

    def authorize(
        self, key: str, directory: str, access: Access = "append", *, dry_run: bool = False
    ) -> Authorized:
        """Let a public key, in the file `key` here, start an agent of the host that allows one
        directory. Raises `Exists` where that key may do something else there."""
        from virtstore.client.authorize import authorize

        return authorize(
            self.address, key, directory, access, dry_run=dry_run, verbose=self._sessions.verbose
        )

    def _change(
        self, request: Ask[protocol.Done], operation: str, progress: ProgressCallback | None
    ) -> Changed:
        """Have a request done that changes one image."""
        done = self._ask(request, operation, progress)
        return self._placed(done.result)

    def _make(
        self, request: Ask[protocol.Done], operation: str, progress: ProgressCallback | None
    ) -> Made:
        """Have a request done that makes an image."""
        done = self._change(request, operation, progress)
        return Made(self, done.path, done)

    def close(self) -> None:
        """End the session. What was half-done is cleaned up or marked partial."""
        self._sessions.close()

    def abort(self) -> None:
        """End what other threads do with this host: each of their calls raises `ConnectionFailed`,
        and what they did is cleaned up or marked partial. `close` is for when they have ended."""
        self._sessions.abort()

    def __eq__(self, other: object) -> bool:
        """Whether an image of the one is the same image of the other."""
        if not isinstance(other, Host):
            return NotImplemented
        return (self.address, self._sessions.config) == (other.address, other._sessions.config)

    def __hash__(self) -> int:
        return hash((self.address, self._sessions.config))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(
        self,
        request: Ask[Answer],
        operation: str = "",
        progress: ProgressCallback | None = None,
    ) -> Answer:
        tell = Teller(operation, progress)
        answer = self._sessions.answer(request, tell)
        tell.done(getattr(getattr(answer, "result", None), "size", None))
        return answer

    def _placed(self, value: _Placed) -> _Placed:
        return msgspec.structs.replace(value, host=self.name)


@dataclass(frozen=True, eq=False)
class Image:
    """An image's handle: a host and a path. Two are equal where these are."""

    host: Host
    path: str

    def info(self, *, progress: ProgressCallback | None = None) -> ImageInfo:
        """Everything that can be read off the image. Raises `NotFound`, `Denied`."""
        told = self.host._ask(protocol.GetInfo(self.path), "info", progress)
        return self.host._placed(told.info)

    def delete(
        self,
        *,
        with_snapshots: bool = False,
        force_defined: bool = False,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> Changed:
        """Remove the image. Raises `InUse`, also where a domain that is shut off is defined on it,
        unless `force_defined`."""
        request = protocol.DeleteImage(self.path, with_snapshots, dry_run, force_defined)
        return self.host._change(request, "delete", progress)

    def rename(
        self,
        name: str,
        *,
        force_defined: bool = False,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> Changed:
        """Give the image another name where it is; `path` of the answer is what it is called then.
        Raises `Exists`, and `InUse` as `delete` does."""
        request = protocol.RenameImage(self.path, name, dry_run, force_defined)
        return self.host._change(request, "rename", progress)

    def grow(
        self,
        size: Size,
        *,
        sparse: bool = False,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> Changed:
        """Make the image `size` long, or longer by `"+SIZE"`; the new space is zeros, and reserved
        unless it is to be `sparse`, in a file. Raises `NoSpace`, `Unsupported`."""
        request = protocol.GrowImage(self.path, _text(size), dry_run, sparse)
        return self.host._change(request, "grow", progress)

    def shrink(
        self,
        size: Size,
        *,
        discard_data: bool = False,
        force_defined: bool = False,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> Changed:
        """Cut the image to `size`, or by `"-SIZE"`. Raises `Unsafe` where that would cut a file
        system, a partition or data, unless `discard_data`, and `InUse` as `delete` does."""
        request = protocol.ShrinkImage(self.path, _text(size), discard_data, dry_run, force_defined)
        return self.host._change(request, "shrink", progress)

    def growfs(
        self,
        size: Size | None = None,
        *,
        partition: int | None = None,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> Changed:
        """Grow its file system to `size`, or to fill it; in a partitioned image that of
        `partition`, or of the one that `resize` takes, which grows with it. Raises
        `Unsupported`, `InUse`."""
        text = None if size is None else _text(size)
        request = protocol.GrowFilesystem(self.path, text, partition, dry_run)
        return self.host._change(request, "growfs", progress)

    def shrinkfs(
        self,
        size: Size,
        *,
        partition: int | None = None,
        force_defined: bool = False,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> Changed:
        """Shrink its file system to `size`, or as far as it goes (`"minimum"`), and with it
        the partition. Raises `Unsafe` for less than its contents need, and `InUse` as `delete`
        does."""
        request = protocol.ShrinkFilesystem(
            self.path, _text(size), partition, dry_run, force_defined
        )
        return self.host._change(request, "shrinkfs", progress)

    def resize(
        self,
        size: Size,
        *,
        partition: int | None = None,
        move_swap: bool = False,
        force_defined: bool = False,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> Changed:
        """Make image, partition and file system larger or smaller together, in the safe order.
        `"minimum"`: the smallest image that holds what is in it. The partition is `partition`,
        or the last one with a file system that is meant to grow. Raises `Unsafe`, `Unsupported`
        where something lies between it and the end of the disk; a swap partition alone is moved
        to the new end with `move_swap`. Raises `InUse`; to shrink it, as `delete` does."""
        request = protocol.ResizeImage(
            self.path, _text(size), partition, move_swap, dry_run, force_defined
        )
        return self.host._change(request, "resize", progress)

    def snapshot(
        self,
        name: str | None = None,
        *,
        size: Size | None = None,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> Made:
        """Make a snapshot of the image as it is at this moment, under `name` beside it. Raises
        `Unsupported`."""
        text = None if size is None else _text(size)
        request = protocol.TakeSnapshot(self.path, name, text, dry_run)
        return self.host._make(request, "snapshot", progress)

    def copy(
        self,
        target: Image,
        *,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
        **options: Unpack[CopyKeywords],
    ) -> Copied:
        """Make `target` a copy. `archive`: compressed, in the format that its name says unless
        `format` does; otherwise a mountable image, even if this is an archive. What each of the
        `options` means is said in `CopyKeywords`. Raises `Exists` (nothing was changed) unless
        `overwrite`."""
        wanted = CopyOptions(**options).for_target(str(target.path))
        place = kept_for(target.host.name, target.path) if wanted.keep_snapshot else ""
        request = protocol.CopyHere(self.path, target.path, wanted, dry_run=dry_run, kept_for=place)
        return self._copied(target, request, "copy", progress)

    def copy_contents(
        self,
        target: Image,
        *,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
        **options: Unpack[ContentsKeywords],
    ) -> Copied:
        """Overwrite an existing image, at least as large, and zero the rest of it; only
        chunks that differ are moved. The `options` are those of `copy` that are about the source
        and the way. Raises `NotFound`, `NoSpace`, `InUse`."""
        wanted = CopyOptions(**options)
        request = protocol.CopyHere(self.path, target.path, wanted, contents=True, dry_run=dry_run)
        return self._copied(target, request, "copy-contents", progress)

    def compress(
        self,
        *,
        format: Compression = "zstd",
        level: int | None = None,
        keep: bool = False,
        force_defined: bool = False,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> Made:
        """Make the image an archive (`x.img` → `x.img.zst`). Raises `InUse`; unless `keep`, as
        `delete` does."""
        request = protocol.CompressImage(self.path, format, level, keep, dry_run, force_defined)
        return self.host._make(request, "compress", progress)

    def uncompress(
        self,
        *,
        keep: bool = False,
        force_defined: bool = False,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> Made:
        """Make the archive an image again (`x.img.zst` → `x.img`). Raises `InUse` as `compress`
        does."""
        request = protocol.UncompressImage(self.path, keep, dry_run, force_defined)
        return self.host._make(request, "uncompress", progress)

    def verify(self, *, quick: bool = False, progress: ProgressCallback | None = None) -> Verified:
        """Read the archive through and check every block and the whole. `quick`: hold its bytes
        against the checksums that it keeps of them, without decompressing them. Raises
        `Corrupt`."""
        request = protocol.VerifyImage(self.path, quick)
        done = self.host._ask(request, "verify", progress)
        return self.host._placed(done.result)

    def export(
        self,
        *,
        socket: str | None = None,
        snapshot: bool = False,
        allow_in_use: bool = False,
        raw: bool = False,
        complain: Callable[[Error], None] | None = None,
        progress: ProgressCallback | None = None,
    ) -> Export:
        """Serve the image, or the image in an archive, read-only as NBD to programs of this
        machine, for as long as what is returned is open:

            with image.export() as export:
                subprocess.run(["qemu-img", "convert", "-f", "raw", export.uri, "copy.img"])

        `export.uri` is what NBD clients take, `export.socket` the path of the unix socket, and
        `export.size` the image's bytes. The socket is at `socket`, or in a directory of this user's
        alone. Any number of clients may read at the same time. `complain` gets each failure to
        read, from another thread; the client gets EIO. `raw`: the bytes are a raw disk's, whatever
        they look like. Raises `InUse` as `copy` does, `Unsupported` for an archive that can only be
        read from its beginning and where nbdkit is missing here, `Exists`."""
        from virtstore.client.export import Served, nobody

        request = protocol.OpenImage(self.path, snapshot, allow_in_use, raw)
        check(request)
        tell = Teller("export", progress)
        tell("connecting")
        opened = Served(
            self.host._sessions.open(for_copy=True),
            request,
            tell.heard,
            socket=socket,
            complain=complain or nobody,
            verbose=self.host._sessions.verbose,
        )
        tell.done(None)
        return opened

    def files(
        self,
        path: str = "/",
        *,
        partition: int | None = None,
        volume: str | None = None,
        recursive: bool = False,
        progress: ProgressCallback | None = None,
    ) -> FileList:
        """What is in a directory of the image, or archive, which is not mounted for that; of a file
        that file. The file system is that of `partition`, or in the logical `volume` (`"NAME"` or
        `"VG/NAME"`) within the image, or the largest that can be read. Raises
        `NotFound`, `Unsupported`."""
        request = protocol.ListFiles(self.path, os.fsencode(path), partition, volume, recursive)
        tell = Teller("files", progress)
        found: list[FileEntry] = []
        for reply in self.host._sessions.exchange(request):
            if isinstance(reply, protocol.FilesTold):
                found += map(extraction.entry, reply.files)
            elif isinstance(reply, Progressed):
                tell.heard(reply)
            elif answer := answer_to(request, reply):
                tell.done(None)
                return FileList(
                    found, answer.filesystem, answer.partition, answer.volume, answer.notes
                )
        raise AssertionError("an exchange ends with a reply")

    def extract(
        self,
        *paths: str,
        directory: str = ".",
        partition: int | None = None,
        volume: str | None = None,
        overwrite: bool = False,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> Extracted:
        """Copy files out of the image, or archive, into a directory here, each under its own name
        and directories with all that is in them. Owners, modes and attributes are not carried.
        Raises `NotFound`, `Exists` (a file that is there stays) unless `overwrite`, and `Corrupt`
        once all else was copied, if a file could not be read."""
        tell = Teller("extract", progress)
        with (
            extraction.Extraction(directory, overwrite=overwrite, dry_run=dry_run) as target,
            closing(self._read(paths, partition, volume, contents=not dry_run)) as frames,
        ):
            for message, payload in frames:
                target.take(message, payload)
                tell("copying", target.done, target.total)
        tell.done(None)
        return target.outcome(self.host.name, self.path)

    def read_file(
        self,
        path: str,
        *,
        partition: int | None = None,
        volume: str | None = None,
        progress: ProgressCallback | None = None,
    ) -> Iterator[bytes]:
        """What a file in the image, or archive, holds, in pieces. Raises `NotFound`, `UsageError`
        for what is no file, and `Corrupt`."""
        tell = Teller("extract", progress)
        file = extraction.Whole(path)
        with closing(self._read((path,), partition, volume)) as frames:
            for message, payload in frames:
                yield from file.take(message, payload)
                tell("copying", file.done, file.total)
        tell.done(None)

    def _read(
        self,
        paths: Sequence[str],
        partition: int | None,
        volume: str | None,
        *,
        contents: bool = True,
    ) -> Generator[Frame]:
        inside = tuple(map(os.fsencode, paths))
        request = protocol.ReadFiles(self.path, inside, partition, volume, contents)
        return self.host._sessions.frames_apart(request)

    def diff(self, other: Image, *, progress: ProgressCallback | None = None) -> Difference:
        """How many bytes of two images differ. They are hashed where they lie."""
        for image in (self, other):
            check(protocol.GetInfo(image.path))
        tell = Teller("diff", progress)
        tell("connecting")
        with with_both(self.host._sessions, other.host._sessions, for_copy=False) as (one, two):
            one.heard, two.heard = tell.heard, unheard  # of two at once, one is enough

            def told(done: int, total: int) -> None:
                one.heard = unheard  # it is asked again, of what differs
                tell("comparing", done, total)

            found = compare(one, self.path, two, other.path, told)
        tell.done(found.size)
        return found

    def _copied(
        self,
        target: Image,
        request: protocol.CopyHere,
        operation: str,
        progress: ProgressCallback | None,
    ) -> Copied:
        check(request)
        started = time.monotonic()
        tell = Teller(operation, progress)
        received, transferred = copied(self.host._sessions, target.host._sessions, request, tell)
        tell.done(received.size)
        made = target if target.host._sessions.is_pipe else Image(target.host, received.path)
        return Copied(
            made.host,
            made.path,
            source=str(self),
            target=str(made),
            size=received.size,
            transferred=transferred,
            written=received.written,
            digest=received.digest,
            seconds=round(time.monotonic() - started, 3),
            warnings=received.warnings,
            read=received.read,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Image):
            return NotImplemented
        return (self.host, self.path) == (other.host, other.path)

    def __hash__(self) -> int:
        return hash((self.host, self.path))

    def __str__(self) -> str:
        return "-" if self.host._sessions.is_pipe else spelled(self.host.name, self.path)


@dataclass(frozen=True, eq=False)
class Made(Image):
    """The image that `create`, `snapshot`, `compress` or `uncompress` made, and in `result` what
    was done, or would be done: of a dry run nothing is there."""

    result: Changed


@dataclass(frozen=True, eq=False)
class Copied(Image):
    """The image that a copy made, and the account of the copy, as `CopyResult` has it. `read`:
    bytes of the source that were read; None where it did not say, or of a dry run."""

    source: str
    target: str
    size: int
    transferred: int
    written: int
    digest: str
    seconds: float
    warnings: tuple[str, ...] = ()
    read: int | None = None

    @property
    def result(self) -> CopyResult:
        """The account of the copy alone."""
        return msgspec.convert(self, CopyResult, from_attributes=True)


class FileList(list[FileEntry]):
    """The files of an image, as `Image.files` lists them; in what `filesystem`, of which
    `partition` or logical `volume`, and `notes` of how it was read."""

    def __init__(
        self,
        found: Sequence[FileEntry],
        filesystem: str,
        partition: int | None,
        volume: str | None,
        notes: tuple[str, ...],
    ) -> None:
        super().__init__(found)
        self.filesystem, self.partition = filesystem, partition
        self.volume, self.notes = volume, notes


def _text(size: Size) -> str:
    if isinstance(size, bool) or not isinstance(size, (str, int)):
        raise UsageError(f"{size!r} is not a size; give bytes as an int, or text")
    return str(size)


def _age(text: str) -> timedelta:
    return timedelta(seconds=min(parse_age(text), _AGES))
