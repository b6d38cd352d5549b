"""Copies: the source's end, the target's end, and both at once within one host; and the half of
`diff` that each host does, hashing an image where it lies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from virtstore import formats, names
from virtstore.agent import priority
from virtstore.agent.container import (
    image_name,
    refuse_as_contents,
    refuse_misleading_name,
    remarks,
    require_images,
    require_raw,
)
from virtstore.agent.context import (
    Agent,
    require_room,
)
from virtstore.agent.operations.copy_base import Base, opened_base
from virtstore.agent.operations.copy_frames import (
    arriving,
    encoding_of,
    keep_once_published,
    send_frames,
)
from virtstore.agent.operations.copy_shared import require_sharing, share_blocks
from virtstore.agent.operations.copy_source import held, opened_source
from virtstore.agent.operations.copy_target import (
    Opened,
    Wanted,
    level_for,
    local_encoding,
    opened_target,
    require_attributes,
    surveyed,
)
from virtstore.agent.operations.copy_within import copy_within
from virtstore.agent.operations.cut_checks import what_is_in
from virtstore.agent.operations.lost import note_in_copy
from virtstore.agent.operations.refusals import (
    refuse_dependents,
    refuse_existing,
    refuse_overlays,
    require_sparse,
)
from virtstore.agent.policy import Place
from virtstore.backends.base import Stored, Version
from virtstore.backends.version import written
from virtstore.copy_options import CopyOptions
from virtstore.digest import CHUNK, DIGEST_SIZE
from virtstore.errors import (
    Corrupt,
    InUse,
    NoSpace,
    NotFound,
    Unsupported,
    UsageError,
    blamed_on,
)
from virtstore.location import canonical
from virtstore.model import Compression
from virtstore.names import KINDS
from virtstore.protocol import (
    Begin,
    Closed,
    CopyHere,
    Digests,
    End,
    Existing,
    HashImage,
    Ready,
    Receive,
    Received,
    Send,
)
from virtstore.transfer.hashing import survey
from virtstore.transfer.receive import Outcome, receive
from virtstore.units import format_apart


def send_image(agent: Agent, request: Send) -> End | Closed:
    encoding = encoding_of(request.options)
    with opened_source(agent, request) as (place, source, told, origin, keeping):
        holds = held(place, source)
        begin = Begin(place.path, source.size, holds, place.store.losses(place.name), told, origin)
        end = send_frames(agent, source, encoding, begin, keeping)
        return keep_once_published(agent, keeping, end) if keeping else end


def receive_image(agent: Agent, request: Receive) -> Received | Ready:
    if request.options.nice:
        priority.lower()
    session = agent.session
    path = _target_path(agent, request.path, request.name, request)
    wanted = _wanted(request, path, request.size, _known(request.holds), request.lost)
    with (
        _target_place(agent, wanted._replace(origin=request.origin)) as (place, wanted),
        opened_base(agent, request.options.base, path) as base,
    ):
        if request.dry_run:
            _require_room(place, wanted)
            return Ready(place.path, compare=False)

        def tell(zeros: int, fingerprints: bytes, last: bool) -> None:
            session.send(Existing(zeros, last), fingerprints)

        def fill(opened: Opened) -> Outcome:
            in_place = wanted.mode == "contents"
            compare = opened.existing is not None
            session.send(Ready(place.path, compare, in_place=in_place, base=opened.base))
            with surveyed(agent, opened, place, tell):
                arrived = arriving(agent, request.size)
                return receive(arrived, request.size, opened.target, session.fail)

        outcome, noted = _made(agent, place, wanted, base, fill)
        return _received(place, wanted, outcome, noted)


def copy_here(agent: Agent, request: CopyHere) -> Received:
    name = canonical(request.source).rpartition("/")[2]
    path = _target_path(agent, request.target, name, request)
    if agent.policy.address(path) == agent.policy.address(request.source):
        raise UsageError(
            "source and target are the same image; write another target, such as a name"
            " of its own beside it"
        )
    in_place = request.contents or _is_fixed(agent, request)
    reading = Send(request.source, request.options, contents=in_place, kept_for=request.kept_for)
    with opened_source(agent, reading) as (origin, source, told, made_of, keeping):
        holds = held(origin, source)
        lost = origin.store.losses(origin.name)
        wanted = _wanted(request, path, source.size, holds, lost)
        with (
            _target_place(agent, wanted._replace(origin=made_of)) as (place, wanted),
            opened_base(agent, request.options.base, path) as base,
        ):
            shared = require_sharing(place, source) if request.options.reflink else None
            if request.dry_run:
                _require_room(place, wanted)
                return Received(place.path, source.size, 0, "", told)

            def fill(opened: Opened) -> Outcome:
                agent.session.stage("copying")
                if shared:
                    return share_blocks(agent, origin, shared, opened)
                read = keeping.since(opened.base) if keeping else source
                encoding = local_encoding(wanted, request.options.bytes_per_second)
                return copy_within(agent, origin, read, place, opened, encoding)

            outcome, noted = _made(agent, place, wanted, base, fill)
            unkept = keeping.keep(outcome.digest) if keeping else ()
            return _received(place, wanted, outcome, (*told, *noted, *unkept))


def _made(
    agent: Agent,
    place: Place,
    wanted: Wanted,
    base: Base | None,
    fill: Callable[[Opened], Outcome],
) -> tuple[Outcome, tuple[str, ...]]:
    """Make the target, which `fill` writes, and publish it. Returns what came of it, and warnings
    for its user."""
    agent.session.stage("allocating")
    replaced = _seen(place, wanted)
    with opened_target(agent, place, wanted, base) as opened:
        outcome = fill(opened)
        if base:
            base.require_same(agent.session.check)
        noted = _publish(agent, place, wanted, opened, replaced)
    return outcome, (*noted, *(base.warnings if base else ()))


def _target_path(agent: Agent, path: str, name: str, request: CopyHere | Receive) -> str:
    """The path of the target of a copy of the image that is called `name`. Raises `Denied`."""
    agent.policy.require(path, "write" if request.contents else "append")
    return _below(agent, path, name, request.options.compression)


def _wanted(
    request: CopyHere | Receive, path: str, size: int, holds: str | None, lost: str
) -> Wanted:
    options = request.options
    mode = options.mode(contents=request.contents)
    return Wanted(
        path,
        mode,
        size,
        options.compression,
        options.level,
        holds=holds,
        lost=lost,
        sparse=options.sparse,
        reflink=options.reflink,
        force_defined=options.force_defined,
    )


def _is_fixed(agent: Agent, request: CopyHere) -> bool:
    """Whether a copy overwrites its target in place, although it need not be asked for so."""
    if not request.options.overwrite or agent.policy.is_store(request.target):
        return False
    with agent.policy.image(request.target, "append") as place:
        return bool(place.store.capabilities.fixed)


def _known(holds: str | None) -> str | None:
    if holds is not None and holds not in KINDS:
        raise UsageError(f"the source says that it holds {holds!r}, which is not known here")
    return holds


def _received(place: Place, wanted: Wanted, outcome: Outcome, noted: tuple[str, ...]) -> Received:
    told = (*remarks(place.path, wanted.holds, wanted.archive), *noted)
    return Received(
        place.path, wanted.size, outcome.written, outcome.digest, told, read=outcome.read
    )


def _seen(place: Place, wanted: Wanted) -> Version | None:
    """The version of the image that is to be replaced; None where there is none."""
    if wanted.mode == "overwrite":
        with suppress(NotFound), place.store.open(place.name, stored=True) as old:
            return old.version
    return None


def _publish(
    agent: Agent, place: Place, wanted: Wanted, opened: Opened, replaced: Version | None
) -> tuple[str, ...]:
    """Give the draft its final name. Returns warnings for its user."""
    draft, fixed = opened.draft, bool(place.store.capabilities.fixed)
    noted = () if fixed else note_in_copy(agent, opened, wanted.size, wanted.lost)
    agent.session.stage("flushing")
    # One that came while the copy was made is not ours to replace with access to append only.
    replaces = wanted.mode == "overwrite" and agent.policy.may(wanted.path, "write")
    draft.finish()  # what fails from now on leaves it as partial
    if replaces:  # somebody may have begun to use it, or put another in its place
        place.store.refresh()
        with suppress(NotFound), place.store.open(place.name, stored=True) as old:
            wanted.refuse_loss(agent, old)
            if seen := written(replaced, old.version) if replaced else "it was not there":
                raise InUse(
                    f"somebody wrote to it while what replaces it was being made ({seen}); it was"
                    " left as it is now; the same command replaces it",
                    path=place.path,
                )
    draft.publish(overwrite=replaces)
    if fixed:  # its beginning was written last, and it has no note that could come too late
        noted = note_in_copy(agent, opened, wanted.size, wanted.lost)
    return noted


def _below(agent: Agent, path: str, name: str, archive: Compression | None) -> str:
    """The path of the target: in a directory the source's name is kept, but for its suffix, which
    says what the target is (`x.img.zst` becomes `x.img`, `x.img` becomes `x.img.zst`)."""
    if not agent.policy.is_store(path):
        return path
    if not name:
        raise UsageError(
            "it is a directory, and standard input has no name; name the image as well:"
            f" {path.rstrip('/')}/NAME",
            path=path,
        )
    kept = image_name(name) or name
    return f"{path.rstrip('/')}/{kept}{names.SUFFIXES[archive] if archive else ''}"


@contextmanager
def _target_place(agent: Agent, wanted: Wanted) -> Iterator[tuple[Place, Wanted]]:
    """The target's place, locked, with everything refused that can be refused beforehand, and how
    it is to be written: what is never replaced is overwritten in place."""
    unzeroed = wanted.mode == "overwrite"
    with ExitStack() as stack:
        with blamed_on(wanted.path):  # and not on the source, which is open around this
            place = stack.enter_context(agent.locked(wanted.path, "append", unzeroed=unzeroed))
            if place.store.capabilities.fixed and wanted.mode == "overwrite":
                wanted = wanted._replace(mode="contents")
            _refuse_kind(place, wanted)
            _refuse_what_is_there(agent, place, wanted)
        if wanted.size < 1:
            raise Corrupt("the source says that its image has no bytes at all")
        agent.policy.check_size(wanted.size)
        yield place, wanted


def _refuse_kind(place: Place, wanted: Wanted) -> None:
    """Raises `Unsupported` and `UsageError` for what a place of that kind, or a name, cannot be."""
    if wanted.archive and not place.store.capabilities.archives:
        noun = place.store.capabilities.noun
        raise Unsupported(f"{noun} holds no archive; copy to a file, or to a bucket")
    if not wanted.archive:
        require_images(place, new=wanted.mode != "contents")
    if wanted.sparse:
        require_sparse(place)
    level_for(formats.by_name(wanted.archive or "zstd"), wanted.level)
    if wanted.mode != "contents":
        refuse_misleading_name(place, wanted.holds, wanted.archive)
    elif wanted.holds:
        refuse_as_contents(place, wanted.holds)


def _refuse_what_is_there(agent: Agent, place: Place, wanted: Wanted) -> None:
    """Raises where what has the target's name, if anything has, must not become this."""
    found = place.store.find(place.name)
    if wanted.mode == "new":
        refuse_existing(agent, place, _what_overwriting_does(place, found))
    elif found and not (wanted.mode == "overwrite" and _is_draft(found)):
        place.store.require_name(place.name)
        _refuse_replacing(agent, place, wanted, partial=found.state == "partial")
    elif wanted.mode == "contents":
        raise NotFound("there is no image to overwrite; 'virtstore copy' makes one")
    elif not agent.policy.may(wanted.path, "write"):
        refuse_existing(agent, place)  # nobody's: it is published as a new one


def _what_overwriting_does(place: Place, found: Stored | None) -> str:
    """What there is to say to who would have to overwrite what is there."""
    if not place.store.capabilities.fixed or found is None or found.state != "complete":
        return "; --overwrite replaces it once the copy is whole"
    with place.store.open(place.name) as image:
        return (
            f"; {place.store.capabilities.noun} is overwritten in place, with --overwrite, and what"
            f" is on it is lost: {what_is_in(image)}"
        )


def _is_draft(found: Stored) -> bool:
    return found.state == "partial" and found.was_image == "no"


def _require_room(place: Place, wanted: Wanted) -> None:
    require_attributes(place, wanted)
    reserved = not (
        wanted.archive or wanted.sparse or wanted.reflink or place.store.container_of(place.name)
    )
    reserved = reserved and place.store.capabilities.reserves
    if wanted.mode != "contents" and reserved:
        require_room(place, wanted.size)


def _refuse_replacing(agent: Agent, place: Place, wanted: Wanted, *, partial: bool) -> None:
    with agent.policy.image(wanted.path, "write"):
        pass
    found = place.store.find(place.name)
    if found and found.dependents and wanted.mode == "overwrite":
        refuse_dependents(found, "delete them first")
    if not partial:
        refuse_overlays(place)
    stored = wanted.mode != "contents"
    with place.store.open(place.name, partial=partial, stored=stored) as image:
        wanted.refuse_loss(agent, image)
        if stored:
            return
        if found is None or found.was_image != "yes":
            require_raw(place, image)  # what is left of an image was one, whatever it begins with
        if image.size < wanted.size:
            remedy = f"grow it to at least {wanted.size} bytes first"
            if place.store.capabilities.fixed:
                remedy = "its size is what it is: make the source smaller ('virtstore resize')"
            has, needed = format_apart(image.size, wanted.size)
            raise NoSpace(f"it has {has}, the source {needed}; {remedy}", path=place.path)


def hash_image(agent: Agent, request: HashImage) -> End:
    if not DIGEST_SIZE <= request.block <= CHUNK or CHUNK % request.block:
        raise UsageError(f"a block of {request.block} bytes does not divide a chunk")
    chunks = None if request.chunks is None else frozenset(request.chunks)
    reading = Send(request.path, CopyOptions(allow_in_use=True))
    with opened_source(agent, reading) as (place, source, _, _, _):
        with blamed_on(place.path):
            foreign = source.holds
        agent.session.send(Begin(place.path, source.size, foreign.name if foreign else None))
        hashed = 0
        for zeros, digests in survey(source, request.block, chunks):
            agent.session.send(Digests(zeros), digests)
            hashed += request.block * (zeros + len(digests) // DIGEST_SIZE)
            agent.session.reached("comparing", min(hashed, source.size), source.size)
        source.check()
        return End(source.digest or "")
