"""Channels: whole frames in order, and a peer that is silent or gone is noticed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
from tests.waiting import until

from virtstore import channel as channel_module
from virtstore.channel import Channel
from virtstore.errors import ConnectionFailed
from virtstore.frames import encode
from virtstore.protocol import Alive, Data, GetInfo, ListEnd


def _never(error: BaseException) -> None:
    raise AssertionError(f"the heartbeat failed: {error}")


def heartbeats() -> set[threading.Thread]:
    """Of all channels of this process: other tests may have theirs."""
    return {thread for thread in threading.enumerate() if thread.name == "heartbeat"}


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    """Two channels that talk to each other."""
    here, there = os.pipe(), os.pipe()
    one, other = Channel(there[0], here[1]), Channel(here[0], there[1])
    yield one, other
    one.close()
    other.close()
    for fd in (here[0], there[0]):
        with suppress(OSError):
            os.close(fd)


def test_what_is_sent_arrives_with_its_payload(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    one.send(Data(0, 3), b"abc")
    one.send(GetInfo("/x"))
    assert other.receive() == (Data(0, 3), b"abc")
    assert other.receive() == (GetInfo("/x"), b"")
    assert other.received == 3


def test_a_payload_larger_than_the_pipe_arrives_whole(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    payload = os.urandom(1 << 20)
    frames = 4

    def send() -> None:
        for _ in range(frames):
            one.send(Data(0, 1), payload)

    sender = threading.Thread(target=send)
    sender.start()
    received = [other.receive() for _ in range(frames)]
    sender.join()
    assert received == [(Data(0, 1), payload)] * frames


def test_frames_of_several_threads_are_never_mixed(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    letters = [bytes([65 + n]) * 70_000 for n in range(4)]

    def send(letter: bytes) -> None:
        for _ in range(10):
            one.send(Data(0, len(letter)), letter)

    threads = [threading.Thread(target=send, args=(letter,)) for letter in letters]
    for thread in threads:
        thread.start()
    payloads = [frame[1] for frame in (other.receive() for _ in range(40)) if frame]
    for thread in threads:
        thread.join()
    assert sorted(payloads) == sorted(letters * 10)


def test_a_peer_that_hangs_up_between_frames_has_ended_the_session(
    ends: tuple[Channel, Channel],
) -> None:
    one, other = ends
    one.close()
    one.close()  # once more does no harm
    assert other.receive() is None


def test_a_peer_that_hangs_up_within_a_frame_has_broken_the_connection(
    ends: tuple[Channel, Channel],
) -> None:
    one, other = ends
    os.write(one._writing, encode(GetInfo("/x"))[:-1])
    one.close()
    with pytest.raises(ConnectionFailed):
        other.receive()


def test_sending_to_a_peer_that_has_gone_is_told(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    os.close(other._reading)
    with pytest.raises(ConnectionFailed, match="Broken pipe"):
        one.send(ListEnd())


def test_a_peer_that_says_nothing_for_too_long_is_gone(
    ends: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_module, "SILENCE", 0.05)
    with pytest.raises(ConnectionFailed, match="the peer is gone"):
        ends[0].receive()


def test_a_peer_that_stops_within_a_frame_is_gone_too(
    ends: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_module, "SILENCE", 0.05)
    os.write(ends[1]._writing, encode(GetInfo("/x"))[:5])
    with pytest.raises(ConnectionFailed, match="the peer is gone"):
        ends[0].receive()


def test_a_heartbeat_keeps_a_session_that_has_nothing_to_say(
    ends: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_module, "SILENCE", 0.5)
    monkeypatch.setattr(channel_module, "HEARTBEAT", 0.05)
    one, other = ends
    one.keep_alive(_never)
    threading.Timer(1.2, lambda: one.send(ListEnd())).start()
    assert other.receive() == (ListEnd(), b"")  # 1.2 s of silence but for the heartbeat
    assert other.received == 0


def test_a_closed_channel_has_no_heartbeat(
    ends: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_module, "HEARTBEAT", 0.01)
    before, (one, other) = heartbeats(), ends
    one.keep_alive(_never)
    assert len(heartbeats() - before) == 1
    assert other.read(len(encode(Alive()))) == encode(Alive())
    one.close()
    until(lambda: not heartbeats() - before, "the heartbeat to end")
