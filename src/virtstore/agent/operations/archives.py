"""Archives made and unmade beside their image, and read through: compress, uncompress,
verify. Old or new: the one is removed only once the other has its name, flushed."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Literal, NoReturn

import msgspec

from virtstore import formats, names
from virtstore.agent.container import (
    image_name,
    looks_like,
    refuse_misleading_name,
    refuse_uncompressing,
    remarks,
    require_images,
    source_of,
    warnings_of,
    what_is,
)
from virtstore.agent.context import Agent, changed, planned, require_room, stored
from virtstore.agent.operations.copy_source import held
from virtstore.agent.operations.copy_target import (
    Wanted,
    level_for,
    local_encoding,
    opened_target,
    require_attributes,
)
from virtstore.agent.operations.copy_within import copy_within
from virtstore.agent.operations.lost import note_in_copy
from virtstore.agent.operations.origins import origin_of
from virtstore.agent.operations.refusals import refuse_existing, refuse_overlays
from virtstore.agent.policy import Place
from virtstore.backends.base import Image
from virtstore.backends.version import settled, touched, written
from virtstore.errors import Corrupt, InUse, NotFound, Unsupported, UsageError
from virtstore.model import Access, Changed, Verified
from virtstore.protocol import CompressImage, Done, DoneVerifying, UncompressImage, VerifyImage
from virtstore.transfer.frame_source import FrameSource
from virtstore.transfer.hashing import check
from virtstore.transfer.pieces import Source
from virtstore.transfer.sources import RawSource, open_source

_Request = CompressImage | UncompressImage


def compress(agent: Agent, request: CompressImage) -> Done:
    need: Access = "append" if request.keep else "write"
    form = formats.by_name(request.format)
    level_for(form, request.level)
    with agent.locked(request.path, need) as place, place.store.open(place.name) as image:
        require_images(place)
        if not place.store.capabilities.archives:
            noun = place.store.capabilities.noun
            raise Unsupported(f"{noun} holds no archive; copy it to a file with --archive")
        if found := what_is(place, image).archive:
            raise Unsupported(f"it is a compressed archive already ({found.name})")
        if form.name != "zstd":
            _refuse_disk_of_a_container(place, image)
        source = source_of(place, image, steady=True)
        path, holds = place.path + form.suffix, held(place, source)
        wanted = Wanted(path, "new", image.size, form.name, request.level, place.name, holds)
        if form.name == "zstd" and not request.dry_run:
            wanted = wanted._replace(origin=origin_of(place, source, "unused", quiesced=False))
        if request.dry_run:
            _refuse_what_would_fail(agent, request, place, image, wanted)
            step = f"compress {place.path} to {wanted.path} ({form.name})"
            return Done(planned(place._replace(path=path), image.size, step))
        return _replace(agent, request, place, image, source, wanted)


def _refuse_disk_of_a_container(place: Place, image: Image) -> None:
    """Raises `Unsupported` for a container in whose disk a guest wrote another: an archive in this
    format does not say which of both it is of, and `uncompress` would make the inner one."""
    if image.container and (inner := looks_like(image)):
        raise Unsupported(
            f"the disk in it begins as {inner.kind.what}, which 'virtstore uncompress' would take"
            " for the image; an archive in virtstore's own format (--format zstd) says that it is"
            " the disk's",
            path=place.path,
        )


def uncompress(agent: Agent, request: UncompressImage) -> Done:
    need: Access = "append" if request.keep else "write"
    with agent.locked(request.path, need) as place, place.store.open(place.name) as image:
        require_images(place)
        source = source_of(place, image)
        if source.compression is None:
            refuse_uncompressing(place.path, source.holds)
        agent.policy.check_size(source.size)
        # It may be called another format's archive; what it is called then is no image's name.
        path = image_name(place.path)
        if path.endswith("/"):
            raise UsageError("its name is nothing but an ending; 'virtstore copy' unpacks it")
        if path == place.path and request.keep:
            raise UsageError(
                f"its name does not end in {names.SUFFIXES[source.compression]}, so the image would"
                " take its place; leave --keep out, or use 'virtstore copy'"
            )
        wanted = Wanted(path, "new", source.size, like=place.name, holds=held(place, source))
        if request.dry_run:
            _refuse_what_would_fail(agent, request, place, image, wanted)
            step = f"uncompress {place.path} to {path}"
            return Done(planned(place._replace(path=path), source.size, step))
        return _replace(agent, request, place, image, source, wanted)


def verify(agent: Agent, request: VerifyImage) -> DoneVerifying:
    with agent.locked(request.path, "read", shared=True) as place:
        stored(place)
        with place.store.open(place.name) as image:
            source = source_of(place, image)
            agent.session.stage("verifying")
            quick = request.quick and isinstance(source, FrameSource) and source.sealed
            digest = check(source, agent.session.progress, quick=quick)
            told = Verified(
                path=place.path,
                host="",
                size=source.size,
                compression=source.compression,
                digest=digest,
                checked="checksums" if quick else _held_against(source),
                warnings=(*_unchecked(place, source), *_slow(request, quick=quick)),
            )
            return DoneVerifying(told)


def _slow(request: VerifyImage, *, quick: bool) -> tuple[str, ...]:
    """The warning for a quick look that could not be one."""
    if quick or not request.quick:
        return ()
    return ("it keeps no checksums of its stored bytes, so it was read as without --quick",)


def _held_against(source: Source) -> Literal["digest", "checksums", "nothing"]:
    if source.digest:
        return "digest"
    return "checksums" if source.compression else "nothing"


def _unchecked(place: Place, source: Source) -> tuple[str, ...]:
    """The warnings for a file that was read through, is no archive, and may be no raw image."""
    container = place.store.container_of(place.name)
    if source.compression or container or place.store.capabilities.always_raw:
        return ()
    return warnings_of(place.path, source.holds)


def _replace(
    agent: Agent, request: _Request, old: Place, image: Image, source: Source, wanted: Wanted
) -> Done:
    """Make `wanted` of the source, beside the original or in its place, and remove the original
    unless that is to be kept."""
    _refuse_use(agent, request, image)
    _require_replaceable(old, keep=request.keep)
    original = _Original(agent, request, old, image, source)
    if wanted.path == old.path:
        refuse_misleading_name(old, wanted.holds, wanted.archive)
        return Done(_write(agent, old, original, source, wanted))
    with agent.locked(wanted.path, "append") as new:
        refuse_misleading_name(new, wanted.holds, wanted.archive)
        refuse_existing(agent, new)
        done = _write(agent, new, original, source, wanted)
        if not request.keep:
            original.require_same()
            old.store.remove(old.name)
        return Done(done)


class _Original:
    """The image that goes once it has an archive, or the archive that goes once it was unpacked.
    `digest`: of the image, once that was read."""

    def __init__(
        self, agent: Agent, request: _Request, place: Place, image: Image, source: Source
    ) -> None:
        self.place = place
        self.digest = ""
        self._agent = agent
        self._request = request
        self._is_archive = source.compression is not None
        self._version = settled(image)

    def require_same(self) -> None:
        """Raises `InUse` where somebody uses it now, wrote to it, or put another in its place."""
        place = self.place
        try:
            now = place.store.open(place.name)
        except NotFound:
            self._refuse("somebody removed it, or gave it another name, meanwhile")
        with now:
            _refuse_use(self._agent, self._request, now)
            if seen := written(self._version, now.version):
                self._refuse(f"somebody changed it meanwhile ({seen})")
            if touched(self._version, now.version):
                self._look_again(now)

    def _look_again(self, now: Image) -> None:
        """Read it again, and raise `InUse` where its contents changed. Its times tell only that
        something did: its owner, mode, name or labels; or its contents, if somebody set its time of
        modification back."""
        self._version = settled(now)
        source = (
            source_of(self.place, now, steady=True)
            if self._is_archive
            else RawSource(now, now.size, steady=True)
        )
        if check(source, lambda done, total: self._agent.session.check()) != self.digest:
            self._refuse("somebody changed it meanwhile, and set its time of modification back")

    def _refuse(self, why: str) -> NoReturn:
        raise InUse(f"{why}; what has its name now was left alone", path=self.place.path)


def _require_replaceable(old: Place, *, keep: bool) -> None:
    """Raises `Denied` where the original could not be removed in the end."""
    if not keep:
        refuse_overlays(old)
        old.store.require_attributes(old.name)


def _refuse_use(agent: Agent, request: _Request, image: Image) -> None:
    agent.refuse_loss(image, forced=request.force_defined or request.keep)


def _refuse_what_would_fail(
    agent: Agent, request: _Request, old: Place, image: Image, wanted: Wanted
) -> None:
    _refuse_use(agent, request, image)
    _require_replaceable(old, keep=request.keep)
    with ExitStack() as stack:
        new = old
        if wanted.path != old.path:
            new = stack.enter_context(agent.locked(wanted.path, "append"))
            refuse_existing(agent, new)
        refuse_misleading_name(new, wanted.holds, wanted.archive)
        require_attributes(new, wanted)
        if not wanted.archive:
            require_room(new, wanted.size)


def _write(
    agent: Agent, new: Place, original: _Original, source: Source, wanted: Wanted
) -> Changed:
    old = original.place
    with opened_target(agent, new, wanted) as opened:
        agent.session.stage("compressing" if wanted.archive else "uncompressing")
        outcome = copy_within(agent, old, source, new, opened, local_encoding(wanted))
        original.digest = outcome.digest
        if wanted.archive not in (None, "zstd"):
            _require_contents(agent, new, outcome.digest)
        noted = old.store.losses(old.name)
        lost = note_in_copy(agent, opened, source.size, noted)
        agent.session.stage("flushing")
        original.require_same()
        opened.draft.publish(overwrite=new.path == old.path, like=wanted.like)
        warnings = (*remarks(new.path, wanted.holds, wanted.archive), *lost)
        told = changed(new, opened.draft, warnings=warnings)
        return msgspec.structs.replace(told, size=source.size)


def _require_contents(agent: Agent, place: Place, digest: str) -> None:
    """Read an archive back that another program's format keeps. Raises `Corrupt` unless it holds
    what was compressed."""
    agent.session.stage("verifying")
    with place.store.open(place.name, partial=True) as draft:
        held = check(open_source(draft), lambda done, total: agent.session.check())
    if held != digest:
        raise Corrupt(
            "what was compressed does not decompress to the same; this host's memory or processor"
            " may be faulty"
        )
