"""Archives made and unmade beside their image, and read through: compress, uncompress,
verify. Old or new: the one is removed only once the other has its name, flushed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Literal

import msgspec

from virtstore import formats, names
from virtstore.agent.context import Agent, changed, planned, require_room, stored
from virtstore.agent.kinds import refuse_misleading_name, remarks
from virtstore.agent.operations.copying import copy_within, held
from virtstore.agent.operations.images import refuse_existing
from virtstore.agent.operations.targets import (
    Wanted,
    level_for,
    local_encoding,
    opened_target,
    require_attributes,
)
from virtstore.agent.policy import Place
from virtstore.backends.base import Draft, Image
from virtstore.errors import Corrupt, InUse, Unsupported, UsageError
from virtstore.model import Access, Changed, Verified
from virtstore.protocol import CompressImage, Done, DoneVerifying, UncompressImage, VerifyImage
from virtstore.transfer.sources import Source, open_source
from virtstore.transfer.survey import check


def compress(agent: Agent, request: CompressImage) -> None:
    need: Access = "append" if request.keep else "write"
    form = formats.by_name(request.format)
    level_for(form, request.level)
    with agent.locked(request.path, need) as place, place.store.open(place.name) as image:
        if not place.store.capabilities.archives:
            raise Unsupported("a volume holds no archive; copy it to a file with --archive")
        if found := formats.detect(image):
            raise Unsupported(f"it is a compressed archive already ({found.name})")
        source = open_source(image, archives=True, name=place.name, steady=True)
        path, holds = place.path + form.suffix, held(place, source)
        wanted = Wanted(path, "new", image.size, form.name, request.level, place.name, holds)
        if request.dry_run:
            _refuse_what_would_fail(agent, place, image, wanted, keep=request.keep)
            step = f"compress {place.path} to {wanted.path} ({form.name})"
            return agent.reply(Done(planned(place, image.size, step)))
        _replace(agent, place, image, source, wanted, keep=request.keep)
    return None


def uncompress(agent: Agent, request: UncompressImage) -> None:
    need: Access = "append" if request.keep else "write"
    with agent.locked(request.path, need) as place, place.store.open(place.name) as image:
        archives = place.store.capabilities.archives
        source = open_source(image, archives=archives, name=place.name)
        if source.compression is None:
            raise Unsupported("it is not compressed")
        agent.policy.check_size(source.size)
        # It may be called another format's archive; what it is called then is no image's name.
        path = names.without_archive_suffix(place.path)
        if path.endswith("/"):
            raise UsageError("its name is nothing but an ending; 'virtstore copy' unpacks it")
        if path == place.path and request.keep:
            raise UsageError(
                f"its name does not end in {names.SUFFIXES[source.compression]}, so the image would"
                " take its place; leave --keep out, or use 'virtstore copy'"
            )
        wanted = Wanted(path, "new", source.size, like=place.name, holds=held(place, source))
        if request.dry_run:
            _refuse_what_would_fail(agent, place, image, wanted, keep=request.keep)
            step = f"uncompress {place.path} to {path}"
            return agent.reply(Done(planned(place, source.size, step)))
        _replace(agent, place, image, source, wanted, keep=request.keep)
    return None


def verify(agent: Agent, request: VerifyImage) -> None:
    with agent.locked(request.path, "read", shared=True) as place:
        stored(place)
        with place.store.open(place.name) as image:
            archives = place.store.capabilities.archives
            source = open_source(image, archives=archives, name=place.name)
            agent.session.stage("verifying")
            digest = check(source, agent.session.progress)
            told = Verified(
                path=place.path,
                host="",
                size=source.size,
                compression=source.compression,
                digest=digest,
                checked=_held_against(source),
            )
            agent.reply(DoneVerifying(told))


def _held_against(source: Source) -> Literal["digest", "checksums", "nothing"]:
    if source.digest:
        return "digest"
    return "checksums" if source.compression else "nothing"


def _replace(
    agent: Agent, old: Place, image: Image, source: Source, wanted: Wanted, *, keep: bool
) -> None:
    """Make `wanted` of the source beside it, or in its place, and answer."""
    agent.refuse_use(image)
    _require_replaceable(old, keep=keep)
    version = image.version

    def still_the_same() -> None:
        """Somebody may have come, or written to it, or put another in its place meanwhile."""
        with old.store.open(old.name) as now:
            agent.refuse_use(now)
            if now.version != version:
                raise InUse("somebody changed it meanwhile; it was not removed", path=old.path)

    if wanted.path == old.path:
        refuse_misleading_name(old, wanted.holds, wanted.archive)
        return agent.reply(Done(_write(agent, old, old, source, wanted, still_the_same)))
    with agent.locked(wanted.path, "append") as new:
        refuse_misleading_name(new, wanted.holds, wanted.archive)
        refuse_existing(new)
        done = _write(agent, old, new, source, wanted, still_the_same)
        if not keep:
            still_the_same()
            old.store.remove(old.name)
        agent.reply(Done(done))
    return None


def _require_replaceable(old: Place, *, keep: bool) -> None:
    """Raises `Denied` where the original could not be removed in the end."""
    if not keep:
        old.store.require_attributes(old.name)


def _refuse_what_would_fail(
    agent: Agent, old: Place, image: Image, wanted: Wanted, *, keep: bool
) -> None:
    agent.refuse_use(image)
    _require_replaceable(old, keep=keep)
    with ExitStack() as stack:
        new = old
        if wanted.path != old.path:
            new = stack.enter_context(agent.locked(wanted.path, "append"))
            refuse_existing(new)
        refuse_misleading_name(new, wanted.holds, wanted.archive)
        require_attributes(new, wanted)
        if not wanted.archive:
            require_room(new, wanted.size)


def _write(
    agent: Agent,
    old: Place,
    new: Place,
    source: Source,
    wanted: Wanted,
    still_the_same: Callable[[], None],
) -> Changed:
    with opened_target(agent, new, wanted) as opened:
        agent.session.stage("compressing" if wanted.archive else "uncompressing")
        outcome = copy_within(agent, old, source, new, opened, local_encoding(wanted))
        if wanted.archive not in (None, "zstd"):
            _require_contents(agent, opened.draft, outcome.digest)
        agent.session.stage("flushing")
        still_the_same()
        opened.draft.publish(overwrite=new.path == old.path, like=wanted.like)
        told = changed(new, opened.draft, warnings=remarks(new.path, wanted.holds, wanted.archive))
        return msgspec.structs.replace(told, size=source.size)


def _require_contents(agent: Agent, draft: Draft, digest: str) -> None:
    """Read an archive back, of which nothing has shown yet that it holds what was compressed."""
    agent.session.stage("verifying")
    held = check(open_source(draft, archives=True), lambda done, total: agent.session.check())
    if held != digest:
        raise Corrupt(
            "what was compressed does not decompress to the same; this host's memory or processor"
            " may be faulty"
        )
