"""Several images at the same time: `--jobs`."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.waiting import PATIENCE, until
from tests.warm import COMMAND

import virtstore as api
from virtstore.progress import Progress

from .meanwhile import Meanwhile
from .test_agent_commands import images, told, virtstore
from .test_several import MIB, three

__all__ = ["images", "three"]  # fixtures

#: A shell to another host that takes its time to log in, and notes where two do so at once.
_LOGIN = """#!/bin/sh
mkdir {here}/asking || touch {here}/two-at-once
sleep 0.1
rmdir {here}/asking
exec {python} -P -m virtstore.agent
"""


def test_several_are_copied_at_once_and_told_in_order(three: list[Path], images: Path) -> None:
    results = told("copy", *three, images / "new", "-j", 2)
    assert [each["target"] for each in results] == [f"{images}/new/{p.name}" for p in three]
    for path in three:
        assert (images / "new" / path.name).read_bytes() == path.read_bytes()
    archives = [each["path"] for each in told("compress", *three, "-j", 3)]
    assert archives == [f"{path}.zst" for path in three]
    assert [each["path"] for each in told("verify", *archives, "--jobs=2")] == archives
    assert [each["path"] for each in told("uncompress", *archives, "-j3")] == list(map(str, three))


def test_what_fails_hides_no_other_of_those_at_once(three: list[Path], images: Path) -> None:
    missing = images / "missing.img"
    found = told("verify", three[0], missing, three[2], "-j", 3, status=3)
    assert [each.get("size") for each in found] == [MIB, None, MIB + 2]
    assert found[1]["error"]["code"] == "not-found"


@pytest.mark.parametrize("jobs", ["0", "-1", "65", "many"])
def test_a_number_of_jobs_that_cannot_be_is_refused(three: list[Path], jobs: str) -> None:
    assert told("verify", *three, "-j", jobs, status=2)["error"]["code"] == "usage"


@pytest.mark.parametrize("jobs", [1, 2])
def test_progress_says_which_of_several_it_is_about(three: list[Path], jobs: int) -> None:
    events = [
        json.loads(line)
        for line in virtstore(
            "verify", *three, "-j", jobs, "--json", "--progress"
        ).stderr.splitlines()
    ]
    assert {each["source"] for each in events} == set(map(str, three))
    for path in three:
        last = [each for each in events if each["source"] == str(path)][-1]
        assert (last["stage"], last["done"]) == ("done", path.stat().st_size)
    lines = virtstore("verify", *three, "-j", jobs, "--progress").stderr.splitlines()
    assert {line.split(": ")[0] for line in lines} == {f"verify {path}" for path in three}


def on_a_terminal(*words: object) -> str:
    """What a command for several images draws, on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "COLUMNS": "80", "TERM": "xterm"}
    argv = [sys.executable, "-c", COMMAND, *map(str, words)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=theirs, env=env) as process:
        os.close(theirs)
        drawn = b""
        try:
            while more := os.read(ours, 1 << 16):
                drawn += more
        except OSError:  # how a terminal ends
            pass
        assert process.wait(PATIENCE) == 0
        assert process.stdout
        assert len(process.stdout.read().splitlines()) == 2  # the results, and nothing else
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.decode())


def test_a_terminal_shows_a_line_for_each_that_runs_and_one_for_all(images: Path) -> None:
    (images / "new").mkdir()
    names = ("one.img", "two.img")
    for name in names:
        (images / name).write_bytes(os.urandom(3 * MIB))
    paths = [images / name for name in names]
    shown = on_a_terminal("copy", *paths, images / "new", "-j", 2, "--bwlimit", "1M")
    assert re.search(r"copy: 0 of 2 done ", shown)
    for name in names:
        assert re.search(rf"{name}  copying +\S+ [12] MiB of 3 MiB", shown)
    # The lines of one moment lie between two returns to their beginning.
    assert any(all(name in moment for name in names) for moment in shown.split("copy: "))
    assert max(map(len, re.split("[\r\n]", shown))) <= 80


def test_ctrl_c_ends_all_of_them_and_leaves_no_half_image(images: Path) -> None:
    (new := images / "new").mkdir()
    paths = [images / name for name in ("one.img", "two.img")]
    for path in paths:
        path.write_bytes(os.urandom(8 * MIB))
    argv = [sys.executable, "-c", COMMAND, "copy", *map(str, paths), str(new), "-j", "2", "--json"]
    argv += ["--progress", "--bwlimit", "1M"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True)
    assert process.stderr
    begun: set[str] = set()
    while len(begun) < 2:
        event = json.loads(process.stderr.readline())
        begun |= {event["source"]} if event["done"] else set()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert json.loads(out)["error"]["code"] == "interrupted"
    assert "Traceback" not in err
    assert all(name.endswith(".virtstore-partial") for name in os.listdir(new))
    until(lambda: not any(map(_is_locked, (new / path.name for path in paths))), "both have ended")
    virtstore("clean", new, images)
    assert os.listdir(new) == []


def _is_locked(path: Path) -> bool:
    return virtstore("create", path, "1M", "-n", status=None).returncode == 6


def test_two_logins_never_ask_at_the_same_time(
    three: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = tmp_path / "login"
    login.write_text(_LOGIN.format(here=tmp_path, python=shlex.quote(sys.executable)))
    login.chmod(0o755)
    monkeypatch.setenv("VIRTSTORE_RSH", str(login))
    monkeypatch.setenv("SSH_ASKPASS", "/bin/false")
    places = [f"{host}:{path}" for host in ("one", "other") for path in three]
    found = told("verify", *places, "-j", 4)
    assert [each["size"] for each in found] == [MIB, MIB + 1, MIB + 2] * 2
    assert not (tmp_path / "two-at-once").exists()


def test_a_host_is_asked_by_several_threads_at_once(images: Path, meanwhile: Meanwhile) -> None:
    with api.connect() as host:
        image = host.image(f"{images}/x.img")
        asked: list[int] = []
        image.verify(progress=meanwhile(lambda: asked.append(host.list(str(images)).__len__())))
        assert asked == [1]  # while the session was busy
        assert image.info().size == 3 * MIB


def test_a_host_that_is_aborted_ends_what_another_thread_does(
    images: Path, meanwhile: Meanwhile
) -> None:
    host = api.connect()
    image = host.image(f"{images}/x.img")
    failed: list[api.Error] = []

    def copy(progress: Callable[[Progress], None]) -> None:
        try:
            image.copy(host.image(f"{images}/y.img"), progress=progress)
        except api.Error as error:
            failed.append(error)

    def abort() -> None:
        ending = threading.Thread(target=host.abort)
        ending.start()
        ending.join()

    thread = threading.Thread(target=copy, args=(meanwhile(abort),))
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert [type(error) for error in failed] == [api.ConnectionFailed]
    host.close()
    with pytest.raises(api.UsageError, match="closed"):
        image.info()
    assert not (images / "y.img").exists()
