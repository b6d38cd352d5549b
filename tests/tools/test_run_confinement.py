"""Real processes: confinement confines, a timeout leaves nobody, a resize outlives us."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.waiting import PATIENCE

from virtstore.errors import Error
from virtstore.run import filter_process, run

PYTHON = "/usr/bin/python3"


def _alive(pid: int) -> bool:
    try:
        # A zombie that nobody has waited for has no command line.
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except FileNotFoundError:
        return False


def _gone(pid: int) -> bool:
    deadline = time.monotonic() + PATIENCE
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not _alive(pid)


def test_status_and_output_come_back_and_standard_input_is_empty() -> None:
    said = run(["sh", "-c", "cat; echo out; echo $LC_ALL >&2; exit 3"])
    assert (said.status, said.stdout, said.stderr) == (3, b"out\n", b"C.UTF-8\n")


@pytest.mark.parametrize("outlives_us", [False, True])
def test_confined_tools_answer_in_full_either_way(outlives_us: bool) -> None:
    said = run(
        ["sh", "-c", "head -c 300000 /dev/zero; echo bad >&2; exit 4"],
        confined=True,
        outlives_us=outlives_us,
    )
    assert (said.status, len(said.stdout), said.stderr) == (4, 300_000, b"bad\n")


@pytest.mark.parametrize("confined", [False, True])
def test_a_timeout_ends_the_tool_and_all_that_it_started(confined: bool) -> None:
    # Found again by its argument: in a PID namespace a tool does not know its real number.
    mark = f"3{os.getpid()}{int(confined)}"
    with pytest.raises(Error, match="did not end within 0 s and was stopped"):
        run(["sh", "-c", f"sleep {mark} & sleep {mark} & wait"], confined=confined, timeout=0.4)
    assert all(_gone(pid) for pid in _processes() if mark in _words(pid))


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def test_a_confined_tool_has_no_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        script = f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)"
        assert run([PYTHON, "-c", script]).status == 0
        said = run([PYTHON, "-c", script], confined=True)
    assert said.status != 0
    assert b"Error" in said.stderr


def test_a_confined_tool_writes_nowhere() -> None:
    outside = Path.home() / f".virtstore-test-{os.getpid()}"
    for path in (outside, Path("/var/tmp/virtstore-test"), Path("/etc/virtstore-test")):
        assert run(["sh", "-c", f"echo x > {path}"], confined=True).status != 0
        assert not path.exists()
    # /tmp is one of its own: written to, and gone.
    assert run(["sh", "-c", "echo x > /tmp/virtstore-test"], confined=True).status == 0
    assert not Path("/tmp/virtstore-test").exists()


def test_a_confined_tool_sees_no_process_but_its_own() -> None:
    said = run(["sh", "-c", "ls -d /proc/[0-9]* | wc -l"], confined=True)
    assert int(said.stdout) < 10


def test_a_confined_tools_memory_is_bounded() -> None:
    said = run([PYTHON, "-c", "bytearray(5 << 30)"], confined=True)
    assert said.status != 0
    assert b"MemoryError" in said.stderr


def test_the_one_object_that_it_was_given_can_be_written(tmp_path: Path) -> None:
    with (tmp_path / "image").open("w+b") as image:
        image.write(bytes(16))
        image.flush()
        path = f"/proc/self/fd/{image.fileno()}"
        argv = ["dd", "if=/dev/zero", f"of={path}", "conv=notrunc", "status=none", "count=1"]
        assert run(argv, confined=True, pass_fds=[image.fileno()]).status == 0
        assert os.fstat(image.fileno()).st_size == 512


def test_the_one_object_that_it_was_given_keeps_its_length(tmp_path: Path) -> None:
    with (tmp_path / "image").open("w+b") as image:
        image.truncate(4096)
        path = f"/proc/self/fd/{image.fileno()}"
        script = f"import os; os.truncate({path!r}, 512)"
        said = run([PYTHON, "-c", script], confined=True, pass_fds=[image.fileno()])
        assert b"PermissionError" in said.stderr
        assert os.fstat(image.fileno()).st_size == 4096


OUTLIVES = '''
import os, sys
from virtstore.run import run
fd = os.open(sys.argv[1], os.O_RDWR)
file = f"/proc/self/fd/{fd}"
script = f"""
echo running > {file}
until grep -q go {file}; do sleep 0.02; done
echo word; echo word >&2
echo done > {file}
"""
run(["sh", "-c", script], confined=True, outlives_us=sys.argv[2] == "yes", pass_fds=[fd])
'''


@pytest.mark.parametrize(("outlives_us", "left"), [("yes", b"done\n"), ("no", b"go\n")])
def test_what_changes_an_image_goes_on_when_we_are_killed_and_nothing_else_does(
    tmp_path: Path, outlives_us: str, left: bytes
) -> None:
    target = tmp_path / "target"
    target.touch()
    argv = [sys.executable, "-c", OUTLIVES, str(target), outlives_us]
    with subprocess.Popen(argv) as agent:
        _wait_for(target, b"running\n", PATIENCE)
        agent.send_signal(signal.SIGKILL)
    target.write_bytes(b"go\n")
    _wait_for(target, b"done\n", PATIENCE if left == b"done\n" else 1)
    assert target.read_bytes() == left


def _wait_for(file: Path, contents: bytes, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while file.read_bytes() != contents and time.monotonic() < deadline:
        time.sleep(0.02)


def test_a_filter_turns_input_into_output_and_is_ended_when_it_is_left() -> None:
    with filter_process(["tr", "a-z", "A-Z"]) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"image")
        process.stdin.close()
        assert process.stdout.read() == b"IMAGE"
    with filter_process(["cat"]) as process:
        pid = process.pid
    assert not _alive(pid)


def test_a_confined_tool_is_no_root_to_the_kernel() -> None:
    script = """
        grep CapEff /proc/self/status
        for file in vm/swappiness kernel/core_pattern; do
            cat /proc/sys/$file >/dev/null && ! test -w /proc/sys/$file && echo only read
        done
        umount /proc/sys || mount -o remount,rw,bind /proc/sys || echo stays
    """
    said = run(["sh", "-c", script], confined=True)
    assert said.stdout.split() == [b"CapEff:", b"0" * 16, *[b"only", b"read"] * 2, b"stays"]


AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root is lent what is another user's")


@pytest.fixture
def of_another(tmp_path: Path) -> Path:
    """A file that its owner alone may open."""
    (tmp_path / "x.img").write_bytes(b"another's")
    (tmp_path / "x.img").chmod(0o600)
    os.chown(tmp_path / "x.img", 4711, 4711)
    return tmp_path / "x.img"


@AS_ROOT
@pytest.mark.parametrize("mode", [0o600, 0o000])
def test_a_confined_tool_opens_another_users_file_that_it_is_lent(
    of_another: Path, mode: int
) -> None:
    of_another.chmod(mode)
    with of_another.open("r+b") as file:
        opened = f"/proc/self/fd/{file.fileno()}"
        script = f"cat {opened}; printf new 1<>{opened}"
        said = run(["sh", "-c", script], confined=True, pass_fds=[file.fileno()])
    assert (said.status, said.stdout, said.stderr) == (0, b"another's", b"")
    assert of_another.read_bytes() == b"newther's"


@AS_ROOT
def test_a_tool_that_is_lent_another_users_file_can_do_nothing_else_that_root_can(
    of_another: Path,
) -> None:
    script = "grep CapEff /proc/self/status; ls -d /etc /root; chown 1 /tmp; mount -t tmpfs x /mnt"
    with of_another.open("rb") as file:
        said = run(["sh", "-c", script], confined=True, pass_fds=[file.fileno()])
    assert said.stdout.split() == [b"CapEff:", b"0000000000000002"]  # CAP_DAC_OVERRIDE
    assert said.stderr.count(b"No such file") == 2
    assert said.status != 0


@AS_ROOT
def test_where_no_namespace_can_be_made_a_tool_is_confined_as_ever(
    of_another: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "unshare"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with of_another.open("rb") as file:
        argv = ["cat", f"/proc/self/fd/{file.fileno()}"]
        said = run(argv, confined=True, pass_fds=[file.fileno()])
    assert (said.status, b"Permission denied" in said.stderr) == (1, True)
