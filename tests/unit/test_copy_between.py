"""A copy between two hosts believes neither of them, and waits for neither in vain."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final, cast

import pytest
from tests.waiting import PATIENCE

from virtstore.client.answers import Untrue
from virtstore.client.connection import Connection
from virtstore.client.copy_between import relay
from virtstore.copy_options import CopyOptions
from virtstore.digest import CHUNK, FINGERPRINT_SIZE
from virtstore.errors import ConnectionFailed, Corrupt, Denied, Error
from virtstore.protocol import (
    Abandon,
    AnyMessage,
    Begin,
    Closed,
    Data,
    End,
    Existing,
    Frame,
    ListEnd,
    Patch,
    Published,
    Ready,
    Receive,
    Received,
    Same,
    Send,
    Start,
    Zero,
)

DIGEST: Final = "ab" * 32
SIZE: Final = 3 * CHUNK
IMAGE: Final = CopyOptions()

#: What an honest source and an honest target say, each when it has heard what comes before.
SOURCE: Final[list[AnyMessage]] = [
    Begin("/s", SIZE),
    Data(0, CHUNK),
    Zero(CHUNK, CHUNK),
    Same(2 * CHUNK, CHUNK),
    End(DIGEST),
]
READY: Final = Ready("/t", compare=True)
BASED: Final = Ready("/t", compare=True, base="cd" * 32)
KEPT: Final = CopyOptions(archive=True, snapshot=True, keep_snapshot=True)
RECEIVED: Final = Received("/t", SIZE, CHUNK, DIGEST)


class Host:
    """A host that says some things, each once it has heard a message of some kind."""

    def __init__(self, name: str, after: dict[type[AnyMessage], list[Frame | Error]]) -> None:
        self.name = name
        self.owed = True
        self.heard: list[AnyMessage] = []
        self.ended = threading.Event()
        self._after = after
        self._says: queue.Queue[Frame | Error | None] = queue.Queue()

    def after(self, kind: type[AnyMessage], says: list[AnyMessage | Error]) -> None:
        """What it says once it has heard a message of that kind."""
        self._after[kind] = [each if isinstance(each, Error) else (each, b"") for each in says]

    def send(self, message: AnyMessage, payload: bytes = b"") -> None:
        if self.ended.is_set():
            raise ConnectionFailed("the agent went away", host=self.name)
        self.heard.append(message)
        for said in self._after.pop(type(message), []):
            self._says.put(said)

    def receive(self) -> Frame:
        said = self._says.get(timeout=PATIENCE)
        if said is None:
            raise ConnectionFailed("the agent went away", host=self.name)
        if isinstance(said, Error):
            raise said
        return said

    def end(self) -> None:
        self.ended.set()
        self._says.put(None)


def frames(messages: list[AnyMessage]) -> list[Frame | Error]:
    return [(message, b"") for message in messages]


def a_source(messages: list[AnyMessage] = SOURCE) -> Host:
    return Host("source", {Send: frames(messages[:1]), Start: frames(messages[1:])})


def a_target(
    *,
    ready: AnyMessage = READY,
    existing: list[Frame | Error] | None = None,
    received: AnyMessage | Error = RECEIVED,
) -> Host:
    last: Frame | Error = received if isinstance(received, Error) else (received, b"")
    return Host("target", {Receive: [(ready, b""), *(existing or [])], End: [last]})


def copy(
    source: Host,
    target: Host,
    *,
    path: str = "/t",
    options: CopyOptions = IMAGE,
    contents: bool = False,
    of_source: CopyOptions = IMAGE,
    told: Callable[[int, int], None] = lambda done, size: None,
) -> Received:
    return relay(
        cast(Connection, source),
        Send("/s", of_source),
        cast(Connection, target),
        lambda begin: Receive(path, "s", begin.size, options, contents),
        told,
    )


def test_what_both_ends_agree_on_is_believed() -> None:
    steps: list[int] = []
    existing: list[Frame | Error] = [
        (Existing(2), bytes(FINGERPRINT_SIZE)),
        (Existing(0, True), b""),
    ]
    source, target = a_source(), a_target(existing=existing)
    assert copy(source, target, told=lambda done, size: steps.append(done)) == RECEIVED
    assert steps == [CHUNK, 2 * CHUNK, 3 * CHUNK]
    assert [m for m in target.heard if not isinstance(m, Receive)] == SOURCE[1:]


def test_a_source_is_told_of_the_base_and_keeps_its_snapshot_once_the_archive_has_its_name() -> (
    None
):
    source = a_source([*SOURCE[:-1], End(DIGEST, CHUNK)])
    source.after(Published, [Closed(("it is full",))])
    told = copy(source, a_target(ready=BASED), of_source=KEPT)
    assert (told.read, told.warnings) == (CHUNK, ("it is full",))
    [start] = [message for message in source.heard if isinstance(message, Start)]
    assert start.base == BASED.base
    assert source.heard[-1] == Published()


def test_a_source_that_keeps_nothing_is_told_nothing_that_it_might_not_know() -> None:
    source = a_source()
    copy(source, a_target(ready=BASED))
    assert source.heard == [Send("/s"), Start(compare=True)]


@pytest.mark.parametrize("failed", [Corrupt("rotten"), ConnectionFailed("the agent went away")])
def test_a_copy_is_whole_where_its_snapshot_was_not_kept(failed: Error) -> None:
    source = a_source()
    source.after(Published, [failed])
    told = copy(source, a_target(ready=BASED), of_source=KEPT)
    assert failed.message in told.warnings[0]
    assert "its snapshot was not kept" in told.warnings[0]


def test_a_copy_that_the_target_refuses_in_the_end_leaves_no_snapshot() -> None:
    source = a_source()
    with pytest.raises(Denied):
        copy(source, a_target(received=Denied("no", host="target")), of_source=KEPT)
    assert Published() not in source.heard


def test_a_source_that_has_read_more_than_there_is_is_not_believed() -> None:
    target = a_target()
    target.after(Abandon, [Error("it was abandoned", host="target")])
    with pytest.raises(Untrue):
        copy(a_source([*SOURCE[:-1], End(DIGEST, SIZE + 1)]), target)


@pytest.mark.parametrize(
    "received",
    [
        Received("/t", SIZE, CHUNK, "cd" * 32),
        Received("/t", SIZE, CHUNK, ""),
        Received("/t", SIZE - 1, CHUNK, DIGEST),
        Received("/t", 1 << 70, CHUNK, DIGEST),
        Received("/other", SIZE, CHUNK, DIGEST),
        Received("", SIZE, CHUNK, DIGEST),
        Received("/t", SIZE, -1, DIGEST),
        Received("/t", SIZE, SIZE + 1, DIGEST),
        Received("/t", SIZE, 1 << 63, DIGEST),
    ],
)
def test_a_target_that_has_something_else_is_not_believed(received: Received) -> None:
    with pytest.raises(Corrupt, match="cannot be true") as caught:
        copy(a_source(), a_target(received=received))
    assert caught.value.host == "target"


def test_an_archive_may_be_a_little_larger_than_its_image() -> None:
    received = Received("/t", SIZE, SIZE + 500, DIGEST)
    options = CopyOptions(archive=True, format="gzip")
    assert copy(a_source(), a_target(received=received), options=options) == received


@pytest.mark.parametrize("early", [RECEIVED, Ready("/t", compare=False), ListEnd(), Begin("/s", 1)])
def test_a_target_that_is_done_before_its_source_is_not_believed(early: AnyMessage) -> None:
    # The source waits: whoever believed that it had all been sent would wait as well.
    source = a_source([SOURCE[0]])
    with pytest.raises((Untrue, ConnectionFailed)) as caught:
        copy(source, a_target(existing=[(early, b"")]))
    assert caught.value.host == "target"
    assert source.ended.is_set()


@pytest.mark.parametrize(
    ("ready", "path"),
    [
        (Ready("/other", compare=False), "/t"),
        (Ready("/t/x/y", compare=False), "/t"),
        (Ready("", compare=False), "/t"),
        (Ready("/dev/vg/other", compare=False), "/dev/mapper/vg-t"),
        (RECEIVED, "/t"),
        (ListEnd(), "/t"),
    ],
)
def test_a_target_somewhere_else_is_not_written_to(ready: AnyMessage, path: str) -> None:
    source = a_source()
    with pytest.raises((Untrue, ConnectionFailed)) as caught:
        copy(source, a_target(ready=ready), path=path)
    assert caught.value.host == "target"
    assert not any(isinstance(m, Start) for m in source.heard)


@pytest.mark.parametrize(
    ("answered", "path"), [("/t", "//t/."), ("/t/s", "/t"), ("/dev/vg/t", "/dev/mapper/vg-t")]
)
def test_a_target_s_path_may_be_told_in_its_plain_form(answered: str, path: str) -> None:
    received = Received(answered, SIZE, 0, DIGEST)
    target = a_target(ready=Ready(answered, compare=False), received=received)
    assert copy(a_source(), target, path=path).path == answered


@pytest.mark.parametrize(
    "existing",
    [
        (Existing(4), b""),
        (Existing(-1), b""),
        (Existing(1 << 63), b""),
        (Existing(2), bytes(2 * FINGERPRINT_SIZE)),
        (Existing(0), bytes(FINGERPRINT_SIZE + 1)),
    ],
)
def test_a_target_that_has_more_than_the_image_is_not_believed(existing: Frame) -> None:
    source = a_source([SOURCE[0]])
    with pytest.raises(Corrupt) as caught:
        copy(source, a_target(existing=[existing]))
    assert caught.value.host == "target"
    assert not any(isinstance(m, Existing) for m in source.heard)


@pytest.mark.parametrize(
    "says",
    [
        [Begin("/s", -1)],
        [Begin("/s", 1 << 63)],
        [End(DIGEST)],
        [SOURCE[0], Data(CHUNK, CHUNK)],
        [SOURCE[0], Data(0, -CHUNK)],
        [SOURCE[0], Data(0, 0)],
        [SOURCE[0], Zero(0, SIZE + 1)],
        [SOURCE[0], Zero(0, 1 << 80)],
        [SOURCE[0], Data(0, CHUNK), Data(0, CHUNK)],
        [SOURCE[0], Data(0, CHUNK), Patch(3 * CHUNK, CHUNK, (1,))],
        [SOURCE[0], End(DIGEST)],
        [SOURCE[0], Zero(0, SIZE), End("no digest")],
        [SOURCE[0], Zero(0, SIZE), End(DIGEST.upper())],
        [SOURCE[0], Zero(0, SIZE), Same(SIZE, CHUNK)],
        [SOURCE[0], Begin("/s", SIZE)],
        [SOURCE[0], RECEIVED],
    ],
    ids=str,
)
def test_a_source_that_tells_no_image_is_not_believed(says: list[AnyMessage]) -> None:
    target = Host("target", {Receive: [(READY, b"")], Abandon: [Corrupt("the source failed")]})
    with pytest.raises((Untrue, ConnectionFailed)) as caught:
        copy(a_source(says), target)
    target.end()  # as whoever has the session does
    assert caught.value.host == "source"
    assert not any(isinstance(m, End) for m in target.heard)


def test_a_refusal_of_the_target_is_looked_at_while_the_source_sends() -> None:
    class Endless(Host):
        """Its image has no end, and it does not look at what it is told."""

        at = 0

        def receive(self) -> Frame:
            if Start not in map(type, self.heard):
                return super().receive()
            if self.ended.wait(0.001):
                raise ConnectionFailed("the agent went away", host=self.name)
            self.at += CHUNK
            return Data(self.at - CHUNK, CHUNK), b""

    class Refusing(Host):
        """It is sent a lot before it refuses."""

        def send(self, message: AnyMessage, payload: bytes = b"") -> None:
            super().send(message, payload)
            if len(self.heard) == 50:
                self._says.put(Denied("not here", host=self.name))

    source = Endless("source", {Send: [(Begin("/s", 1 << 62), b"")]})
    target = Refusing("target", {Receive: [(READY, b"")]})
    with pytest.raises(Denied, match="not here"):
        copy(source, target)
    assert source.ended.is_set()
    assert target.ended.is_set(), "nor is it waited for, if it does not read"


@pytest.mark.parametrize("failure", [MemoryError(), AssertionError("odd"), OSError(5, "broken")])
def test_whatever_fails_on_the_way_back_ends_the_copy(failure: Exception) -> None:
    class Breaking(Host):
        def send(self, message: AnyMessage, payload: bytes = b"") -> None:
            if isinstance(message, Existing):
                raise failure
            super().send(message, payload)

    source = Breaking("source", {Send: [(Begin("/s", SIZE), b"")]})  # it waits for fingerprints
    target = a_target(existing=[(Existing(3, True), b"")])
    with pytest.raises(type(failure)):
        copy(source, target)


def test_the_target_is_told_that_the_source_failed() -> None:
    failing: list[Frame | Error] = [(Data(0, CHUNK), b""), Corrupt("damaged", host="source")]
    source = Host("source", {Send: frames(SOURCE[:1]), Start: failing})
    target = Host("target", {Receive: [(READY, b"")], Abandon: [Corrupt("the source failed")]})
    with pytest.raises(Corrupt) as caught:
        copy(source, target)
    assert target.heard[-1] == Abandon()
    # Both say so; that the target was told is not the reason.
    assert caught.value.host == "source"
