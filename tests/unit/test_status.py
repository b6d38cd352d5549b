"""The file in which an agent says what it does: whole or nothing, and gone with its request."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import Mock

import pytest

from virtstore.agent import locks, serve, status
from virtstore.agent.session import Session
from virtstore.agent.status import Status, Written
from virtstore.cli.examining import _jobs_text
from virtstore.model import Job
from virtstore.protocol import CopyHere, GetInfo, GrowImage, Send


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(locks, "_directories", lambda: [str(tmp_path)])
    return tmp_path / "jobs"


@pytest.fixture
def session() -> Iterator[Session]:
    reading, writing = os.pipe()
    yield Session(reading, writing)
    os.close(reading)
    os.close(writing)


def read(directory: Path) -> list[Written]:
    """What another process would read."""
    found = [status._read(str(path)) for path in sorted(directory.iterdir())]
    return [each for each in found if each]


def test_a_request_that_takes_a_moment_is_not_written_down(
    directory: Path, session: Session
) -> None:
    told = Status(session)
    with told.of(GetInfo("/x")):
        pass
    told.write()
    assert not directory.exists()


def test_what_is_worked_on_is_written_down_until_it_ends(directory: Path, session: Session) -> None:
    told = Status(session)
    with told.of(CopyHere("/a", "/b")):
        told.write()
        session.reached("copying", 5, 10)
        told.write()
        (written,) = read(directory)
        job = written.job
        assert (job.verb, job.path, written.others) == ("copy", "/b", ("/a",))
        assert (job.stage, job.done, job.total) == ("copying", 5, 10)
        assert job.began.microsecond == 0
        assert oct(next(directory.iterdir()).stat().st_mode & 0o777) == "0o600"
    assert list(directory.iterdir()) == []
    with told.of(Send("/c")):
        told.write()
        (written,) = read(directory)
        assert (written.job.verb, written.job.path) == ("copy", "/c")
    told.write()
    assert list(directory.iterdir()) == []


def test_a_failure_ends_it_as_well(directory: Path, session: Session) -> None:
    told = Status(session)

    def fails() -> None:
        with told.of(GrowImage("/x", "1G")):
            told.write()
            raise OSError("no")

    with pytest.raises(OSError, match="no"):
        fails()
    assert list(directory.iterdir()) == []


def test_a_job_has_ended_when_its_answer_is_sent(
    directory: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has the answer may ask at once what is running."""
    told = Status(session)
    seen: list[int] = []

    def look(*_: object) -> str:
        told.write()
        seen.append(len(list(directory.iterdir())))
        return "answer"

    monkeypatch.setattr(serve, "handler_of", lambda kind: look)
    agent = Mock(log="none")
    agent.session.send = look
    serve._answer(agent, GetInfo("/x"), told)
    assert seen == [1, 0]


def test_what_nobody_holds_is_removed(directory: Path, session: Session) -> None:
    told = Status(session)
    with told.of(GrowImage("/x", "1G")):
        told.write()
        (file,) = directory.iterdir()
        (directory / "1-dead").write_bytes(file.read_bytes())
        assert len(read(directory)) == 1
        assert list(directory.iterdir()) == [file]
        assert list(status.running()) == []  # but for this process's own


def test_what_is_not_whole_is_read_as_nothing(directory: Path, session: Session) -> None:
    told = Status(session)
    with told.of(GrowImage("/x", "1G")):
        told.write()
        (file,) = directory.iterdir()
        whole = file.read_bytes()
        for wrong in (b"", whole[:7], whole[:-1], whole[:-1] + b"?", b"\xff" * 40):
            with file.open("r+b") as stream:
                stream.truncate(0)
                stream.write(wrong)
            assert read(directory) == []
        told.write()
        assert len(read(directory)) == 1


def test_who_cannot_write_does_not_try_again(directory: Path, session: Session) -> None:
    directory.write_text("a file")
    told = Status(session)
    with told.of(GrowImage("/x", "1G")):
        told.write()
        directory.unlink()
        told.write()
    assert not directory.exists()


def test_a_name_is_no_command_to_a_terminal() -> None:
    job = Job(
        "a", 7, "x\x1b]0;y", "::1", "copy", "/i/\x1b[2J\u202e.img", datetime.now(UTC), "z", 1, 4
    )
    text = _jobs_text([job])
    assert text
    assert text.isprintable() or text.replace("\n", "").isprintable()
    assert "25 %" in text
    assert "a:/i/?[2J?.img" in text
    assert _jobs_text([]) is None


def test_a_file_that_a_reader_removed_before_it_was_held_is_made_anew(
    directory: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = locks.hold_file

    def hold_later(fd: int) -> None:
        assert not read(directory)
        hold(fd)

    monkeypatch.setattr(locks, "hold_file", hold_later)
    told = Status(session)
    with told.of(GetInfo("/x")):
        told.write()
        assert not list(directory.iterdir())
        monkeypatch.setattr(locks, "hold_file", hold)
        told.write()
        assert [each.job.path for each in read(directory)] == ["/x"]
    assert not list(directory.iterdir())
