"""The contract's tests are whole: each member of it is used by one, and a store that breaks a
promise is found out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import msgspec
import pytest

from virtstore.backends import base
from virtstore.backends.base import (
    Changed,
    Image,
    Look,
    PageCache,
    Store,
    Stored,
    Version,
    nothing,
)
from virtstore.errors import NotFound
from virtstore.network_name import NetworkName

from . import every_store
from .memory import (
    Contents,
    Memory,
    MemoryArchive,
    MemoryDraft,
    MemoryImage,
    MemoryMoment,
    ReworkedMemory,
)
from .stores import memory
from .test_backends_guarded import END
from .watched import Watched, every_test, members_of, protocols

PROTOCOLS = (
    base.PageCache,
    base.Handle,
    base.Readable,
    base.Image,
    base.Moment,
    base.Draft,
    base.ImageDraft,
    base.ArchiveSink,
    base.ResumableSink,
    base.Store,
)
TESTS = every_test(every_store)


def test_no_protocol_of_the_contract_is_left_out() -> None:
    assert protocols(base) == set(PROTOCOLS)


def test_each_member_and_each_option_of_the_contract_is_used_by_a_test_of_it() -> None:
    seen: set[str] = set()
    for test in TESTS.values():
        with memory() as subject:
            again = subject.again
            watched = msgspec.structs.replace(
                subject,
                store=Watched(subject.store, Store, seen),
                again=lambda again=again: Watched(again(), Store, seen),
            )
            test(store=watched.store, subject=watched)
    assert members_of(*PROTOCOLS) - seen == set()


def found_out() -> bool:
    """Whether a test fails for a store in memory as it is now."""
    for test in TESTS.values():
        with memory() as subject:
            try:
                test(store=subject.store, subject=subject)
            except TypeError:
                raise  # the breach is not one that could be called
            except (Exception, pytest.fail.Exception):
                return True
    return False


def test_a_store_that_keeps_its_promises_is_not_found_out() -> None:
    assert not found_out()


def nothing_done(*_: object, **__: object) -> None:
    pass


def hidden_at_once(
    store: Memory, name: str, before: Callable[[Image], None] = nothing_done
) -> ReworkedMemory:
    draft = REWORK(store, name, before)
    if name in store.images:
        before(draft)
        store.reworked[name] = store.images.pop(name)
    return draft


def hidden_first(draft: ReworkedMemory, offset: int, data: bytes) -> None:
    if draft._has_its_name():
        draft._store.reworked[draft._name] = draft._store.images.pop(draft._name)
        draft._before(draft)
    MemoryImage.write_at(draft, offset, data)


def asked_each_time(draft: ReworkedMemory, offset: int, data: bytes) -> None:
    draft._before(draft)
    WRITE_REWORKED(draft, offset, data)


def grown_without_zeroing(store: Memory, name: str, size: int, **_: object) -> None:
    store._extend(store.open(name).contents, size, b"\xee")


def grown_and_left_so(
    store: Memory, name: str, size: int, *, between: Look = nothing, **options: bool
) -> None:
    GROW(store, name, size, between=between, **(options | {"in_use": True}))


def cut_back_in_use(
    store: Memory, name: str, size: int, *, between: Look = nothing, **options: bool
) -> None:
    try:
        GROW(store, name, size, between=between, **options)
    except BaseException:
        store.not_zeroed.clear()
        raise


@contextmanager
def undone_always(store: Memory, name: str, end: int, contents: str) -> Iterator[str]:
    old = bytes(store.images[name])
    try:
        yield name
    finally:
        store.images[name][:] = old


@contextmanager
def lent_as_a_copy(image: MemoryImage) -> Iterator[int]:
    with LEND(MemoryImage(Contents(image.contents))) as fd:
        yield fd


class Losing(PageCache):
    """Loses what is let go of before it is on the disk."""

    def __init__(self, image: MemoryImage) -> None:
        self.image = image

    def let_go(self, offset: int, length: int) -> None:
        self.image.contents[offset : offset + 5] = bytes(5)


class WritingZeros(Losing):
    """Writes out zeros."""

    def let_go(self, offset: int, length: int) -> None:
        return

    def write_out(self, offset: int, length: int, *, wait: bool) -> None:
        self.image.zero(0, 5)


class Endless(PageCache):
    """Knows of what lies behind an image's end."""

    def __init__(self, image: MemoryImage) -> None:
        return

    def not_cached(self, offset: int, length: int) -> list[tuple[int, int]]:
        return [(offset, length)]


def published_over(draft: MemoryDraft, *, overwrite: bool, like: str | None = None) -> None:
    PUBLISH(draft, overwrite=True, like=like)


def published_and_whole(draft: MemoryDraft, *, overwrite: bool, like: str | None = None) -> None:
    PUBLISH(draft, overwrite=overwrite, like=like)
    draft.whole = True


def trace(store: Memory, *_: object, **__: object) -> None:
    store.images["trace"] = Contents()


def discarded_all(store: Memory, name: str, *, was_image: bool = False) -> None:
    DISCARD(store, name, was_image=True)


def removed_partial(store: Memory, name: str, *, with_snapshots: bool = False) -> None:
    if store.images.pop(name, None) is None and store.partials.pop(name, None) is None:
        raise NotFound("no such image")


def found_first(store: Memory, name: str) -> Stored | None:
    return next((found for found in store.scan() if found.name == name), None)


def renamed_over(store: Memory, name: str, new: str) -> None:
    store.images[new] = store.images.pop(name)


def renamed_partial(store: Memory, name: str, new: str) -> None:
    held = store.images if name in store.images else store.partials
    RENAME(store, name, new) if held is store.images else held.update({new: held.pop(name)})


def renamed_without_its_note(store: Memory, name: str, new: str) -> None:
    RENAME(store, name, new)
    store.images[new].note = ""


def kept_alone(moment: MemoryMoment, kept: str, beginning: str) -> None:
    KEEP(moment, kept, "")


def kept_beside(moment: MemoryMoment, kept: str, beginning: str) -> None:
    KEEP(moment, kept, kept)


def kept_at_once(store: Memory, name: str) -> MemoryMoment:
    moment = MOMENT(store, name)
    moment.keep("kept-a-0", "kept-a-0")
    return moment


def moment_that_changes(store: Memory, name: str) -> MemoryMoment:
    moment = MOMENT(store, name)
    moment.contents = store.images[name]
    return moment


def moment_with_any(store: Memory, name: str) -> MemoryMoment:
    return MemoryMoment(store.open(name).contents, store.kept.setdefault("", {}))


def changed_a_little(moment: MemoryMoment, kept: str) -> Changed | None:
    changed = SINCE(moment, kept)
    return changed and Changed(changed.size, changed.ranges[:1])


def changed_all(moment: MemoryMoment, kept: str) -> Changed | None:
    changed = SINCE(moment, kept)
    return changed and Changed(changed.size, ((0, moment.size),))


def changed_size(moment: MemoryMoment, kept: str) -> Changed | None:
    changed = SINCE(moment, kept)
    return changed and Changed(moment.size, changed.ranges)


def changed_backwards(moment: MemoryMoment, kept: str) -> Changed | None:
    changed = SINCE(moment, kept)
    return changed and Changed(changed.size, changed.ranges[::-1])


def removed_with_moments(store: Memory, name: str, *, with_snapshots: bool = False) -> None:
    REMOVE(store, name, with_snapshots=True)


def removed_without_moments(store: Memory, name: str, *, with_snapshots: bool = False) -> None:
    kept = store.kept.get(name, {})
    REMOVE(store, name, with_snapshots=with_snapshots)
    store.kept[name] = kept


def renamed_without_moments(store: Memory, name: str, new: str) -> None:
    RENAME(store, name, new)
    store.kept.pop(new, None)


MOMENT, REMOVE = Memory.moment, Memory.remove
KEEP, SINCE = MemoryMoment.keep, MemoryMoment.changed_since
OPEN, DRAFT, REWORK = Memory.open, Memory.draft, Memory.rework
GROW, DISCARD, RENAME = Memory.grow, Memory.discard, Memory.rename
LEND, PUBLISH, WRITE_REWORKED = MemoryImage.lend, MemoryDraft.publish, ReworkedMemory.write_at

#: What is wrong: whose member it is, which one, and what it does instead.
BREACHES: dict[str, tuple[type, str, object]] = {
    "rework: hidden before the first byte": (Memory, "rework", hidden_at_once),
    "rework: before is never called": (
        *(Memory, "rework"),
        lambda store, name, before=None: REWORK(store, name),
    ),
    "rework: before is called when it is hidden": (ReworkedMemory, "write_at", hidden_first),
    "rework: before is called each time": (ReworkedMemory, "write_at", asked_each_time),
    "guarded: nothing is undone": (
        *(Memory, "guarded"),
        lambda store, name, end, contents: nullcontext(store.open(name) and name),
    ),
    "guarded: what is whole is undone": (Memory, "guarded", undone_always),
    "mend: nothing is mended": (Memory, "mend", nothing_done),
    "mend: what is partial is removed": (
        *(Memory, "mend"),
        lambda store, name: store.reworked.pop(name, None),
    ),
    "interrupted: nothing is told": (Memory, "interrupted", lambda store: []),
    "interrupted: partial images are told": (
        *(Memory, "interrupted"),
        lambda store: [*store.before_change, *store.partials],
    ),
    "remnants: what is undone has some": (
        *(Memory, "remnants"),
        lambda store, name, contents: END,
    ),
    "unzeroed: never told": (Memory, "unzeroed", lambda store, name: None),
    "unzeroed: told of what is zeroed": (Memory, "unzeroed", lambda store, name: 0),
    "grow: old data is left": (Memory, "grow", grown_without_zeroing),
    "grow: a failure leaves the new size": (Memory, "grow", grown_and_left_so),
    "grow: what is not zeroed is forgotten": (Memory, "grow", cut_back_in_use),
    "grow: sparse is not heeded": (
        *(Memory, "grow"),
        lambda store, name, size, sparse=False, **options: GROW(store, name, size, **options),
    ),
    "reserve: the contents are lost": (
        *(Memory, "reserve"),
        lambda store, name: store.images[name].__setitem__(0, 0),
    ),
    "lend: a copy": (MemoryImage, "lend", lent_as_a_copy),
    "let_go: what was not on the disk is lost": (MemoryImage, "cache", property(Losing)),
    "write_out: zeros are": (MemoryImage, "cache", property(WritingZeros)),
    "not_cached: behind the end": (MemoryImage, "cache", property(Endless)),
    "snapshot_name: one that is taken": (
        *(Memory, "snapshot_name"),
        lambda store, name, asked: asked or "x-s1.img",
    ),
    "announce: it is written to": (
        *(MemoryImage, "announce"),
        lambda image: image.write_at(0, b"read"),
    ),
    "watchers: oneself": (MemoryImage, "watchers", property(lambda image: ("oneself",))),
    "network: one name for all": (MemoryImage, "network", NetworkName("rbd", "x")),
    "self_checking: what anybody writes is": (MemoryImage, "self_checking", True),
    "announce: the first is all that is kept": (
        *(Memory, "announce"),
        lambda store, names: [store.images.pop(name) for name in names[1:]],
    ),
    "check: raises": (MemoryImage, "check", lambda image: image.read_whole(image.size, 1)),
    "version: of all images the same": (
        *(MemoryImage, "version"),
        property(lambda image: Version((0, 0))),
    ),
    "version: tells and stays the same": (
        *(MemoryImage, "version"),
        property(lambda image: Version(image.identity, changed=1)),
    ),
    "append_from: from the beginning": (
        *(MemoryArchive, "append_from"),
        lambda draft, other, offset, length: draft.append(other.read_whole(0, length)) or 0,
    ),
    "append: over what there is": (
        *(MemoryArchive, "append"),
        lambda draft, data: draft.write_at(0, data),
    ),
    "abandon: it is left": (MemoryArchive, "abandon", nothing_done),
    "cut: it is not": (MemoryArchive, "cut", nothing_done),
    "finish: it is not whole": (MemoryDraft, "finish", nothing_done),
    "publish: it is whole still": (MemoryDraft, "publish", published_and_whole),
    "publish: unasked, over another": (MemoryDraft, "publish", published_over),
    "require_name: anything is a name": (Memory, "require_name", nothing_done),
    "require_attributes: a trace is left": (Memory, "require_attributes", trace),
    "require_new_names: a trace is left": (Memory, "require_new_names", trace),
    "draft: a thin pool is not heeded": (
        *(Memory, "draft"),
        lambda store, name, size, thin=None, **how: DRAFT(store, name, size, **how),
    ),
    "require_sharing: anything can": (Memory, "require_sharing", nothing_done),
    "share: nothing is": (MemoryDraft, "share", nothing_done),
    "draft: sparse is not heeded": (
        *(Memory, "draft"),
        lambda store, name, size, thin=None, **how: DRAFT(store, name, size, thin),
    ),
    "identity: of each agent its own": (
        *(Memory, "identity"),
        lambda store, name: f"{id(store)}/{name}",
    ),
    "discard: what was an image, unasked": (Memory, "discard", discarded_all),
    "remove: what is partial": (Memory, "remove", removed_partial),
    "rename: over another": (Memory, "rename", renamed_over),
    "rename: what is partial": (Memory, "rename", renamed_partial),
    "rename: its note is lost": (Memory, "rename", renamed_without_its_note),
    "frozen: it changes": (Memory, "frozen", lambda store, name: store.open(name)),
    "moment: it changes": (Memory, "moment", moment_that_changes),
    "moment: it is kept unasked": (Memory, "moment", kept_at_once),
    "moment: what was kept of another counts": (Memory, "moment", moment_with_any),
    "keep: it is not": (MemoryMoment, "keep", nothing_done),
    "keep: all others are removed": (MemoryMoment, "keep", kept_alone),
    "keep: no other is removed": (MemoryMoment, "keep", kept_beside),
    "changed_since: it is never known": (MemoryMoment, "changed_since", nothing_done),
    "changed_since: not all": (MemoryMoment, "changed_since", changed_a_little),
    "changed_since: always all": (MemoryMoment, "changed_since", changed_all),
    "changed_since: with the size that it has": (MemoryMoment, "changed_since", changed_size),
    "changed_since: in no order": (MemoryMoment, "changed_since", changed_backwards),
    "remove: moments that were kept, unasked": (Memory, "remove", removed_with_moments),
    "remove: moments that were kept stay": (Memory, "remove", removed_without_moments),
    "rename: moments that were kept are lost": (Memory, "rename", renamed_without_moments),
    "open: writable, unasked": (
        *(Memory, "open"),
        lambda store, name, writable=False, partial=False: OPEN(
            store, name, writable=True, partial=partial
        ),
    ),
    "find: a draft before what was an image": (Memory, "find", found_first),
    "named: what is partial is left out": (
        *(Memory, "named"),
        lambda store, name: [s for s in store.scan() if (s.name, s.state) == (name, "complete")],
    ),
    "named: all are told": (Memory, "named", lambda store, name: list(store.scan())),
    "is_interrupted: never": (Memory, "is_interrupted", lambda store, name: False),
    "is_interrupted: whatever it is": (
        *(Memory, "is_interrupted"),
        lambda store, name: bool(store.interrupted()),
    ),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_a_store_that_breaks_a_promise_is_found_out(
    monkeypatch: pytest.MonkeyPatch, breach: str
) -> None:
    kind, member, instead = BREACHES[breach]
    monkeypatch.setattr(kind, member, instead)
    assert found_out()
