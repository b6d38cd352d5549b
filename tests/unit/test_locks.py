"""Locks: one operation at a time on an image, and none that outlives its work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from virtstore import meeting_place
from virtstore.agent import locks
from virtstore.errors import Denied, InUse

IMAGE = "1:2/x.img"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Locks of this test's own."""
    made = tmp_path / "locks"
    made.mkdir(0o700)
    monkeypatch.setattr(locks, "_directories", lambda: [str(made)])
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
from virtstore import meeting_place
from virtstore.agent import locks
locks._directories = lambda: [sys.argv[1]]
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


def test_a_directory_of_locks_that_is_not_root_s_alone_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "virtstore"
    file.touch()
    with pytest.raises(Denied, match=r"where locks are kept.*rm -r"):
        meeting_place.of_root(str(file))


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """A directory in which everybody can make what they like, as /run/lock is."""
    made = tmp_path / "lock"
    made.mkdir()
    made.chmod(0o1777)
    return made


US: Final = os.geteuid()


def test_all_agents_of_a_user_meet_in_one_directory(parent: Path) -> None:
    [found] = meeting_place.of_user(US, str(parent))
    assert found == f"{parent}/virtstore-{US}"
    assert meeting_place.of_user(US, str(parent)) == [found]
    assert Path(found).stat().st_mode & 0o777 == 0o700


def a_file(path: Path) -> None:
    path.touch()


def a_link(path: Path) -> None:
    path.symlink_to(path.parent)


def a_dangling_link(path: Path) -> None:
    path.symlink_to(path.parent / "nothing")


def another_user_s(path: Path) -> None:
    path.mkdir()
    os.chown(path, 4242, 4242)


SQUATTERS: Final = [a_file, a_link, a_dangling_link]
if US == 0:
    SQUATTERS.append(another_user_s)


@pytest.mark.parametrize("squat", SQUATTERS)
def test_nobody_can_keep_a_user_from_having_locks(
    parent: Path, squat: Callable[[Path], None]
) -> None:
    squat(parent / f"virtstore-{US}")
    [found] = meeting_place.of_user(US, str(parent))
    assert found.startswith(f"{parent}/virtstore-{US}-")
    assert meeting_place.of_user(US, str(parent)) == [found]


def test_agents_meet_before_and_after_a_name_is_taken_and_given_back(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes the name for a moment must not lead two agents to two places."""
    monkeypatch.setattr(locks, "_directories", lambda: meeting_place.of_user(US, str(parent)))
    squatter = parent / f"virtstore-{US}"
    squatter.touch()
    with locks.hold(IMAGE):
        squatter.unlink()
        assert held()
        squatter.mkdir(mode=0o700)  # one from an older version, or from a race
        assert held()
    assert not held()
    assert len(locks._directories()) == 2
    with locks.hold(IMAGE, shared=True):
        assert held()
        assert not held(shared=True)


def test_agents_that_make_their_directories_at_once_have_one_in_common(parent: Path) -> None:
    (parent / f"virtstore-{US}").touch()
    program = (
        "import sys; from virtstore.meeting_place import of_user; print(*of_user(%d, sys.argv[1]))"
    )
    argv = [sys.executable, "-c", program % US, str(parent)]
    agents = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    found = [set(agent.communicate()[0].split()) for agent in agents]
    assert set.intersection(*found)


def test_a_user_whose_number_begins_alike_is_another(parent: Path) -> None:
    other = parent / f"virtstore-{US}5"
    other.mkdir(mode=0o700)
    assert meeting_place.of_user(US, str(parent)) == [f"{parent}/virtstore-{US}"]


def test_a_directory_of_ours_is_made_ours_alone(parent: Path) -> None:
    ours = parent / f"virtstore-{US}"
    ours.mkdir()
    ours.chmod(0o777)
    assert meeting_place.of_user(US, str(parent)) == [str(ours)]
    assert ours.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(US != 0, reason="only root gives files away")
def test_another_user_s_file_is_no_lock(directory: Path) -> None:
    (directory / "locks").touch()
    os.chown(directory / "locks", 4242, 4242)
    with pytest.raises(Denied, match="another user's file in it; remove it"), locks.hold(IMAGE):
        pass


def test_where_nothing_can_be_made_what_to_do_is_told(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "mkdir", _taken)
    with pytest.raises(Denied, match=f"install -d -m 700 -o {US} {parent}/virtstore-{US}"):
        meeting_place.of_user(US, str(parent))


def _taken(*_: object) -> None:
    raise FileExistsError
