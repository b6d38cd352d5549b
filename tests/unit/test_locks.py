"""Locks: one operation at a time on an image, and none that outlives its work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from virtstore.agent import locks
from virtstore.errors import Denied, InUse

IMAGE = "1:2/x.img"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Locks of this test's own."""
    made = tmp_path / "locks"
    made.mkdir(0o700)
    monkeypatch.setattr(locks, "_directory", lambda: str(made))
    return made


def held(*, shared: bool = False) -> bool:
    """Whether a lock is refused now."""
    try:
        with locks.hold(IMAGE, shared=shared):
            return False
    except InUse:
        return True


def test_a_second_holder_is_refused_and_not_made_to_wait() -> None:
    with locks.hold(IMAGE):
        assert held()
        assert held(shared=True)
    assert not held()


def test_readers_share_and_keep_writers_out() -> None:
    with locks.hold(IMAGE, shared=True):
        with locks.hold(IMAGE, shared=True):
            assert held()
        assert held()  # one of two readers has ended, the other has not
        assert not held(shared=True)
    assert not held()


def test_other_images_are_not_kept_waiting() -> None:
    with locks.hold(IMAGE), locks.hold("1:2/y.img"), locks.hold("1:3/x.img"):
        assert held()


def test_a_failed_operation_gives_its_lock_back() -> None:
    with pytest.raises(ZeroDivisionError), locks.hold(IMAGE):
        raise ZeroDivisionError
    assert not held()


def test_whatever_is_locked_there_is_one_file_and_it_stays_empty(directory: Path) -> None:
    for name in ("x", "y", "z"):
        with locks.hold(name):
            held()
    [file] = directory.iterdir()
    assert file.stat().st_size == 0


def test_the_file_without_a_holder_means_nothing(directory: Path) -> None:
    (directory / "locks").touch()
    assert not held()


_HOLDER = """
import os, signal, subprocess, sys
from virtstore.agent import locks
locks._directory = lambda: sys.argv[1]
with locks.hold("1:2/x.img") as fd:
    if sys.argv[2] == "tool":
        tool = subprocess.Popen(["sleep", "60"], pass_fds=[fd])
        print(tool.pid, flush=True)
    else:
        print("held", flush=True)
    if sys.argv[3] == "ends":
        sys.exit()
    signal.pause()
"""


def _holder(directory: Path, *how: str) -> tuple[subprocess.Popen[str], str]:
    argv = [sys.executable, "-c", _HOLDER, str(directory), *how]
    # sleep must not hold our pipe open: its own output is not wanted.
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    said = process.stdout.readline().strip()
    return process, said


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout
    process.stdout.close()


def test_a_lock_ends_with_its_process_however_that_ends(directory: Path) -> None:
    process, said = _holder(directory, "alone", "waits")
    assert said == "held"
    assert held()
    _end(process)
    assert not held()


@pytest.mark.parametrize("how", ["waits", "ends"])
def test_a_tool_that_outlives_the_agent_keeps_the_lock_until_it_ends(
    directory: Path, how: str
) -> None:
    process, tool = _holder(directory, "tool", how)
    if how == "ends":
        process.wait()
    _end(process)
    try:
        assert held()
    finally:
        os.kill(int(tool), signal.SIGKILL)
    _wait_until_gone(int(tool))
    assert not held()


def _wait_until_gone(process: int) -> None:
    for _ in range(500):
        state = Path(f"/proc/{process}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        threading.Event().wait(0.01)
    raise AssertionError("the tool did not end")


def test_two_threads_never_have_it_at_once() -> None:
    inside, most, done = [0], [0], [0]
    guard = threading.Lock()

    def work() -> None:
        for _ in range(150):
            try:
                with locks.hold(IMAGE):
                    with guard:
                        inside[0] += 1
                        most[0] = max(most[0], inside[0])
                        done[0] += 1
                    os.sched_yield()
                    with guard:
                        inside[0] -= 1
            except InUse:
                os.sched_yield()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1
    assert done[0] > 10


def test_a_lock_file_that_is_a_link_is_not_followed(directory: Path, tmp_path: Path) -> None:
    (directory / "locks").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"), locks.hold(IMAGE):
        pass
    assert not (tmp_path / "victim").exists()


def test_a_directory_of_locks_that_others_can_write_to_is_refused(
    monkeypatch: pytest.MonkeyPatch, directory: Path
) -> None:
    monkeypatch.undo()
    real = os.stat(directory)
    directory.chmod(0o777)
    monkeypatch.setattr(os, "mkdir", _taken)
    loose = os.stat(directory)
    monkeypatch.setattr(os, "stat", lambda *_, **__: loose)
    with pytest.raises(Denied, match="where locks are kept"), locks.hold(IMAGE):
        pass
    monkeypatch.undo()
    directory.chmod(real.st_mode)


def _taken(*_: object) -> None:
    raise FileExistsError
