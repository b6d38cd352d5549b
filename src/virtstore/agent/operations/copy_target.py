"""What a copy writes to: a draft, what becomes of it, and what it has already."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import NamedTuple

from virtstore import formats
from virtstore.agent.context import Agent
from virtstore.agent.operations.copy_base import Base
from virtstore.agent.policy import Place
from virtstore.backends.base import ArchiveSink, Displaced, Draft, Image, ImageDraft
from virtstore.copy_options import CopyMode
from virtstore.errors import (
    WHO_CLEANS,
    ConnectionFailed,
    Error,
    Interrupted,
    UsageError,
    blamed_on,
    from_os_error,
)
from virtstore.formats.base import Format, StreamFormat
from virtstore.formats.summary import Label
from virtstore.model import Compression, Origin
from virtstore.transfer.base_archive import BaseArchive
from virtstore.transfer.fingerprints import Fingerprints
from virtstore.transfer.hashing import fingerprints
from virtstore.transfer.partial_over_base import PartialOverBase
from virtstore.transfer.pieces import Source
from virtstore.transfer.receive import Target
from virtstore.transfer.resume_archive import PartialArchive
from virtstore.transfer.send import Encoding
from virtstore.transfer.sources import RawSource
from virtstore.transfer.writers import FrameTarget, ImageTarget, StreamTarget


class Wanted(NamedTuple):
    """What a target is to become. `like`: the name of the image or archive that it is made of,
    beside it; `holds`: the foreign kind that its bytes are of, if any; `lost`: the note of what the
    source had lost (`Store.losses`); `sparse`: nothing is reserved for it; `reflink`: it is to
    share the blocks of its source; `force_defined`: a domain that is shut off may be defined on
    what is there; `origin`: what an archive of ours says of what it was made of."""

    path: str
    mode: CopyMode
    size: int
    archive: Compression | None = None
    level: int | None = None
    like: str | None = None
    holds: str | None = None
    lost: str = ""
    sparse: bool = False
    reflink: bool = False
    force_defined: bool = False
    origin: Origin | None = None

    def label(self, archive: ArchiveSink) -> Label:
        """What an archive of ours says beside its image."""
        return Label(archive.shared_unit, self.holds is None, self.origin)

    def refuse_loss(self, agent: Agent, image: Image) -> None:
        """Raises `InUse` where the image that is there must not become this."""
        agent.refuse_loss(image, forced=self.force_defined)


class Opened(NamedTuple):
    """A target that is ready to be written.

    `image`: the draft, unless it is an archive. `there`: what the draft holds already, to be
    compared with the source. `existing`: the fingerprints of that, as they become known. `blocks`:
    blocks are compared as well as chunks; what a copy that was cut left has whole chunks only."""

    draft: Draft
    target: Target
    image: ImageDraft | None = None
    there: Source | None = None
    existing: Fingerprints | None = None
    blocks: bool = False

    @property
    def base(self) -> str:
        """The digest of the image in the base, where all that is there is the base's; else ""."""
        return self.there.image_digest if isinstance(self.there, BaseArchive) else ""


@contextmanager
def opened_target(
    agent: Agent, place: Place, wanted: Wanted, base: Base | None = None
) -> Iterator[Opened]:
    """A draft ready to be written. It is kept, as partial, where a client that went away may
    come back and go on; otherwise a failure leaves no trace of it. `base`: what it is based on."""
    # Where this fails, there is nothing of ours yet.
    require_attributes(place, wanted)
    draft, prepare, discard = _drafted(agent, place, wanted, base)
    try:
        with draft, ExitStack() as stack:
            yield prepare(stack)
    except BaseException as error:
        # A reworked image is never discarded: it has its name still, if nothing of it was
        # overwritten, and is partial otherwise. A volume that is open cannot be removed.
        left = isinstance(error, (Interrupted, ConnectionFailed))
        if wanted.mode != "contents":
            if isinstance(error, Displaced):
                raise  # what has its name is another's
            if draft.whole:
                _say_that_it_stays(error, place)
            elif not (left and wanted.archive in (None, "zstd")):
                place.store.refresh()  # that may have taken hours
                discard()
        raise


def _say_that_it_stays(error: BaseException, place: Place) -> None:
    """Add to the error that the draft is whole and stays: what keeps it from its name is no reason
    to throw it away."""
    told = error if isinstance(error, Error) else None
    if isinstance(error, OSError):
        told = from_os_error(error, path=place.path)
    if told is not None:
        told.message += (
            "; it was written whole and stays as partial: the same command goes on with it, once"
            f" nothing is in its way, and {WHO_CLEANS}"
        )
        raise told from None


def require_attributes(place: Place, wanted: Wanted) -> None:
    """Raises `Denied` where the target could not be given its owner, mode and labels."""
    if wanted.mode != "contents":
        place.store.require_attributes(place.name, wanted.like)


class _Drafted(NamedTuple):
    """A draft, what makes a target of it, and what removes it once it is closed."""

    draft: Draft
    prepare: Callable[[ExitStack], Opened]
    discard: Callable[[], None]


def _drafted(agent: Agent, place: Place, wanted: Wanted, base: Base | None) -> _Drafted:
    store, name = place.store, place.name
    if wanted.archive:
        form = formats.by_name(wanted.archive)
        level = level_for(form, wanted.level)
        archive = store.archive(name)
        prepare = partial(_prepare_archive, archive, wanted, base)
        if stream := formats.STREAMS.get(form.name):
            prepare = partial(_prepare_stream, archive, stream, level)
        return _Drafted(archive, prepare, archive.abandon)
    rework = wanted.mode == "contents"
    # To compare what is equal takes its time: who uses it is looked at again before it changes.
    if rework:
        draft = store.rework(name, partial(wanted.refuse_loss, agent))
    else:
        # The bytes of something foreign go under a name that says so, as they are.
        stored = wanted.holds is not None
        draft = store.draft(
            name, wanted.size, sparse=wanted.sparse or wanted.reflink, stored=stored
        )
    prepare = partial(_prepare_image, draft, wanted.size, blocks=rework)
    return _Drafted(draft, prepare, partial(store.discard, name))


def _prepare_image(draft: ImageDraft, size: int, _: ExitStack, *, blocks: bool) -> Opened:
    if draft.holds != "kept":
        blank = ImageTarget(draft, size, None, blank=draft.holds == "zeros")
        return Opened(draft, blank, draft)
    existing = Fingerprints(size)
    target = ImageTarget(draft, size, existing)
    return Opened(draft, target, draft, RawSource(draft, size), existing, blocks)


def _prepare_archive(
    archive: ArchiveSink, wanted: Wanted, base: Base | None, stack: ExitStack
) -> Opened:
    label = wanted.label(archive)
    cut_off = None
    left = archive.resumable
    if left and left.holds == "kept":
        with suppress(OSError):  # a file system without files without names
            scratch = stack.enter_context(left.scratch())
            cut_off = PartialArchive(left, scratch, wanted.size)
    if cut_off is None:
        _begin_anew(archive)
    beneath = base.prepare(archive, wanted.size) if base else None
    there = PartialOverBase(cut_off, beneath) if cut_off and beneath else cut_off or beneath
    if there is None:
        return Opened(archive, FrameTarget(archive, label=label))
    existing = Fingerprints(wanted.size)
    target = FrameTarget(archive, existing, there, label)
    return Opened(archive, target, there=there, existing=existing)


def _begin_anew(archive: ArchiveSink) -> None:
    if left := archive.resumable:
        left.cut(0)


def _prepare_stream(
    archive: ArchiveSink, form: StreamFormat, level: int, stack: ExitStack
) -> Opened:
    _begin_anew(archive)
    stream = StreamTarget(archive, form, level)
    stack.callback(stream.abandon)
    return Opened(archive, stream)


def local_encoding(wanted: Wanted, bwlimit: int | None = None) -> Encoding:
    """Within one host only what is kept compressed is compressed."""
    if wanted.archive != "zstd":
        return Encoding(frames=False, proven=True, bwlimit=bwlimit)
    level = level_for(formats.by_name("zstd"), wanted.level)
    return Encoding(whole_frames=True, proven=True, level=level, bwlimit=bwlimit)


def level_for(form: Format, level: int | None) -> int:
    """The level to compress at. Raises `UsageError` for one that the format has not."""
    if level is not None and level not in form.levels:
        raise UsageError(
            f"{form.name} has no level {level}: {form.levels.start} to {form.levels.stop - 1}"
        )
    return form.default_level if level is None else level


@contextmanager
def surveyed(
    agent: Agent, opened: Opened, place: Place, tell: Callable[[int, bytes, bool], None]
) -> Iterator[None]:
    """Hash what the target holds already, in a thread beside the copy in the block. `tell` gets
    each batch of fingerprints, as `Existing` has it. An error of that thread, or of `tell`, is the
    operation's."""
    existing, there = opened.existing, opened.there
    if existing is None or there is None:
        yield
        return

    over = threading.Event()

    def learn() -> None:
        try:
            with blamed_on(place.path):
                for zeros, found in fingerprints(there, blocks=opened.blocks):
                    existing.wait_for_room()
                    existing.add(found, zeros)
                    tell(zeros, found, False)
                there.check()
                existing.finish()
                tell(0, b"", True)
        except BaseException as error:
            existing.close(error)  # whoever waits for a fingerprint gets it
            if not over.is_set():
                agent.session.fail(error)  # and so does who waits for the source

    thread = threading.Thread(target=learn, name="survey", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        existing.close()
        thread.join()
