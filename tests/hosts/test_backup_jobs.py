"""`backup --job`: what a file says is done, with its hooks, and as systemd's unit does it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from ..waiting import PATIENCE, until
from .command import Client, Ended, ended
from .conftest import random_image
from .sshd import Remote
from .trees import MIB

_UNITS: Final = Path(__file__).parents[2] / "release/systemd"
_NAME: Final = r"web\.\d{4}-\d\d-\d\dT\d{6}Z\.img\.zst"
Job = Callable[..., Path]


@pytest.fixture
def backups(b: Remote) -> Path:
    directory = b.images / "backups"
    directory.mkdir()
    return directory


@pytest.fixture
def job(client: Client, a: Remote, b: Remote, backups: Path) -> Job:
    """What writes a job of `web.img` on a, with more lines."""
    image = random_image(a.images / "web.img", 4 * MIB)

    def written(more: str = "") -> Path:
        file = Path(client.environment["XDG_CONFIG_HOME"], "virtstore/backup/nightly.toml")
        file.parent.mkdir(exist_ok=True)
        lines = f'sources = ["{a.at(image)}"]\ntarget = "{b.at(backups)}"\n{more}'
        file.write_text(lines if "sources" not in more else more)
        return file

    return written


def test_a_job_backs_up_what_its_file_says(client: Client, job: Job, backups: Path) -> None:
    job('jobs = 2\nbwlimit = "500M"\nnice = true\nverify = true\n')
    [done] = client.json("backup", "--job", "nightly")
    assert re.fullmatch(_NAME, Path(done["target"]).name)
    assert [path.name for path in backups.iterdir()] == [Path(done["target"]).name]


def test_hooks_are_told_what_was_printed(client: Client, job: Job, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    job(f'[hooks]\nafter = "cat > {seen}; echo $VIRTSTORE_MADE $VIRTSTORE_TRANSFERRED"')
    done = client.run("backup", "--job", "nightly", "--json")
    assert json.loads(seen.read_text()) == done.json
    assert done.stderr == f"1 {done.json[0]['transferred']}\n"


def test_a_source_that_fails_stops_no_other_and_is_told(
    client: Client, job: Job, a: Remote, b: Remote, backups: Path, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    sources = f'"{a.at(a.images / "none.img")}", "{a.at(a.images / "web.img")}"'
    job(f'sources = [{sources}]\ntarget = "{b.at(backups)}"\n[hooks]\nfailed = "env > {seen}"')
    assert client.run("backup", "--job", "nightly").status == 3
    told = seen.read_text().splitlines()
    assert {"VIRTSTORE_STATUS=3", "VIRTSTORE_MADE=1", "VIRTSTORE_FAILED=1"} <= {*told}
    [message] = [line for line in told if line.startswith("VIRTSTORE_MESSAGE=")]
    assert "none.img: no such image" in message
    assert len(list(backups.iterdir())) == 1


def test_a_target_that_cannot_be_reached_is_told(
    client: Client, job: Job, a: Remote, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    job(
        f'sources = ["{a.at(a.images / "web.img")}"]\ntarget = "nowhere.invalid:/srv"\n'
        f'[hooks]\nfailed = "echo $VIRTSTORE_STATUS > {seen}"'
    )
    client.run("backup", "--job", "nightly", "--json").error("connection")
    assert seen.read_text() == "10\n"


def test_a_dry_run_runs_no_hook(client: Client, job: Job, backups: Path, tmp_path: Path) -> None:
    job(f'[hooks]\nbefore = "touch {tmp_path}/x"\nafter = "touch {tmp_path}/x"')
    assert "would back up" in client.run("backup", "--job", "nightly", "--dry-run").stdout
    assert list(backups.iterdir()) == list(tmp_path.glob("x")) == []


def test_hooks_run_after_ctrl_c(client: Client, job: Job, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    job(f'bwlimit = "1M"\n[hooks]\nafter = "echo $VIRTSTORE_STATUS > {seen}"')
    running = client.under_way("backup", "--job", "nightly", until=MIB)
    running.ctrl_c()
    running.end().error("interrupted")
    assert seen.read_text() == "130\n"


def test_what_ends_a_job_ends_what_its_hook_started(
    client: Client, job: Job, backups: Path, tmp_path: Path
) -> None:
    pid, seen = tmp_path / "pid", tmp_path / "seen"
    before = f"sleep 600 & echo $! > {pid}.new; mv {pid}.new {pid}; wait"
    job(f'[hooks]\nbefore = "{before}"\nafter = "echo $VIRTSTORE_STATUS > {seen}"')
    running = client.start("backup", "--job", "nightly")
    until(pid.exists, "the hook")
    running.terminate()
    assert ended(running).status == 130
    until(lambda: not _runs(int(pid.read_text())), "the end of what it started")
    assert seen.read_text() == "130\n"
    assert list(backups.iterdir()) == []


def _runs(pid: int) -> bool:
    """Whether a process is there, and is no zombie that nobody waits for."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_second_job_with_the_target_waits(
    client: Client, job: Job, backups: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    file = job(f'[hooks]\nafter = "cat {gate}"')
    first = client.start("backup", "--job", "nightly")
    until(lambda: list(backups.glob("*.zst")), "the first backup")
    file.write_text(file.read_text().partition("[hooks]")[0])
    second = client.start("backup", "--job", "nightly")
    assert second.stderr
    assert b"another job with the target" in second.stderr.readline()
    assert len(list(backups.glob("*.zst"))) == 1
    gate.write_text("")
    assert [ended(each).status for each in (first, second)] == [0, 0]
    assert len(list(backups.glob("*.zst"))) == 2


@pytest.mark.parametrize("words", [["a:/x", "b:/y"], ["--nice"], ["-j", "2"]])
def test_what_is_typed_beside_a_job_is_refused(client: Client, job: Job, words: list[str]) -> None:
    job("")
    error = client.run("backup", "--job", "nightly", *words, "--json").error("usage")
    assert "its file says all that is done" in error["message"]


def test_a_job_without_sources_backs_nothing_up(
    client: Client, job: Job, b: Remote, backups: Path
) -> None:
    file = job("")
    file.write_text(f'target = "{b.at(backups)}"')
    error = client.run("backup", "--job", str(file), "--json").error("usage")
    assert "has no sources" in error["message"]


def old(directory: Path, *nights: str) -> list[Path]:
    """Backups of other nights, as far as their names tell."""
    [backup] = directory.glob("web.*")
    there = [directory / f"web.{night}.img.zst" for night in nights]
    for path in there:
        path.write_bytes(backup.read_bytes())
    return there


def test_a_job_removes_what_its_rules_do_not_keep(
    client: Client, job: Job, backups: Path, b: Remote
) -> None:
    """By hand, on a backup host to which others only add."""
    job()
    client.json("backup", "--job", "nightly")
    first, second = old(backups, "2026-11-01T010203Z", "2026-11-02T010203Z")
    file = job("max_age = '26h'\n[keep]\nlast = 2")
    assert client.json("prune", "--job", "nightly", "--dry-run")["changed"] is False
    assert first.exists()
    file.write_text(f'target = "{b.at(backups)}"\n[keep]\nlast = 2')
    client.json("prune", "--job", str(file))
    assert not first.exists()
    assert second.exists()


def test_a_job_looks_for_backups_that_are_late(client: Client, job: Job, backups: Path) -> None:
    job("max_age = '26h'")
    assert "no backup" in client.run("backups", "--job", "nightly").stderr
    client.json("backup", "--job", "nightly")
    assert client.run("backups", "--job", "nightly").status == 0
    [backup] = backups.iterdir()
    backup.rename(backups / "web.2026-11-02T010203Z.img.zst")
    late = client.run("backups", "--job", "nightly")
    assert late.status == 1
    assert "web" in late.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["prune"], "does not say what is to stay; write .keep."),
        (["prune", "--keep-last", "2"], "leave the rest out"),
        (["prune", "b:/x"], "leave the rest out"),
        (["backups"], "has no max_age, so nothing is late"),
        (["backups", "--max-age", "26h"], "leave the rest out"),
        (["backups", "b:/x"], "leave the rest out"),
    ],
)
def test_a_job_that_says_too_little_and_what_is_typed_beside_one_are_refused(
    client: Client, job: Job, words: list[str], says: str
) -> None:
    job()
    error = client.run(*words, "--job", "nightly", "--json").error("usage")
    assert re.search(says, error["message"])


@pytest.mark.parametrize("verb", ["prune", "backups"])
def test_neither_a_directory_nor_a_job_is_refused(client: Client, verb: str) -> None:
    error = client.run(verb, "--json").error("usage")
    assert f"write virtstore {verb} DIRECTORY, or virtstore {verb} --job NAME" in error["message"]


def unit(client: Client, unit: str, name: str) -> Ended:
    """Run what the service starts, as nearly as this can be without systemd: its command line, in a
    place where /usr and /etc are read-only, without the rights that it lacks, and with no more in
    its environment than systemd has there."""
    text = (_UNITS / f"{unit}@.service").read_text()
    [line] = re.findall(r"^ExecStart=(.*)$", text, re.M)
    argv = shlex.split(line.replace("%i", name).replace("/usr/bin/virtstore", client.argv()[0]))
    lacks = re.findall(r"CAP_(\w+)", " ".join(re.findall(r"^Capab.*$", text, re.M)))
    known = subprocess.run(["setpriv", "--list-caps"], capture_output=True, text=True).stdout
    dropped = ",".join(f"-{each.lower()}" for each in lacks if each.lower() in known.split())
    argv = ["setpriv", "--no-new-privs", "--bounding-set", dropped, *argv]
    read_only = "for d in /usr /etc; do mount --bind $d $d && mount -o remount,bind,ro $d; done"
    script = f"{read_only}; ! touch /etc/x && exec {shlex.join(argv)}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        env={
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
            **{key: client.environment[key] for key in ("XDG_CONFIG_HOME", "VIRTSTORE_RSH")},
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.mark.skipif(os.geteuid() != 0, reason="the units run as root")
def test_the_units_work_between_two_hosts_with_the_rights_that_they_have(
    client: Client, job: Job, backups: Path
) -> None:
    job("verify = true\nmax_age = '26h'\n")
    done = unit(client, "virtstore-backup", "nightly")
    assert done.status == 0, done
    [backup] = backups.iterdir()
    assert str(backup) in done.stdout  # which is what the journal has
    assert unit(client, "virtstore-backup-check", "nightly").status == 0
    [night] = old(backups, "2026-11-01T010203Z")
    job("[keep]\nlast = 1")
    assert unit(client, "virtstore-prune", "nightly").status == 0
    assert not night.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="the units run as root")
@pytest.mark.parametrize("name", ["virtstore-backup", "virtstore-backup-check", "virtstore-prune"])
def test_a_unit_fails_where_there_is_no_such_job(client: Client, job: Job, name: str) -> None:
    assert unit(client, name, "none").status == 3
