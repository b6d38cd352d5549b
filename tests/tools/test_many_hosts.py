"""Several hosts asked at once, by a program in place of ssh: how many, in which order, and what
becomes of the dead, the slow and the silent."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.waiting import PATIENCE, until
from tests.warm import COMMAND

from .test_agent_commands import images, told, virtstore

__all__ = ["images"]  # a fixture

#: A way to hosts that are all this machine. `dead…` cannot be reached, `stuck…` says nothing until
#: a lock is given up, `slow…` is another host once that is so.
_WAY = """#!/bin/sh
here={here}
host=$2  # behind a --
touch "$here/asked/$host"
case $host in
dead*) echo "ssh: connect to host $host port 22: No route to host" >&2; exit 255 ;;
crowded*)
    mkdir "$here/once" && echo "kex_exchange_identification: read: reset" >&2 && exit 255 ;;
stuck*) exec flock -s "$here/lock" true ;;
slow*) flock -s "$here/lock" true ;;
esac
exec {python} -P -m virtstore.agent
"""

#: Seconds in which a host that answers does so, however busy the machine is.
PLENTY = 10


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a file for each host that was asked, which is called like it."""
    (asked := tmp_path / "asked").mkdir()
    (tmp_path / "lock").touch()
    way = tmp_path / "way"
    way.write_text(_WAY.format(here=tmp_path, python=shlex.quote(sys.executable)))
    way.chmod(0o755)
    monkeypatch.setenv("VIRTSTORE_RSH", str(way))
    return asked


@contextmanager
def held_up(asked: Path) -> Iterator[None]:
    """What is slow or stuck stays so."""
    with open(asked.parent / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def started(*words: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", COMMAND, *words]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_hosts_are_told_in_the_order_asked_for_however_long_each_takes(
    asked: Path, images: Path
) -> None:
    with held_up(asked):
        running = started("storage-info", "slow:", "one:", "dead:", "local:", "--json")
        until(lambda: len(list(asked.iterdir())) == 3, "all to be asked")
    out, err = running.communicate(timeout=PATIENCE)
    slow, one, dead, local = json.loads(out)
    assert [each["host"] for each in (slow, one, local)] == ["slow", "one", "local"]
    assert dead["error"]["host"] == "dead"
    assert "No route to host" in dead["error"]["message"]
    assert (running.returncode, err) == (10, "")


def test_one_listing_has_the_images_of_all_hosts_and_what_failed(asked: Path, images: Path) -> None:
    places = ["one:", f"one:{images}", "dead:", f"two:{images}", "two:/nonexistent"]
    found = told("list", "-l", *places, status=10)
    assert [each.get("host") for each in found] == ["one", "one", None, "two", None]
    assert [each["error"]["code"] for each in found if "error" in each] == ["connection", "denied"]
    shown = virtstore("list", "-l", *places, status=10)
    assert re.findall(r"\b(\w+):/\S+x\.img", shown.stdout) == ["one", "two"]
    assert shown.stderr.count("No route to host") == 1


def test_a_host_that_lets_in_few_at_a_time_is_tried_again(asked: Path, images: Path) -> None:
    assert [each["host"] for each in told("storage-info", "one", "crowded")] == ["one", "crowded"]


def test_a_host_with_several_locations_is_logged_in_to_once_and_fails_once(
    asked: Path, images: Path
) -> None:
    found = told("list", "dead:", f"one:{images}", "dead:/x", status=10)
    assert [each.get("error", {}).get("host") for each in found] == ["dead", None, "dead"]


def test_a_host_that_says_nothing_fails_in_time_and_holds_up_no_other(
    asked: Path, images: Path
) -> None:
    late = "no session with it could be opened within"
    with held_up(asked):
        stuck, one = told("storage-info", "stuck", "one:", "--timeout", PLENTY, status=10)
        alone = told("storage-info", "stuck", "--timeout", "1s", status=10)
    assert one["host"] == "one"
    assert f"{late} {PLENTY} s" in stuck["error"]["message"]
    assert f"{late} 1 s" in alone["error"]["message"]


def test_no_more_than_fifty_are_asked_at_a_time_and_ctrl_c_ends_them_all(
    asked: Path, images: Path
) -> None:
    with held_up(asked):
        running = started("list", *(f"stuck{number}:" for number in range(60)), "--json")
        until(lambda: len(list(asked.iterdir())) == 50, "fifty to be asked")
        time.sleep(0.1)
        assert len(list(asked.iterdir())) == 50
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=PATIENCE)  # it waits for each of them
    assert json.loads(out)["error"]["code"] == "interrupted"
    assert (running.returncode, err) == (130, "")


def test_doctor_tells_of_the_dead_beside_the_others(asked: Path, images: Path) -> None:
    found = told("doctor", "dead", "one", "local:", status=1)
    assert {each["host"] for each in found} == {"dead", "one", "local"}
    [problem] = [each for each in found if each["host"] == "dead"]
    assert (problem["severity"], "No route" in problem["what"]) == ("problem", True)
    assert told("jobs", "one", "two") == []


@pytest.mark.parametrize("timeout", ["0", "-1", "soon", "1e3", ""])
def test_a_timeout_that_is_no_time_is_refused_before_a_host_is_asked(
    asked: Path, timeout: str
) -> None:
    error = told("list", "one:", "two:", f"--timeout={timeout}", status=2)["error"]
    assert (error["code"], "is no time; write seconds" in error["message"]) == ("usage", True)
    assert list(asked.iterdir()) == []


def test_a_terminal_shows_for_whom_it_waits(asked: Path, images: Path) -> None:
    ours, theirs = pty.openpty()
    env = {**os.environ, "COLUMNS": "80", "TERM": "xterm"}
    argv = [sys.executable, "-c", COMMAND, "list", "one:", "slow-1:", "slow-2:"]
    drawn = b""
    with (
        held_up(asked),
        subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=theirs, env=env) as process,
    ):
        os.close(theirs)
        while b"waiting for: slow-1, slow-2" not in drawn:
            drawn += os.read(ours, 1 << 16)
        process.send_signal(signal.SIGTERM)
        with open(os.dup(ours), "rb", buffering=0) as rest:
            try:
                while more := rest.read(1 << 16):
                    drawn += more
            except OSError:  # how a terminal ends
                pass
    os.close(ours)
    assert b"\x1b[K1 of 3 hosts have answered; waiting for: slow-1, slow-2" in drawn
    assert re.search(rb"\r\x1b\[K\S*virtstore: \S*interrupted", drawn)
