"""LVM itself: asked by several at once, hanging, failing, and answering nonsense."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import virtstore
from tests.schemas import check

from .shell import MIB, is_zero, lvs, sh

#: Does `{action}` for the subcommand `{subcommand}`, and is the real one for any other.
_BAD_LVM = """#!/bin/sh
if [ "$1" = {subcommand} ]; then {action}; fi
exec {lvm} "$@"
"""

#: An agent that does not wait for minutes.
_IMPATIENT_AGENT = """
from virtstore.agent.__main__ import main
from virtstore.backends.lvm import command
from virtstore.backends.lvm import report
command._TIMEOUT = report._TIMEOUT = 3
main()
"""

Bad = Callable[[str, str], None]


@pytest.fixture
def bad(here: virtstore.Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bad:
    """Give the agents that are started now an `lvm` with one subcommand that does something
    else."""
    real = sh("command -v lvm")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def make(subcommand: str, action: str) -> None:
        program = tmp_path / "lvm"
        program.write_text(_BAD_LVM.format(subcommand=subcommand, action=action, lvm=real))
        program.chmod(0o755)

    return make


@pytest.fixture
def impatient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agents that are started now wait for 3 s only."""
    program = tmp_path / "impatient.py"
    program.write_text(_IMPATIENT_AGENT)
    monkeypatch.setenv("VIRTSTORE_AGENT", f"{sys.executable} -P {program}")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [str(Path(sys.executable).with_name("virtstore")), *arguments]
    return subprocess.run(
        argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=60
    )


def test_four_clients_at_once_make_four_volumes(here: virtstore.Host) -> None:
    def create(number: int) -> str:
        with virtstore.connect("local:") as client:
            return client.create(f"/dev/vg0/v{number}", 5 * MIB).path

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(create, range(4)))
    assert lvs() == {f"v{number}" for number in range(4)}
    assert all(is_zero(path) for path in made)
    assert "virtstore" not in sh("lvs --noheadings -o lv_tags vg0")


def test_two_clients_at_once_make_one_volume(here: virtstore.Host) -> None:
    def create(_: int) -> str:
        try:
            with virtstore.connect("local:") as client:
                client.create("/dev/vg0/web", 8 * MIB)
        except virtstore.Error as error:
            return error.code
        return "done"

    with ThreadPoolExecutor(2) as pool:
        ends = sorted(pool.map(create, range(2)))
    assert ends in (["done", "exists"], ["done", "in-use"])
    assert lvs() == {"web"}


@pytest.mark.parametrize(
    ("subcommand", "action", "told"),
    [
        ("fullreport", 'echo \'{"report": [{"lv": [{"lv_name": 7}]}]}\'; exit 0', "no report"),
        ("fullreport", "echo Segmentation fault; exit 0", "no report"),
        ("fullreport", "echo '  metadata is damaged' >&2; exit 5", "metadata is damaged"),
        ("lvcreate", "echo '  no thanks' >&2; exit 5", "no thanks"),
        ("lvcreate", "kill -SEGV $$", "lvcreate failed"),
    ],
)
def test_an_lvm_that_fails_is_told_and_nothing_is_left(
    bad: Bad, subcommand: str, action: str, told: str
) -> None:
    bad(subcommand, action)
    with virtstore.connect("local:") as here, pytest.raises(virtstore.Error) as raised:
        here.create("/dev/vg0/web", 8 * MIB)
    assert (raised.value.code, raised.value.exit_status) == ("failed", 1)
    assert told in raised.value.message
    assert "defect" not in raised.value.message
    assert lvs() == set()


def test_a_failure_after_the_volume_was_made_is_shown_as_partial_and_cleaned(
    bad: Bad, here: virtstore.Host
) -> None:
    bad("lvrename", "echo '  not now' >&2; exit 5")
    ended = run("create", "/dev/vg0/web", "8M")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "not now" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert {(e.path, e.state) for e in here.list("/dev/vg0")} <= {("/dev/vg0/web", "partial")}
    here.clean("/dev/vg0")
    assert lvs() == set()


@pytest.mark.parametrize("subcommand", ["lvcreate", "lvrename"])
def test_a_change_that_hangs_is_told_and_left_alone_and_nothing_gets_its_final_name(
    bad: Bad, impatient: None, here: virtstore.Host, subcommand: str
) -> None:
    bad(subcommand, "exec sleep 100")
    ended = run("create", "/dev/vg0/web", "8M")
    assert (ended.returncode, ended.stdout) == (1, "")
    told = re.search(r"lvm has not ended within 3 s; .*\(pid (\d+)\)", ended.stderr)
    assert told, ended.stderr
    left = int(told[1])
    try:
        assert Path(f"/proc/{left}/cmdline").read_bytes() == b"sleep\x00100\x00"
        assert {e.state for e in here.list("/dev/vg0")} <= {"partial"}
        # Nobody waits for it: what it would have done, another command can do.
        here.create("/dev/vg0/other", 8 * MIB)
    finally:
        os.kill(left, signal.SIGKILL)
    here.clean("/dev/vg0")
    assert lvs() == {"other"}


def test_a_report_that_hangs_is_told_and_stopped(
    bad: Bad, impatient: None, here: virtstore.Host
) -> None:
    bad("fullreport", "exec sleep 100")
    ended = run("create", "/dev/vg0/web", "8M")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "lvm did not end within 3 s and was stopped" in ended.stderr
    assert sh("pgrep -f 'sleep 10[0]' || true") == ""
    assert lvs() == set()


def test_too_large_a_volume_is_no_space_and_leaves_nothing(here: virtstore.Host) -> None:
    image = here.create("/dev/vg0/web", 8 * MIB)
    asks = (
        lambda: here.create("/dev/vg0/big", "1G"),
        lambda: image.grow("+1G"),
        lambda: here.create("/dev/vg0/big", "1G", dry_run=True),
        lambda: image.grow("+1G", dry_run=True),
    )
    for ask in asks:
        with pytest.raises(virtstore.NoSpace):
            ask()
    sh("lvcreate -qq -y --type thin-pool -Zn -L 16M -n unzeroed vg0")
    with pytest.raises(virtstore.NoSpace):
        here.create("/dev/vg0/thin", 64 * MIB, thin="unzeroed")
    assert lvs("-S lv_role=public") == {"web"}
    assert image.info().size == 8 * MIB
    assert "virtstore" not in sh("lvs --noheadings -o lv_tags vg0")


def test_a_dry_run_on_volumes_plans_what_there_is_room_for(here: virtstore.Host) -> None:
    image = here.create("/dev/vg0/web", 8 * MIB)
    assert here.create("/dev/vg0/new", "16M", dry_run=True).result.plan
    assert image.grow("+16M", dry_run=True).plan
    assert image.copy(here.image("/dev/vg0/copy"), dry_run=True).size == 8 * MIB
    assert lvs("-S lv_role=public") == {"web"}
    assert image.info().size == 8 * MIB


def test_no_such_pool_is_told(here: virtstore.Host) -> None:
    with pytest.raises(virtstore.Error) as raised:
        here.create("/dev/vg0/web", 8 * MIB, thin="none")
    assert "none" in raised.value.message
    assert lvs() == set()


def test_the_json_of_volumes_is_as_the_schemas_say(here: virtstore.Host) -> None:
    sh("lvcreate -qq --type thin-pool -L 16M -n pool vg0")

    def asked(name: str, *words: str) -> Any:
        document = json.loads(run(name, *words, "--json").stdout)
        check(name, document)
        return document

    for options in ([], ["--thin", "pool"]):
        name = "thin" if options else "thick"
        assert asked("create", f"/dev/vg0/{name}", "8M", *options)["changed"]
        assert asked("snapshot", f"/dev/vg0/{name}")["path"] == f"/dev/vg0/{name}-s1"
        info = asked("info", f"/dev/vg0/{name}")
        assert (info["owner"], info["modified"], info["domain"]) == (None, None, None)
    listed = asked("list", "-l", "/dev/vg0")
    assert {each["path"].removeprefix("/dev/vg0/"): each["type"] for each in listed} == {
        "thick": "lvm",
        "thick-s1": "lvm-snapshot",
        "thin": "lvm-thin",
        "thin-s1": "lvm-thin-snapshot",
    }
    assert {each["type"] for each in asked("list", "local:")} == {"volume-group", "directory"}
    [group] = asked("storage-info")["volume_groups"]
    assert [pool["name"] for pool in group["thin_pools"]] == ["pool"]
    assert asked("delete", "/dev/vg0/thick")["error"]["code"] == "in-use"
    assert asked("delete", "/dev/vg0/thick", "--with-snapshots")["changed"]
