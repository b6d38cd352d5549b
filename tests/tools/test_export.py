"""An image or archive that is exported is what NBD clients read: its bytes, its holes, its damage;
and nothing stays of the export, however it ends."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from tests import warm
from tests.schemas import check
from tests.waiting import PATIENCE, until
from tests.warm import COMMAND

import virtstore as api
from virtstore.formats.seekable import SeekableArchive

from .test_agent_commands import MIB, images, told, virtstore

__all__ = ["images"]  # a fixture

SIZE: Final = 24 * MIB
#: Where the disk has data.
DATA: Final = ((0, 3 * 4096), (5 * MIB, 4 * MIB), (SIZE - 8192, 8192))


@pytest.fixture
def disk(images: Path) -> Path:
    """A disk with data at its start, in its middle and at its end, and holes between."""
    disk = images / "disk.img"
    with disk.open("wb") as file:
        file.truncate(SIZE)
        for offset, length in DATA:
            file.seek(offset)
            file.write(random.Random(offset).randbytes(length))
    return disk


@pytest.fixture
def archive(disk: Path) -> Path:
    virtstore("copy", disk, f"{disk}.zst", "--archive")
    return disk.with_name("disk.img.zst")


def run(image: Path, command: str, *more: str, status: int | None = 0) -> str:
    """What a command prints that is run with an image exported."""
    return virtstore("export", image, "--run", command, *more, status=status).stdout


@contextmanager
def exported(image: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process that exports an image, and the URI that it prints."""
    argv = [sys.executable, "-c", COMMAND, "export", str(image), *more]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def children(process: subprocess.Popen[str]) -> dict[str, int]:
    """The processes that a process has started, by name."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return {Path(f"/proc/{pid}/comm").read_text().strip(): int(pid) for pid in found}


def is_gone(pid: int) -> bool:
    """Whether a process has ended, be it that nobody waited for it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def runs(text: str) -> list[tuple[int, int, bool]]:
    """What `nbdinfo --map --json` tells: offset, length, and whether it is zeros."""
    return [(each["offset"], each["length"], each["type"] == 3) for each in json.loads(text)]


@pytest.mark.parametrize("kind", ["raw", "archive", "qcow2"])
def test_what_is_exported_is_the_disk(
    disk: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    image = disk
    if kind == "archive":
        image = request.getfixturevalue("archive")
    elif kind == "qcow2":
        image = disk.with_suffix(".qcow2")
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", disk, image], check=True)
    compare = f'qemu-img compare -f raw -F raw "$uri" {disk}'
    copied = disk.with_name("copied")
    run(image, f'{compare} && nbdcopy "$uri" {copied}')
    assert copied.read_bytes() == disk.read_bytes()


def test_holes_are_told_to_the_byte(disk: Path) -> None:
    found = runs(run(disk, 'nbdinfo --map --json "$uri"'))
    assert [(offset, length) for offset, length, zero in found if not zero] == [*DATA]
    assert sum(length for _, length, _ in found) == SIZE


def test_zeros_of_an_archive_are_told_by_chunks(archive: Path) -> None:
    found = runs(run(archive, 'nbdinfo --map --json "$uri"'))
    data = [(offset, length) for offset, length, zero in found if not zero]
    assert data == [(0, MIB), (5 * MIB, 4 * MIB), (SIZE - MIB, MIB)]


def test_an_image_of_an_odd_size_is_read_to_its_end(images: Path) -> None:
    odd, copied = images / "odd.img", images / "copied"
    odd.write_bytes(os.urandom(MIB + 1001))
    assert run(odd, f'nbdinfo --size "$uri"; nbdcopy "$uri" {copied}') == f"{MIB + 1001}\n"
    assert copied.read_bytes() == odd.read_bytes()
    run(odd, f'qemu-img convert -f raw -O raw "$uri" {copied}')
    assert copied.read_bytes() == odd.read_bytes() + bytes(-odd.stat().st_size % 512)


def test_an_export_is_read_only(disk: Path) -> None:
    before = disk.read_bytes()
    run(disk, 'qemu-io -f raw -c "write -P 1 0 4096" "$uri"', status=1)
    assert json.loads(run(disk, 'nbdinfo --json "$uri"'))["exports"][0]["is_read_only"]
    assert disk.read_bytes() == before


def test_the_status_of_the_command_is_that_of_the_export(disk: Path) -> None:
    run(disk, "exit 7", status=7)
    run(disk, "kill -9 $$", status=128 + 9)


def test_who_interrupts_a_command_is_not_told_of_half_done_work(disk: Path) -> None:
    with exported(disk, "--run", "echo $$; exec sleep infinity") as (process, pid):
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=PATIENCE)
        assert (process.returncode, said) == (130, ("", ""))
        assert is_gone(int(pid))


def test_the_command_finds_what_nbdkit_would_tell_it(disk: Path) -> None:
    uri, unixsocket, nbd = run(disk, 'echo "$uri"; echo "$unixsocket"; echo "$nbd"').split()
    assert uri == f"nbd+unix://?socket={unixsocket}"
    assert nbd == f"nbd:unix:{unixsocket}"


def test_nobody_else_can_reach_the_socket(disk: Path) -> None:
    assert run(disk, 'stat -c %a "$(dirname "$unixsocket")"') == "700\n"


def test_the_socket_is_where_it_was_asked_for_and_goes_with_the_export(disk: Path) -> None:
    path = disk.with_name("x.sock")
    assert run(disk, f"test -S {path}; echo $unixsocket", "--socket", str(path)) == f"{path}\n"
    assert not path.exists()


def test_a_sockets_path_may_have_any_characters(disk: Path) -> None:
    path = disk.with_name("a b,c=d%20?é.sock")
    assert run(disk, 'nbdinfo --size "$uri"', "--socket", str(path)) == f"{SIZE}\n"
    assert not path.exists()


def test_of_two_exports_on_one_socket_the_second_fails_and_the_first_stays(disk: Path) -> None:
    path = disk.with_name("x.sock")
    with exported(disk, "--socket", str(path)) as (_, uri):
        assert told("export", disk, "--socket", path, status=4)["error"]["code"] == "exists"
        subprocess.run(["nbdinfo", "--size", uri], check=True, capture_output=True)


def test_what_lies_where_the_socket_is_to_be_is_left_alone(disk: Path) -> None:
    path = disk.with_name("x.sock")
    path.write_text("precious")
    assert told("export", disk, "--socket", path, status=4)["error"]["code"] == "exists"
    assert path.read_text() == "precious"


def test_it_says_where_it_serves_and_ends_well_when_it_is_interrupted(disk: Path) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        with exported(disk, "--json") as (process, first):
            assert process.stdout
            text = first
            while not text.endswith("}"):
                text += process.stdout.readline().strip()
            answer = json.loads(text)
            check("export", answer)
            assert answer["source"] == str(disk)
            assert answer["size"] == SIZE
            subprocess.run(["nbdinfo", "--size", answer["uri"]], check=True, capture_output=True)
            process.send_signal(number)
            _, said = process.communicate(timeout=PATIENCE)
            assert (process.returncode, said) == (0, "")
            assert not Path(answer["socket"]).parent.exists()


def test_json_and_the_output_of_a_command_are_not_mixed(disk: Path) -> None:
    assert told("export", disk, "--run", "true", status=2)["error"]["code"] == "usage"


@pytest.mark.parametrize("victim", ["virtstore", "nbdkit", "agent"])
def test_whatever_is_killed_leaves_no_process_and_no_socket(disk: Path, victim: str) -> None:
    with exported(disk) as (process, uri):
        path = Path(uri.partition("=")[2])
        found = children(process)
        assert path.exists()
        agent = next(pid for name, pid in found.items() if name != "nbdkit")
        os.kill({"virtstore": process.pid, "agent": agent, **found}[victim], signal.SIGKILL)
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == {"virtstore": -9, "nbdkit": 1, "agent": 10}[victim]
        until(lambda: is_gone(found["nbdkit"]) and is_gone(agent), "their end")
        until(lambda: not path.parent.exists(), "the socket's end")
        assert ("nothing is served" in said) == (victim == "nbdkit")
        assert ("went away" in said) == (victim == "agent")


def test_a_command_gets_an_error_and_no_zeros_once_the_host_has_gone(disk: Path) -> None:
    # The agent, among what virtstore started, is the Python.
    kill = "kill -9 $(ps -o pid=,comm= --ppid $PPID | awk '/python|virtstore/ {print $1}')"
    read = 'qemu-io -r -f raw -c "read -P 0 5M 4k" "$uri"'
    with warm.as_usual():  # the agent is to be virtstore's own child
        done = virtstore("export", disk, "--run", f"{kill}; {read}", status=1)
    assert "Input/output error" in done.stdout + done.stderr
    assert "went away" in done.stderr


def test_an_open_client_does_not_keep_an_export_alive(disk: Path) -> None:
    with exported(disk) as (process, uri), socket.socket(socket.AF_UNIX) as client:
        client.connect(uri.partition("=")[2])
        assert client.recv(8) == b"NBDMAGIC"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0


def test_of_a_damaged_archive_what_is_whole_is_read_and_the_rest_is_an_error(
    archive: Path, disk: Path
) -> None:
    class Source:
        data = archive.read_bytes()
        size = len(data)

        def read_at(self, offset: int, length: int) -> bytes:
            return self.data[offset : offset + length]

    found = SeekableArchive.open(Source())
    assert found
    frame = found.frames[found.frames.find(6 * MIB)]
    with archive.open("r+b") as file:
        file.seek(frame.position + 1000)
        file.write(b"damage")
    read = 'qemu-io -r -f raw -c "read {} 64k" "$uri"'
    done = virtstore("export", archive, "--run", read.format(6 * MIB), status=1)
    assert "read failed: Input/output error" in done.stdout + done.stderr
    assert f"{archive}: 65536 bytes at byte {6 * MIB} cannot be read" in done.stderr
    assert f"at byte {frame.position} of the archive" in done.stderr
    assert "Traceback" not in done.stderr
    run(archive, f"{read.format(5 * MIB)} && {read.format(7 * MIB)}")


def test_an_archive_that_can_only_be_read_from_its_start_is_refused(disk: Path) -> None:
    subprocess.run(["gzip", "-k", disk], check=True)
    failed = told("export", f"{disk}.gz", status=11)["error"]
    assert "only be read from its beginning" in failed["message"]
    assert "virtstore copy" in failed["message"]


def test_what_a_guest_made_look_like_a_container_is_refused_unless_it_is_said_to_be_raw(
    disk: Path,
) -> None:
    fake, copied = disk.with_name("fake.img"), disk.with_name("copied")
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", disk, fake], check=True)
    failed = told("export", fake, status=11)["error"]
    assert "qcow2" in failed["message"]
    assert "--raw" in failed["message"]
    run(fake, f'nbdcopy "$uri" {copied}', "--raw")
    assert copied.read_bytes() == fake.read_bytes()


def test_an_image_that_somebody_writes_to_is_refused_unless_that_is_allowed(disk: Path) -> None:
    with disk.open("r+b") as file, subprocess.Popen(["sleep", "infinity"], stdin=file) as user:
        try:
            failed = told("export", disk, status=6)["error"]
            assert "--snapshot exports it" in failed["message"]
            run(disk, 'nbdinfo --size "$uri"', "--allow-in-use")
        finally:
            user.kill()


def test_an_exported_image_is_locked_against_change_and_can_be_copied(disk: Path) -> None:
    with exported(disk):
        assert told("grow", disk, "32M", status=6)["error"]["code"] == "in-use"
        virtstore("copy", disk, disk.with_name("copy.img"))
    virtstore("grow", disk, "32M")


def test_who_reads_while_somebody_writes_is_told(disk: Path) -> None:
    command = f"printf x | dd of={shlex.quote(str(disk))} conv=notrunc status=none"
    done = virtstore("export", disk, "--run", command)
    assert "somebody wrote to it while it was open" in done.stderr


def test_a_host_without_nbdkit_says_what_to_install(
    disk: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    failed = told("export", disk, status=11)["error"]
    assert "apt install nbdkit nbdkit-plugin-python" in failed["message"]
    fake = empty / "nbdkit"
    fake.write_text("#!/bin/sh\necho \"nbdkit: error: cannot open plugin 'python'\" >&2; exit 1\n")
    fake.chmod(0o755)
    failed = told("export", disk, status=11)["error"]
    assert "apt install nbdkit nbdkit-plugin-python" in failed["message"]


def test_an_environment_of_another_python_does_no_harm(
    disk: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A virtual environment's python3 first in PATH is where an embedded Python looks for its own
    modules."""
    home = tmp_path / "venv"
    (home / "bin").mkdir(parents=True)
    (home / "pyvenv.cfg").write_text("home = /nonexistent/bin\nversion = 3.99\n")
    (home / "bin" / "python3").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", f"{home}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("VIRTUAL_ENV", str(home))
    with api.connect() as host, host.image(str(disk)).export() as export:
        assert size_of(export) == SIZE


def size_of(export: api.Export) -> int:
    argv = ["nbdinfo", "--size", export.uri]
    return int(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)


def test_python_serves_as_long_as_the_context_is_open(archive: Path, disk: Path) -> None:
    complaints: list[api.Error] = []
    with api.connect() as host, host.image(str(archive)).export(complain=complaints.append) as one:
        with host.image(str(disk)).export() as other:  # side by side
            assert size_of(one) == size_of(other) == SIZE == one.size
            compare = ["qemu-img", "compare", "-f", "raw", "-F", "raw", one.uri, other.uri]
            subprocess.run(compare, check=True, capture_output=True)
        assert not Path(other.socket).exists()
        assert host.image(str(disk)).info().size == SIZE
        assert one.close() == one.close() == ()
        assert one.wait() is None
    assert complaints == []


def test_an_export_outlives_the_thread_that_opened_it(disk: Path) -> None:
    with api.connect() as host:
        with ThreadPoolExecutor(1) as pool:
            export = pool.submit(host.image(str(disk)).export).result()
        with export:
            assert size_of(export) == SIZE


def test_a_size_that_does_not_fit_is_no_export(disk: Path) -> None:
    disk.write_bytes(b"")
    failed: Any = told("export", disk, status=9)["error"]
    assert "empty" in failed["message"]
