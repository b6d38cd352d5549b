"""What a copy reads: an image or archive of this host, locked against change, or a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple, TypeVar

from virtstore.agent import priority
from virtstore.agent.container import require_whole, source_of
from virtstore.agent.context import Agent
from virtstore.agent.operations.copy_kept import Keeping
from virtstore.agent.operations.origins import origin_of
from virtstore.agent.policy import Place
from virtstore.backends.base import Image
from virtstore.copy_options import CopyOptions, Quiesce
from virtstore.errors import Error, blamed_on
from virtstore.model import Access, Moment, Origin
from virtstore.protocol import Send
from virtstore.transfer.hashing import check
from virtstore.transfer.pieces import Source

#: Raises `InUse` where somebody uses an image.
Refusal = Callable[[Agent, Image], None]

Frozen = TypeVar("Frozen", bound=Image)


class Opened(NamedTuple):
    """The source of a copy. `told`: what there is to say of how it was opened; `origin`: what an
    archive of ours is to say of it; `keeping`: its snapshot, where that is to stay behind."""

    place: Place
    source: Source
    told: tuple[str, ...]
    origin: Origin | None
    keeping: Keeping | None = None


@contextmanager
def opened_source(agent: Agent, request: Send) -> Iterator[Opened]:
    """The source of a copy, locked against change for as long as it is read."""
    options = request.options
    if options.nice:
        priority.lower()
    need: Access = "append" if options.keep_snapshot else "read"
    with ExitStack() as stack:
        with blamed_on(request.path):
            place = stack.enter_context(agent.locked(request.path, need, shared=True))
            source, told, keeping = stack.enter_context(_opened(agent, place, request))
            if request.contents:
                check_archive(agent, source)
        origin = None
        if options.compression == "zstd":
            quiesced = bool(options.quiesce) and not told  # or that is what is told
            origin = origin_of(place, source, _moment(options), quiesced=quiesced)
        yield Opened(place, source, told, origin, keeping)


def _moment(options: CopyOptions) -> Moment:
    if options.live:
        return "live"
    if options.snapshot:
        return "snapshot"
    return "in-use" if options.allow_in_use else "unused"


@contextmanager
def _opened(
    agent: Agent, place: Place, request: Send
) -> Iterator[tuple[Source, tuple[str, ...], Keeping | None]]:
    options = request.options
    if options.live:
        from virtstore.agent.operations.live import live_source  # what few copies need

        with live_source(agent, place, options.quiesce) as opened:
            yield (*opened, None)
        return
    told: list[str] = []
    if options.keep_snapshot:
        with _frozen(agent, place, options.quiesce, told, place.store.moment) as moment:
            source = source_of(place, moment, raw=options.raw)
            yield source, tuple(told), Keeping(place.path, moment, source, request.kept_for)
        return
    with frozen_or_open(agent, place, options, told) as image:
        source = source_of(place, image, steady=not options.allow_in_use, raw=options.raw)
        yield source, tuple(told), None


def check_archive(agent: Agent, source: Source) -> None:
    """Raises `Corrupt` for a damaged archive, before an image is overwritten in place."""
    if source.compression:
        check(source, lambda done, total: agent.session.check(), quick=True)


def frozen_or_open(
    agent: Agent, place: Place, options: CopyOptions, told: list[str], refuse: Refusal | None = None
) -> Image:
    """The image, or a snapshot of it; what there is to say of that is added to `told`. `refuse`
    raises `InUse` where somebody uses the image, if not as a copy does."""
    if options.snapshot:
        return _frozen(agent, place, options.quiesce, told, place.store.frozen)
    image = place.store.open(place.name)
    try:
        image.announce()
        if not options.allow_in_use:
            (refuse or _refuse_use)(agent, image)
    except BaseException:
        image.close()
        raise
    return image


def _frozen(
    agent: Agent, place: Place, quiesce: Quiesce, told: list[str], freeze: Callable[[str], Frozen]
) -> Frozen:
    """What `freeze` makes of the image of that name, while its guest is quiesced if it is to be."""
    agent.session.stage("snapshot")
    if quiesce:
        from virtstore.agent.operations.quiescing import quiesced

        return quiesced(place, quiesce, told, freeze)
    return freeze(place.name)


def _refuse_use(agent: Agent, image: Image) -> None:
    uses = agent.uses(image)
    try:
        uses.refuse(writers_only=True)
    except Error as error:
        ways = "--live and --snapshot copy" if uses.domain else "--snapshot copies"
        error.message += (
            f"; {ways} it as it is at one moment, --allow-in-use copies it while it changes"
        )
        raise


def held(place: Place, source: Source) -> str | None:
    """The name of the foreign kind that a source's bytes are of; None for a raw disk's. Raises
    `Unsupported` where they are of no use alone, as an overlay's."""
    with blamed_on(place.path):
        foreign = source.holds
        require_whole(foreign, place.path)
    return foreign.name if foreign else None
