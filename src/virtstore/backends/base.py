"""Where images live: the contract that every backend keeps.

A *store* is one place that holds images side by side under names: a directory, a volume
group. It is opened by the agent's policy, which has resolved every path, so a backend
sees names only and never asks whether something is allowed. An *image* is one of its
objects, opened: its I/O takes an offset, is done whole or raises, and may be called from
several threads. A *draft* is an image in the making: it lies under a temporary name that
`Stored.state` shows as partial, until `publish` gives it its final name. What most stores have
the same of has a default here; a backend's classes are derived from these.

What differs between backends is told by `Capabilities`, a value. Errors are `OSError` with
the kernel's number, or those of errors.py, as each method says.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Literal, NoReturn, Protocol, Self

import msgspec

from virtstore.errors import Denied, InUse, Unsupported
from virtstore.location import plain_path, within
from virtstore.model import ContainerFormat, EntryType, Extent, State
from virtstore.network_name import NetworkName

#: Called now and then while something takes long. What it raises ends that.
Look = Callable[[], None]


def nothing() -> None:
    """Looks at nothing."""


#: What an open image is, whatever it is called: a file's device and inode number; a block
#: device's own number, and 0; what the kernel does not know, the store's own key.
Identity = tuple[int | str, ...]

_STEP: Final = 1 << 20
_NO_SNAPSHOTS: Final = "it can have no snapshots where it is"
NO_OVERLAY: Final = (
    "only a qcow2 in a directory lies over another image; give it a name that ends in .qcow2"
)
_NOTHING_SHARED: Final = "only files share blocks"
_NOTHING_KEPT: Final = (
    "what was written since an earlier backup is known of RBD images only; leave --keep-snapshot"
    " out"
)

_UPWARDS: Final = re.compile(r"^(?:\.{1,2}/+)+")

#: What a temporary name ends with. No image can be addressed by such a name.
PARTIAL_SUFFIX = ".virtstore-partial"

#: The same, of an image that is changed in place: what is left of it is no draft of something
#: new, but maybe all that there is of something old.
REWORK_SUFFIX = ".virtstore-rework"


class Version(msgspec.Struct, frozen=True):
    """One state of an image, as far as a store can tell without reading it (version.py). Times are
    nanoseconds since the epoch: `modified` of the contents, `changed` of anything; 0: unknown.
    `beneath`: the versions of the images that an overlay lies over."""

    identity: Identity
    size: int = 0
    modified: int = 0
    changed: int = 0
    beneath: tuple[Version, ...] = ()


class Displaced(InUse):
    """A partial image lost its name to somebody on another host, where our locks do not count."""


class Changed(msgspec.Struct, frozen=True):
    """What of an image may differ from what it was at an earlier moment, when it had `size` bytes:
    `ranges` (offset, length), in order, of what it has now and had then. All that differs is in
    there, and what is in there may be the same."""

    size: int
    ranges: tuple[tuple[int, int], ...]


class Capabilities(msgspec.Struct, frozen=True):
    """What a kind of store can do. `archives`: it can hold compressed images, whose length is known
    only at their end.
    `always_raw`: an image is raw, whatever its contents or its name look like.
    `sized_snapshots`: a snapshot is always possible, and has room of its own for what changes after
    it; elsewhere it shares blocks with its image, and trying tells whether it can.
    `fixed`: why images are neither made nor removed, but overwritten in place, and what to do
    instead; "" where they are. `noun`: what an image is, in a sentence.
    `reserves`: an image's space is its own from the beginning, unless that is not wanted.
    `thin_pools`: images can be made in a thin pool. `sparse`: images can be made of which nothing
    is reserved, and whose zeros take no room. `unnote`: the command that takes the note `{note}`
    (`Store.losses`) from what has the path `{path}`. `archives_only`: why nothing but archives can
    be there, and what to do instead; "" where images can. `far`: each look at an image is a request
    over a network. `keeps_moments`: what an image is at one moment can be left behind
    (`Store.moment`), to which the tests of the contract hold a store. `at_once`: so many images are
    open at the same time while they are listed."""

    archives: bool = False
    always_raw: bool = False
    sized_snapshots: bool = False
    fixed: str = ""
    noun: str = "a file"
    reserves: bool = True
    thin_pools: bool = False
    sparse: bool = False
    unnote: str = ""
    archives_only: str = ""
    far: bool = False
    at_once: int = 400
    keeps_moments: bool = False


#: What a draft holds before anything is written to it: zeros throughout; what an earlier
#: operation, or the image itself, had there; or nobody knows what (somebody's old data).
Holds = Literal["zeros", "kept", "unknown"]


#: Whether something partial is what is left of an image (`Store.rework`), and no draft. Older
#: versions did not tell. Who continues, replaces or removes it must be allowed to change images.
WasImage = Literal["no", "maybe", "yes"]


class Stored(msgspec.Struct, frozen=True):
    """One object of a store, as a listing finds it without opening it.

    `name` is the final name, also of a partial object. `size` is the object's own length,
    for an archive the compressed one. `modified`: when it was last written to, in nanoseconds
    since the epoch. `owner`: the number of the user whose file it is. `was_image`: of a partial
    object.
    """

    name: str
    type: EntryType
    state: State = "complete"
    size: int = 0
    allocated: int = 0
    identity: Identity = (0, 0)
    modified: int | None = None
    owner: int | None = None
    snapshot_of: str | None = None
    snapshots: tuple[str, ...] = ()
    dependents: tuple[str, ...] = ()  # those of them that would be lost with it
    held_by: tuple[str, ...] = ()  # those of them with which its size cannot change
    active: bool = True  # it can be opened without changing anything
    was_image: WasImage = "no"
    fixed: str | None = None  # why it is neither grown nor cut, and what to do about it
    lacks: str | None = None  # which disk of the host's is missing that a part of it lies on


class PageCache(Protocol):
    """What the host's page cache holds of an image. By default it holds nothing (`NO_CACHE`)."""

    def not_cached(self, offset: int, length: int) -> list[tuple[int, int]]:
        """The parts (offset, length) of a range, in whole pages, that are not in the cache, as far
        as the image goes; none where that cannot be known."""
        return []

    def let_go(self, offset: int, length: int) -> None:
        """Tell that a range need not stay in the cache. What is not on the disk yet stays."""
        return

    def write_out(self, offset: int, length: int, *, wait: bool) -> None:
        """Begin to write a range to the disk, or wait until it is there (`wait`). That keeps the
        flush at the end short, which nothing can interrupt. It promises nothing; but an
        error is raised here, as a flush may not report it again."""
        return


class _NoCache(PageCache):
    pass


NO_CACHE: Final[PageCache] = _NoCache()


class Handle(Protocol):
    """Something of a store that is open. Closed by leaving its context."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    @property
    def allocated(self) -> int:
        """Bytes of the store that it takes."""
        return self.size

    @property
    def cache(self) -> PageCache:
        return NO_CACHE

    def close(self) -> None:
        """Give it back. Called once; nothing is read or written afterwards."""
        ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Readable(Handle, Protocol):
    """An image, or an archive, that is open for reading."""

    @property
    def container(self) -> ContainerFormat | None:
        """The format of the container whose disk this is; None where it lies there as it is."""
        return None

    @property
    def version(self) -> Version:
        """The version of what can be read: another one after each change, and of another image;
        always the same where a store cannot tell (a volume)."""
        ...

    def announce(self) -> None:
        """Tell that all of it is going to be read, if it may be: what that needs is made ready
        meanwhile, such as a daemon, and what went wrong in that is raised by whoever reads."""
        return

    def read_at(self, offset: int, length: int) -> bytes:
        """`length` bytes, fewer only at the image's end."""
        ...

    def read_whole(self, offset: int, length: int) -> bytes:
        """`length` bytes. An end before that is an error (EIO), never a short read."""
        data = self.read_at(offset, length)
        if len(data) < length:
            end = offset + len(data)
            raise OSError(errno.EIO, f"the image ends at byte {end}, within its size")
        return data

    @property
    def self_checking(self) -> bool:
        """Whether its store finds by itself bytes that are no more what was written. Whoever only
        wants to know whether they are still sound need not read them."""
        return False

    def extents(self) -> Iterator[Extent]:
        """The whole image, in order and without gaps; `zero` only where that is certain."""
        if self.size:
            yield Extent(0, self.size, "unknown")

    def check(self) -> None:
        """Called when the last byte was read, or reading failed. Raises where what was read
        may not be the image: a snapshot that could not be kept (`NoSpace`)."""
        return

    def flush(self) -> None:
        """Return when what was written, by whomever, would survive a power cut. A failure is
        final."""
        return

    @property
    def keeps(self) -> tuple[int, ...]:
        """Descriptors that a tool has to inherit beside the lent one, for as long as it works."""
        return ()

    def lend(self) -> AbstractContextManager[int]:
        """A descriptor for a tool to inherit; `/proc/self/fd/N` is the image's path there. Raises
        `Unsupported` where there is none."""
        raise Unsupported("no tool can look into it where it is; copy it to a directory")


class Image(Readable, Protocol):
    """An open image."""

    @property
    def identity(self) -> Identity: ...

    @property
    def open_count(self) -> int | None:
        """How often it is open, here and elsewhere; None where the store does not count."""
        return None

    @property
    def watchers(self) -> tuple[str, ...] | None:
        """Who else has it open, and may write to it, wherever that is, in the words of its store;
        None where the store does not know."""
        return None

    @property
    def network(self) -> NetworkName | None:
        """What programs call it that reach it over the network; None where they use its path."""
        return None

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write all of `data` at a byte, or raise."""
        ...

    def zero(self, offset: int, length: int) -> None:
        """Make the range read as zeros, its space still reserved. Discard is no way to do it."""
        ...


class Moment(Image, Protocol):
    """An image as it was at one moment. It is gone when it is closed, unless it was kept."""

    def changed_since(self, kept: str) -> Changed | None:
        """What may have changed from the moment of the same image that was kept as `kept` to this
        one. None where there is no such moment, or nobody can tell for certain."""
        ...

    def keep(self, kept: str, beginning: str) -> None:
        """Leave this moment behind as `kept`, on the disk; one that is kept under that name already
        stays in its place. Then the others of the image whose names have this `beginning` are
        removed. A crash leaves one of them too many, for the next call, or none."""
        ...


class Draft(Handle, Protocol):
    """An image or an archive in the making. Leaving its context neither publishes nor discards it:
    what is left is visible as partial, can be resumed, and is removed by `Store.discard`."""

    #: It is finished, and not published: what fails now is no reason to discard it.
    whole: bool

    def finish(self) -> None:
        """Flush a draft that is written whole. `publish` does it too."""
        ...

    def note_losses(self, note: str) -> bool:
        """Give the draft this note, in place of any other (see `Store.note_losses`)."""
        ...

    def publish(self, *, overwrite: bool, like: str | None = None) -> None:
        """Flush, then give the draft its final name, for good. `FileExistsError` if the name
        is taken and `overwrite` was not asked for; the old image, or what is left of one, goes
        only once the new one has its name. Owner, mode, access list and labels are those of
        `like`, with its times, or of the replaced image, else as configured. Raises `Denied`
        where they cannot be."""
        ...


class ImageDraft(Draft, Image, Protocol):
    """An image in the making, all of its space reserved unless it was to be sparse."""

    holds: Holds

    def share(self, source: Readable) -> None:
        """Become what `source` is at this moment, by sharing its blocks. The draft is sparse, and
        as long as `source`. Raises `Unsupported` as `Store.require_sharing`."""
        raise Unsupported(_NOTHING_SHARED)


class ArchiveSink(Draft, Protocol):
    """An archive in the making. Its bytes come one after the other, and its length is known only
    when it is published."""

    @property
    def resumable(self) -> ResumableSink | None:
        """The same archive, where a part that an interrupted operation left can be gone on with;
        else None."""
        return None

    def append(self, data: bytes) -> None:
        """Write all of `data` behind what there is, or raise."""
        ...

    @property
    def shared_unit(self) -> int:
        """Bytes of which an archive's frames begin at multiples, so that archives here can share
        them; 1 where they share nothing."""
        return 1

    def append_from(self, other: Readable, offset: int, length: int) -> int:
        """Write a range of another archive behind what there is, or raise. Where both can, they
        share its whole blocks. Returns how many bytes they share."""
        for start in range(offset, offset + length, _STEP):
            self.append(other.read_whole(start, min(_STEP, offset + length - start)))
        return 0

    def abandon(self) -> None:
        """Leave nothing of the archive. Called once it is closed."""
        ...


class ResumableSink(ArchiveSink, Readable, Protocol):
    """An archive in the making of which a part may be there already."""

    holds: Holds

    @property
    def resumable(self) -> Self:
        return self

    def write_at(self, offset: int, data: bytes) -> None:
        """Write all of `data` at a byte, or raise. At the end it makes the archive longer."""
        ...

    def cut(self, length: int) -> None:
        """Make the archive shorter."""
        ...

    def scratch(self) -> Image:
        """Room for as much again, beside it and without a name, gone when it is closed.
        `OSError` where there is no such thing."""
        ...


class Elsewhere:
    """What an image may name that lies in `directory`: any image that its session may read, which
    `opened` opens the store of by an absolute path, and tells its name there."""

    def __init__(
        self, directory: str, opened: Callable[[str], AbstractContextManager[tuple[Store, str]]]
    ) -> None:
        self.directory = directory
        self.opened = opened

    def path_of(self, named: str) -> str:
        """The absolute path that is meant by a path in an image. What begins with `..` leads up
        from where the directory really is, as for the kernel; any other `..` stays."""
        inner = _UPWARDS.sub("", named)
        if ".." in inner.split("/"):
            return os.path.join(self.directory, named)
        if inner == named and not named.startswith("/"):
            return plain_path(f"{self.directory}/{named}")
        real = os.path.realpath(self.directory)
        path = os.path.normpath(f"{real}/{named}") if inner != named else plain_path(named)
        return self.directory + path[len(real) :] if within(path, real) else path


def _nothing_elsewhere(path: str) -> NoReturn:
    raise Denied("no other image is opened from here", path=path)


#: What there is for a store that nobody told.
NOWHERE: Final = Elsewhere("", _nothing_elsewhere)


class Store(Protocol):
    """One place that holds images side by side. `elsewhere`: the images that one of its images may
    name."""

    capabilities: Capabilities
    elsewhere: Elsewhere = NOWHERE

    def close(self) -> None: ...

    def refresh(self) -> None:
        """Forget what is known of the objects: called once a lock is held."""
        return

    def identity(self, name: str) -> str:
        """A text by which a lock on `name` is known: the same by whatever path the store was
        reached."""
        ...

    def free(self) -> int:
        """Bytes that new images can take."""
        ...

    def rounded(self, size: int) -> int:
        """The bytes that an image has of which `size` are wanted: the next size that is
        possible."""
        return size

    def scan(self) -> Iterator[Stored]:
        """All objects, in no order. Internal ones are never shown."""
        ...

    def named(self, name: str) -> list[Stored]:
        """The objects of that name, as `scan` shows them: one, and what is partial beside it."""
        return [stored for stored in self.scan() if stored.name == name]

    def find(self, name: str) -> Stored | None:
        """The object of that name; where there is none, the partial one that will have it. What is
        left of an image goes before a draft."""
        return min(self.named(name), key=lambda s: (s.state, s.was_image != "yes"), default=None)

    def announce(self, names: Sequence[str]) -> None:
        """Tell that these objects are about to be opened and looked at, one after the other: a
        store that is `Capabilities.far` may ask for what tells of them at once."""
        return

    def container_of(self, name: str) -> ContainerFormat | None:
        """The format of the container that an object of this name is, or would be: its name says
        so, or the configuration, and never its contents. None: its bytes are the image's."""
        return None

    def open(
        self, name: str, *, writable: bool = False, partial: bool = False, stored: bool = False
    ) -> Image:
        """An image, opened: of a container, the disk in it. Raises `NotFound`, and `Denied` for
        anything that is not an image (a link, a FIFO); `Corrupt` or `Unsupported` for a container
        whose disk cannot be had. `partial`: open the partial one. `stored`: open the object as it
        lies there, whatever is in it."""
        ...

    def require_name(self, name: str) -> None:
        """Raises `UsageError` for a name that no new image here can have, also because of the
        longer names that it has while it is worked on."""
        ...

    def require_attributes(self, name: str, like: str | None = None) -> None:
        """Raises `Denied` where an image of this name could not be given the owner, access list and
        labels that `Draft.publish` gives it, or where what has the name may not be replaced. Found
        by trying, before any data moves."""
        return

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
        """A new image of `size` bytes, all of it reserved. `thin`: in that thin pool, where
        nothing is reserved; `Unsupported` where there are none (`Capabilities.thin_pools`).
        `sparse`: nothing is reserved, and zeros take no room, so writing to the draft may raise
        `NoSpace`; `Unsupported` where that cannot be (`Capabilities.sparse`). Nothing of a
        container is reserved, unless it is to `preallocate`. `stored`: the object's own bytes are
        written, whatever its name says. A partial one that is there is taken up, with its
        contents, so that a cut copy can go on. Raises `NoSpace` with nothing left behind."""
        ...

    def overlay(self, name: str, size: int, over: str, form: ContainerFormat | None) -> ImageDraft:
        """A new image of `size` bytes that lies over the one with the path `over`, of this format
        (None: a raw one), and reads as that. Raises `Unsupported` where it would be none that
        can."""
        raise Unsupported(NO_OVERLAY)

    def require_sharing(self, source: Readable) -> None:
        """Raises `Unsupported` where no draft here can share the blocks of `source`, which is an
        image of this store or of another. Found by trying, before anything is written."""
        raise Unsupported(_NOTHING_SHARED)

    def archive(self, name: str) -> ArchiveSink:
        """A new archive, of no bytes yet; a partial one that is there is taken up, with its
        contents. Raises `Unsupported` where no archives can be (`Capabilities.archives`)."""
        raise Unsupported("it holds no archive; an archive is made in a directory")

    def rework(self, name: str, before: Callable[[Image], None] = ...) -> ImageDraft:
        """The image itself as a draft. With the first byte that changes it loses its final name
        until `publish` gives it back, because from then on its contents are neither the old nor
        the new; `before` is called before that, with the draft, and may raise. One that an
        earlier rework left is taken up, and stays partial until then."""
        ...

    def remove(self, name: str, *, with_snapshots: bool = False) -> None:
        """Remove an image, flushed. Raises `NotFound`, and `InUse` where snapshots depend on it,
        unless they are to go too."""
        ...

    def rename(self, name: str, new: str) -> None:
        """Give an image another name, on the disk, with all that belongs to it: its marks, its
        notes, its snapshots. A crash leaves it under one of the two names, or for `mend`. Raises
        `NotFound`, also for a partial image, and `FileExistsError` where the new name is taken."""
        raise Unsupported("an image cannot get another name where it is; copy it")

    def require_new_names(self) -> None:
        """Raises `Unsupported` where no new image can be published without the danger of replacing
        what gets its name at the same moment. Found by trying, before anything is written."""
        return

    def discard(self, name: str, *, was_image: bool = False) -> None:
        """Remove the draft of that name, if there is one, and what is left of an image only if
        that was asked for."""
        ...

    def grow(
        self,
        name: str,
        size: int,
        *,
        in_use: bool = False,
        between: Look = ...,
        sparse: bool = False,
    ) -> None:
        """Make an image longer; its new space is reserved, unless it is to be `sparse`, and zero. A
        failure leaves the old size, unless the image is `in_use` (see `unzeroed`). `between` is
        called while the new space is zeroed, and may raise. Raises `NoSpace`, and `Unsupported` as
        `draft`."""
        ...

    def reserve(self, name: str) -> None:
        """Reserve all space of an image, so that nothing written to it meets a full disk; what it
        holds stays. Raises `NoSpace`."""
        return

    def unzeroed(self, name: str) -> int | None:
        """The byte from which on an image may hold old data of others, beside its own, because a
        growth was cut short while it was in use; None for nowhere. `grow` zeroes that."""
        return None

    def overlays(self, name: str) -> tuple[str, ...]:
        """The names of the images that lie over this one, as far as they lie beside it; those that
        are left of one, too. What lies over it elsewhere is not known."""
        return ()

    def losses(self, name: str) -> str:
        """The note that `note_losses` gave an image, "" for none. It goes where the image goes
        within its store, also to a snapshot; other contents under its name do not have it."""
        return ""

    def note_losses(self, name: str, note: str) -> bool:
        """Note on the disk what an image had lost when it was made longer, in at most 1000 letters,
        digits, `-` and `:`; "" takes the note away. Whether this store can have one."""
        return False

    def shrink(self, name: str, size: int) -> None:
        """Cut it. The caller has made sure that nothing is lost."""
        ...

    def interrupted(self) -> list[str]:
        """The names of images that a crash left in the middle of a change of names or marks,
        for `mend`. Partial images are none of these."""
        return []

    def is_interrupted(self, name: str) -> bool:
        """Whether `interrupted` tells of that one."""
        return name in self.interrupted()

    def mend(self, name: str) -> None:
        """Finish or undo what `interrupted` told of. The caller holds the image's lock."""
        return

    def snapshot_name(self, name: str, asked: str | None) -> str:
        """What a snapshot of an image is called here that its user calls `asked`; of None, the
        image's name with the first free `-s1`, `-s2`, … before its ending."""
        if asked is not None:
            return asked
        stem, dot, ending = name.rpartition(".")
        if not stem:
            stem, dot, ending = name, "", ""
        number = 1
        while self.find(free := f"{stem}-s{number}{dot}{ending}"):
            number += 1
        return free

    def snapshot(self, name: str, new: str, size: int | None) -> None:
        """`new` becomes what `name` is at this moment; `size` bounds what may change after
        it (None: as much as there is room for). Raises `Exists`, and `Unsupported`
        where this store's file system cannot (told by trying: it is a property of the place,
        not of the kind)."""
        raise Unsupported(_NO_SNAPSHOTS)

    def guarded(self, name: str, end: int, contents: str) -> AbstractContextManager[str]:
        """Undo what is written to an image within the block, if the block ends in an error or the
        machine stops. A store does that if it has cheap snapshots, and room for one.

        Gives the name by which the image is opened meanwhile; the image is closed before the block
        ends. The change ends at byte `end`; the text `contents` stands for what is changed. Where
        the block ends in `LeftRunning`, a tool still writes there: `mend` undoes that later.
        """
        return nullcontext(name)

    def remnants(self, name: str, contents: str) -> int:
        """The byte before which a guarded change of the same `contents`, which was not undone, may
        have left data behind; 0 if there was none since `forget_remnants`."""
        return 0

    def forget_remnants(self, name: str) -> None:
        """Tell that there are no remnants: the change was whole, or had not begun."""
        return

    def frozen(self, name: str) -> Image:
        """The image as it is at this moment, readable until closed, then gone without a
        trace, whatever happens. Raises `Unsupported` as `snapshot`."""
        raise Unsupported(_NO_SNAPSHOTS)

    def moment(self, name: str) -> Moment:
        """The same as `frozen`, but it can tell what has changed since another moment, and it can
        be kept. A kept one is listed as a snapshot, and is removed as snapshots are.
        Raises `Unsupported` where there is no such thing (`Capabilities.keeps_moments`)."""
        raise Unsupported(_NOTHING_KEPT)
