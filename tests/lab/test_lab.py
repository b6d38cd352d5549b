"""The lab itself: it does what its users count on, and leaves this machine alone."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

import pytest

from ..waiting import PATIENCE, until
from .machine import Crashed, Hung
from .uml import CHECKOUT, Lab

_DISK = 256 << 20


def test_a_command_gives_back_its_status_and_every_byte_it_said(tmp_path: Path) -> None:
    said = bytes(range(256)) * 4096
    (tmp_path / "said").write_bytes(said)
    lab = Lab(tmp_path / "lab", disks=[])
    # The shared directory is new with each boot: what is given to the command goes there.
    with lab.boot("cat /run/lab/in; printf '\\r\\n' >&2; exit 7") as machine:
        shutil.copy(tmp_path / "said", machine.directory / "in")
        result = machine.wait(PATIENCE)
    assert (result.status, result.stderr) == (7, b"\r\n")
    assert result.stdout == said


def test_what_a_command_leaves_running_does_not_hold_up_the_shutdown(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", disks=[_DISK])
    lab.run(
        """set -e
        mkfs.ext4 -q /dev/ubda && mount /dev/ubda /mnt && echo kept >/mnt/a
        cd /mnt && sleep 600 &
        setsid sleep 600 &
        sleep 1"""
    ).check()
    again = lab.run(
        "dumpe2fs -h /dev/ubda | grep state; mount /dev/ubda /mnt && cat /mnt/a"
    ).check()
    assert again.stdout.split() == [b"Filesystem", b"state:", b"clean", b"kept"]


def test_a_power_cut_keeps_what_was_synced_and_loses_the_rest(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", disks=[512 << 20])
    cut = lab.power_cut(
        """set -e
        vgcreate -qq vg0 /dev/ubda && lvcreate -qq -y -L 400M -n web vg0
        mkfs.xfs -q /dev/vg0/web && mount /dev/vg0/web /mnt
        echo synced >/mnt/a && sync /mnt/a /mnt
        echo not synced >/mnt/b
        echo written && sleep 60""",
        at="written",
    )
    assert cut.stdout == b"written\n"
    # The volume group is active again, as after any boot.
    after = lab.run("mount /dev/vg0/web /mnt && cat /mnt/a && ! test -s /mnt/b").check()
    assert after.stdout == b"synced\n"


def test_power_is_not_cut_where_the_command_ended_before(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", disks=[])
    with pytest.raises(Crashed, match=r"b'never' was not printed"):
        lab.power_cut("echo something else", at="never")


def test_power_can_be_cut_some_seconds_after_the_command_began(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", disks=[])
    cut = lab.power_cut("while sleep 0.1; do echo on; done", at=1.0)
    assert set(cut.stdout.split()) <= {b"on"}


def test_a_hung_command_is_killed_and_its_console_is_shown(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", disks=[])
    with lab.boot("echo a word >/dev/console; echo last words; exec sleep 600") as machine:
        machine.wait_for(b"last words", PATIENCE)
        with pytest.raises(Hung, match=r"did not end within 0\.1 s") as raised:
            machine.wait(0.1)
    assert "last words" in str(raised.value)
    assert "a word" in str(raised.value)
    assert _running(lab.directory) == []


def test_nothing_outside_changes_and_nothing_is_left_running(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab")
    name = f"virtstore-lab-{os.getpid()}"
    places = [*map(Path, ("/etc", "/usr/lib", "/var", "/var/tmp", "/root", "/tmp", "/run"))]
    places += [CHECKOUT, Path("/mnt"), Path("/dev/shm"), Path.home()]
    before = _state(Path("/etc"))
    script = "\n".join(f"touch {place}/{name} && echo {place}" for place in places)
    written = lab.run(f"{script}\nvgcreate vg0 /dev/ubda").check().stdout.decode().split()
    # Some could be written, or this would show nothing.
    assert {"/etc", "/run", "/tmp", "/mnt"} <= set(written)
    assert [place for place in places if (place / name).exists()] == []
    assert _state(Path("/etc")) == before
    assert _running(lab.directory) == []


def test_a_lab_does_not_outlive_whoever_started_it(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "tests.lab", "--disks=0", "yes >/dev/null & echo up; sleep 600"]
    starter = subprocess.Popen(
        argv, cwd=CHECKOUT, env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE
    )
    with starter:
        assert starter.stdout
        assert starter.stdout.readline() == b"up\n"
        assert _running(tmp_path) != []
        starter.kill()
    until(lambda: not _running(tmp_path), "the lab's end")


def test_the_lab_needs_no_root_out_here() -> None:
    with tempfile.TemporaryDirectory(prefix="virtstore-lab-") as directory:
        # A copy, since this checkout and interpreter may be where only root can read.
        copy = Path(directory, "tests", "lab")
        shutil.copytree(Path(__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
        Path(directory).chmod(0o755)
        done = subprocess.run(
            [
                *_as_nobody(),
                "-m",
                "tests.lab",
                "id -u; vgcreate -q vg0 /dev/ubda && mkfs.xfs -q /dev/ubdb",
            ],
            cwd=directory,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.split(b"\n")[0] == b"0"


def test_a_shell_has_the_terminal_and_its_exit_status_comes_out() -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (33, 111))
    before = termios.tcgetattr(theirs)
    shell = subprocess.Popen(
        [sys.executable, "-m", "tests.lab", "--shell"],
        cwd=CHECKOUT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    said = b""
    try:
        # What is typed before the shell is there is lost.
        said += _read_until(ours, b"# ")
        os.write(ours, b"tty; stty size; exit 9\n")
        said += _read_until(ours, b"exit\r\n")
        assert shell.wait(timeout=PATIENCE) == 9
    finally:
        shell.kill()
        shell.wait()
        after = termios.tcgetattr(theirs)
        os.close(ours)
        os.close(theirs)
    assert b"/dev/ttyS0\r\n33 111\r\n" in said
    assert after == before


def _read_until(fd: int, end: bytes) -> bytes:
    said = b""
    while not said.endswith(end):
        assert select.select([fd], [], [], PATIENCE)[0], said
        said += os.read(fd, 4096)
    return said


def _running(directory: Path) -> list[bytes]:
    """Command lines of this machine's processes that are a lab in `directory`."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return [line for line in lines if b"linux.uml" in line and bytes(directory) in line]


def _state(root: Path) -> dict[str, tuple[int, int, int]]:
    """Every path below `root` with its mode, size and time of modification."""
    found = {}
    for path in root.rglob("*"):
        status = path.lstat()
        found[str(path)] = (status.st_mode, status.st_size, status.st_mtime_ns)
    return found


def _as_nobody() -> list[str]:
    if os.geteuid():
        return [sys.executable]
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3"]
