"""An agent that lies of an image that is open: nothing of it is taken for the image's bytes."""

from __future__ import annotations

import pytest

from virtstore.backends.nbd.export import Export as Client
from virtstore.client.connection import Connection
from virtstore.client.export import Served
from virtstore.client.opened import OpenedImage, Question
from virtstore.errors import ConnectionFailed, Corrupt, Error
from virtstore.protocol import MapRange, OpenImage, ReadRange

from .test_hostile_agents import agent, impatient

__all__ = ["impatient"]  # a fixture

_OPEN = 'hear(); say(Begin("/x", 1 << 20))\n'
_READ = ReadRange(4096, 512)
_MAP = MapRange(4096, 512)


def opened(session: Connection) -> OpenedImage:
    return OpenedImage(session, OpenImage("/x"), lambda message: None)


@pytest.mark.parametrize(
    "begin",
    ['Begin("/y", 1 << 20)', 'Begin("/x", 0)', 'Begin("/x", -5)', 'Begin("/x", 1 << 63)'],
)
def test_another_image_or_one_of_no_possible_size_is_not_served(begin: str) -> None:
    with agent("host", f"hear(); say({begin})\n") as session:
        with pytest.raises(Corrupt, match="cannot be true") as caught:
            opened(session)
        assert caught.value.host == "host"


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (_READ, "Data(4096, 512, True), bytes(511)"),
        (_READ, "Data(4096, 512, True), bytes(513)"),
        (_READ, "Data(4096, 513, True), bytes(513)"),
        (_READ, "Data(0, 512, True), bytes(512)"),
        (_READ, "Zero(4096, 1024)"),
        (_READ, "Zero(0, 512)"),
        (_READ, 'Unreadable(0, 512, "corrupt", "it is damaged")'),
        (_MAP, "Ranges(0, ((512, True),))"),
        (_MAP, "Ranges(4096, ())"),
        (_MAP, "Ranges(4096, ((512, True), (512, True)))"),
        (_MAP, "Ranges(4096, ((0, True),))"),
        (_MAP, "Ranges(4096, ((-512, True), (1024, False)))"),
    ],
)
def test_what_is_not_what_was_asked_for_is_believed_by_nobody(asked: Question, answer: str) -> None:
    with agent("host", f"{_OPEN}hear(); say({answer})\n") as session:
        image = opened(session)
        image.ask(asked)
        with pytest.raises(Corrupt, match="cannot be true"):
            image.answer()


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (_READ, "Data(4096, 512), bytes(20)"),  # compressed
        (_READ, "Ranges(4096, ((512, True),))"),
        (_READ, "Closed()"),
        (_MAP, "Zero(4096, 512)"),
        (None, "Zero(4096, 512)"),
        (None, "Closed()"),
    ],
)
def test_an_answer_to_nothing_that_was_asked_ends_it(asked: Question | None, answer: str) -> None:
    hear = "hear(); " if asked else ""
    with agent("host", f"{_OPEN}{hear}say({answer})\n") as session:
        image = opened(session)
        if asked:
            image.ask(asked)
        with pytest.raises(ConnectionFailed, match="where it makes no sense"):
            image.answer()


_ALIVE = "time.sleep(0.05); say(Alive())"


def test_an_idle_agent_is_waited_for(impatient: None) -> None:
    idle = f"for n in range(60): {_ALIVE}\nsay(Progressed(0, 0, 'reading'))\n"
    with agent("host", f"{_OPEN}{idle}hear(); say(Zero(4096, 512))\n") as session:
        image = OpenedImage(session, OpenImage("/x"), lambda message: image.ask(_READ))
        assert image.answer() == (_READ, None)


def test_an_agent_that_does_not_answer_is_not_waited_for(impatient: None) -> None:
    with agent("host", f"{_OPEN}hear()\nwhile True: {_ALIVE}\n") as session:
        image = opened(session)
        image.ask(_READ)
        with pytest.raises(ConnectionFailed, match="has done nothing for 1 s"):
            image.answer()


def test_clients_get_errors_and_no_bytes_of_an_agent_that_lies() -> None:
    complaints: list[Error] = []
    with (
        agent("host", f"{_OPEN}hear(); say(Zero(0, 4096))\n") as session,
        Served(
            session, OpenImage("/x"), lambda message: None, complain=complaints.append
        ) as served,
    ):
        with Client(served.socket) as client, pytest.raises(OSError, match="put"):
            client.read_at(0, 512)
        failure = served.wait()
    assert isinstance(failure, Corrupt)
    assert complaints == [failure]
