"""A thread that fails: whatever it does, and whatever it fails with, the operation ends and the
client is told why. Nobody waits for what that thread was going to do."""

from __future__ import annotations

import os
import random
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from virtstore.client.connection import Connection
from virtstore.client.copy_between import relay
from virtstore.client.diff import compare
from virtstore.copy_options import CopyOptions
from virtstore.errors import ConnectionFailed, Error
from virtstore.protocol import (
    AnyMessage,
    CopyHere,
    DoneVerifying,
    Listed,
    ListEnd,
    ListImages,
    Receive,
    Received,
    Send,
    VerifyImage,
)

MIB: Final = 1 << 20
SIZE: Final = 12 * MIB
#: Seconds after which something hangs, on however busy a machine.
_HANGS: Final = 120

_FAULTY: Final = str(Path(__file__).with_name("faulty_agent.py"))
Fault = tuple[str, str, str, str]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    made = tmp_path / "images"
    made.mkdir(mode=0o700)
    config = tmp_path / "config.toml"
    config.write_text(f'[[directory]]\npath = "{made}"\naccess = "write"\n')
    config.chmod(0o600)
    return made


@pytest.fixture
def opened(images: Path) -> Iterator[Callable[..., Connection]]:
    """Opens a session with an agent, in which something fails where a fault is named."""
    sessions: list[Connection] = []

    def open_(name: str, fault: Fault | None = None) -> Connection:
        program = [_FAULTY, *fault] if fault else ["-m", "virtstore.agent"]
        argv = [sys.executable, *program, "--config", str(images.parent / "config.toml")]
        sessions.append(Connection(argv, name))
        sessions[-1].heard = lambda told: None
        return sessions[-1]

    yield open_
    for session in sessions:
        session.close()


def noise(path: Path, seed: int, size: int = SIZE) -> bytes:
    contents = random.Random(seed).randbytes(size)
    path.write_bytes(contents)
    return contents


def failure_of(work: Callable[[], object]) -> BaseException | None:
    """What it fails with; that it ends at all is asserted."""
    found: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_HANGS)
    assert not thread.is_alive(), "it hangs"
    return found[0] if found else None


def copy(
    source: Connection,
    target: Connection,
    images: Path,
    *,
    contents: bool = False,
    archive: bool = False,
    bwlimit: str | None = None,
) -> Received:
    options = CopyOptions(archive=archive, bwlimit=bwlimit)
    send = Send(f"{images}/source", options)
    return relay(
        source,
        send,
        target,
        lambda begin: Receive(f"{images}/target", "source", begin.size, options, contents),
        lambda done, size: None,
    )


#: The end of a copy, a thread of its agent, and what fails in it, from which call on.
PLACES: Final = [
    ("target", "heartbeat", "virtstore.channel:Channel.send", "1"),
    ("target", "_read", "virtstore.agent.session:Session._put", "3"),
    ("target", "_watch", "select:poll", "1"),
    ("target", "survey", "virtstore.agent.operations.copy_target:fingerprints", "1"),
    ("target", "survey", "virtstore.transfer.fingerprints:Fingerprints.add", "1"),
    ("target", "survey", "virtstore.agent.session:Session.send", "1"),
    ("target", "transfer", "virtstore.transfer.hashing:fingerprint", "6"),
    ("target", "transfer", "virtstore.transfer.writers:chunk_digest", "3"),
    ("target", "transfer", "os:pread", "5"),
    ("target", "transfer", "os:pwrite", "5"),
    ("target", "MainThread", "virtstore.transfer.writers:ImageTarget.commit", "3"),
    ("target", "MainThread", "virtstore.transfer.page_cache:Writing.reached", "3"),
    ("source", "heartbeat", "virtstore.channel:Channel.send", "1"),
    ("source", "_read", "virtstore.agent.session:Session._learn", "1"),
    ("source", "_read", "virtstore.transfer.fingerprints:Fingerprints.add", "1"),
    ("source", "_watch", "select:poll", "1"),
    ("source", "transfer", "virtstore.transfer.send:chunk_digest", "5"),
    ("source", "transfer", "virtstore.transfer.send:compress_block", "5"),
    ("source", "transfer", "virtstore.transfer.fingerprints:Fingerprints.get", "5"),
    ("source", "transfer", "os:pread", "5"),
    ("source", "MainThread", "virtstore.transfer.page_cache:Reading.next", "5"),
    ("source", "MainThread", "virtstore.transfer.send:ImageDigest.add", "5"),
]

_TOLD: Final = {
    "EIO": "Input/output error",
    "ENOSPC": "No space left",
    "memory": "not enough free memory",
    "assertion": "a defect in virtstore: AssertionError: this cannot be",
    "exit": "a defect in virtstore: SystemExit: 3",
}


def test_each_part_of_a_copy_is_there_to_fail(
    images: Path, opened: Callable[..., Connection]
) -> None:
    noise(images / "source", 1)
    noise(images / "target", 2)
    copy(opened("source"), opened("target"), images, contents=True)
    assert (images / "target").read_bytes() == (images / "source").read_bytes()


@pytest.mark.parametrize("fault", ["EIO", "exit"])
@pytest.mark.parametrize(("end", "thread", "function", "call"), PLACES)
def test_a_thread_that_fails_ends_the_copy_with_its_reason(
    images: Path,
    opened: Callable[..., Connection],
    end: str,
    thread: str,
    function: str,
    call: str,
    fault: str,
) -> None:
    noise(images / "source", 1)
    noise(images / "target", 2)
    faulty = thread, function, fault, call
    source = opened("source", faulty if end == "source" else None)
    target = opened("target", faulty if end == "target" else None)
    # Slow enough for a heartbeat to come in between.
    rate = "10M" if thread == "heartbeat" else None
    failure = failure_of(lambda: copy(source, target, images, contents=True, bwlimit=rate))
    assert isinstance(failure, Error)
    assert _TOLD[fault] in failure.message, failure
    assert failure.host == end
    left = images / "target", images / "target.virtstore-rework"
    assert [path.exists() for path in left] in ([True, False], [False, True])


@pytest.mark.parametrize("fault", ["EIO", "memory", "exit"])
@pytest.mark.parametrize("archive", [False, True])
def test_a_copy_that_goes_on_ends_where_what_it_had_left_cannot_be_read(
    images: Path, opened: Callable[..., Connection], fault: str, archive: bool
) -> None:
    noise(images / "source", 1)
    if archive:
        copy(opened("source"), opened("target"), images, archive=True)
        (images / "target").rename(images / "target.virtstore-partial")
    else:
        noise(images / "target.virtstore-partial", 1)
    reader = "survey" if archive else "transfer"
    target = opened("target", (reader, "os:pread", fault, "1"))
    failure = failure_of(lambda: copy(opened("source"), target, images, archive=archive))
    assert isinstance(failure, Error)
    assert _TOLD[fault] in failure.message
    assert not (images / "target").exists()


@pytest.mark.parametrize(
    ("thread", "function", "request_"),
    [
        ("survey", "virtstore.agent.operations.copy_target:fingerprints", "contents"),
        ("transfer", "virtstore.transfer.hashing:fingerprint", "contents"),
        ("transfer", "os:pwrite", "contents"),
        ("transfer", "os:pread", "new"),
        ("MainThread", "virtstore.transfer.page_cache:Writing.reached", "new"),
        ("transfer", "os:pread", "verify"),
        ("_watch", "select:poll", "verify"),
        ("ThreadPool", "virtstore.agent.operations.inspect:describe_all", "list"),
    ],
)
@pytest.mark.parametrize("fault", ["EIO", "memory"])
def test_a_thread_of_an_operation_within_one_host_fails_with_its_reason(
    images: Path,
    opened: Callable[..., Connection],
    thread: str,
    function: str,
    request_: str,
    fault: str,
) -> None:
    noise(images / "source", 1)
    if request_ == "contents":
        noise(images / "target", 2)
    requests: dict[str, AnyMessage] = {
        "contents": CopyHere(f"{images}/source", f"{images}/target", contents=True),
        "new": CopyHere(f"{images}/source", f"{images}/target"),
        "verify": VerifyImage(f"{images}/source"),
        "list": ListImages(str(images), long=True),
    }
    agent = opened("a", (thread, function, fault, "1"))

    def ask() -> None:
        agent.send(requests[request_])
        while not isinstance(agent.receive()[0], (Received, DoneVerifying, ListEnd)):
            pass

    failure = failure_of(ask)
    assert isinstance(failure, Error)
    assert _TOLD[fault] in failure.message


def test_after_a_survey_that_failed_the_session_goes_on(
    images: Path, opened: Callable[..., Connection]
) -> None:
    noise(images / "source", 1)
    noise(images / "target", 2)
    agent = opened("a", ("survey", "virtstore.transfer.fingerprints:Fingerprints.add", "EIO", "1"))
    request = CopyHere(f"{images}/source", f"{images}/target", contents=True)
    for _ in range(2):
        agent.send(request)
        failure = failure_of(agent.receive)
        assert isinstance(failure, Error)
        assert "Input/output error" in failure.message
    agent.send(ListImages(str(images)))
    assert isinstance(agent.receive()[0], Listed)


@pytest.mark.parametrize("end", [0, 1])
@pytest.mark.parametrize("fault", ["EIO", "memory", "exit"])
def test_a_comparison_ends_for_both_where_one_host_fails(
    images: Path, opened: Callable[..., Connection], end: int, fault: str
) -> None:
    noise(images / "source", 1)
    faulty = "transfer", "virtstore.transfer.hashing:chunk_digest", fault, "3"
    one, other = (opened(str(n), faulty if n == end else None) for n in (0, 1))
    path = f"{images}/source"
    failure = failure_of(lambda: compare(one, path, other, path, lambda done, size: None))
    assert isinstance(failure, Error)
    assert (failure.host, _TOLD[fault] in failure.message) == (str(end), True)


def test_what_is_no_message_is_answered_before_the_session_ends(
    images: Path, opened: Callable[..., Connection]
) -> None:
    agent = opened("a")
    os.write(agent.channel._writing, b"\xff" * 64)
    failure = failure_of(agent.receive)
    assert isinstance(failure, ConnectionFailed)
    assert "not virtstore's protocol" in failure.message
