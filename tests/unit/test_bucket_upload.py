"""The parts of an upload while they wait: in memory or in files, and none waits for ever."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from base64 import b64encode
from pathlib import Path
from typing import cast

import pytest
from tests.waiting import PATIENCE

from virtstore.backends.bucket import parts, upload
from virtstore.backends.bucket.claims import Held
from virtstore.backends.bucket.connections import Body
from virtstore.backends.bucket.objects import Objects
from virtstore.backends.bucket.upload import Filling, Upload
from virtstore.backends.bucket.values import Part
from virtstore.errors import ConnectionFailed, Denied, NoSpace, Unsupported

MIB = 1 << 20
#: Bytes that may wait.
_ROOM = 3 * MIB


class _Server:
    """Takes parts once it is let. What is not to be sent is refused."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.failure: Exception | None = None
        self.bytes = self.most = 0
        self._lock = threading.Lock()

    def send(self, key: str, upload: str, number: int, body: Body, stop: threading.Event) -> Part:
        with self._lock:
            self.bytes += body.length
            self.most = max(self.most, self.bytes)
        self.go_on.wait()
        with self._lock:
            self.bytes -= body.length
        if self.failure:
            raise self.failure
        return Part(number, "", body.length)


class _Claim:
    def renew(self) -> None:
        raise Denied("the claim is lost")


def _upload(server: _Server) -> Upload:
    return Upload(cast(Objects, server), "key", "id", cast(Held, _Claim()), {})


def _filled(size: int) -> Filling:
    filling = Filling(size)
    filling.add(memoryview(bytes(size)))
    return filling


def _send_all(sending: Upload, count: int) -> None:
    for number in range(1, count + 1):
        sending.send(number, _filled(MIB))


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "_IN_MEMORY", _ROOM)


@pytest.mark.parametrize("in_memory", [parts.IN_MEMORY, 0])
def test_a_part_is_what_was_put_into_it_however_it_is_kept(
    in_memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "IN_MEMORY", in_memory)
    filling = Filling(MIB)
    data = os.urandom(MIB - 5)
    for start in range(0, len(data), 70_001):
        filling.add(memoryview(data)[start : start + 70_001])
    body = filling.body()
    assert body.sha256 == hashlib.sha256(data).hexdigest()
    assert body.md5 == b64encode(hashlib.md5(data).digest()).decode()
    for _ in range(2):  # it may have to be sent again
        assert b"".join(map(bytes, body.chunks())) == data
    filling.close()


def test_a_part_for_which_there_is_no_room_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(NoSpace, match="/var/tmp"):
        Filling(parts.LONGEST)


def test_a_part_for_which_there_is_no_directory_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "_LONG_PARTS", str(tmp_path / "none"))
    with pytest.raises(NoSpace, match=r"room in .*/none \(No such file or directory\)"):
        Filling(parts.LONGEST)


def test_who_adds_parts_waits_while_there_is_no_room(room: None) -> None:
    server = _Server()
    sending = _upload(server)

    adding = threading.Thread(target=_send_all, args=(sending, 8))
    adding.start()
    adding.join(0.5)
    assert adding.is_alive()
    assert server.most <= _ROOM
    server.go_on.set()
    adding.join()
    assert [part.number for part in sending.finish()] == list(range(1, 9))
    sending.stop()
    assert server.most <= _ROOM


def test_what_a_part_fails_with_wakes_who_waits_for_room(room: None) -> None:
    server = _Server()
    server.failure = ConnectionFailed("cut")
    sending = _upload(server)
    threading.Timer(0.1, server.go_on.set).start()
    with pytest.raises(ConnectionFailed, match="cut"):
        _send_all(sending, 20)
    with pytest.raises(ConnectionFailed, match="cut"):
        sending.finish()
    sending.stop()


def test_a_part_that_is_being_sent_ends_where_another_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a slow way the rest of it would take minutes, for nothing."""
    begun, seen = threading.Event(), []

    class Slow(_Server):
        def send(
            self, key: str, upload: str, number: int, body: Body, stop: threading.Event
        ) -> Part:
            if number == 1:
                begun.wait(PATIENCE)
                raise Denied("no")
            for chunk in body.chunks():
                seen.append(len(chunk))
                begun.set()
                stop.wait(PATIENCE)
            return Part(number, "", body.length)

    sending = _upload(Slow())
    for number in (1, 2):
        sending.send(number, _filled(5 * MIB))
    with pytest.raises(Denied, match="no"):
        sending.finish()
    sending.stop()
    assert seen == [4 * MIB]


def test_a_claim_that_is_lost_stops_the_upload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "RENEWED", 0.01)
    sending = _upload(_Server())
    sending._renewing.join()
    with pytest.raises(Denied, match="lost"):
        sending.send(1, _filled(MIB))
    sending.stop()


def test_an_archive_of_more_parts_than_there_can_be_is_refused() -> None:
    upload.refuse_number(parts.MOST)
    with pytest.raises(Unsupported, match="directory"):
        upload.refuse_number(parts.MOST + 1)
