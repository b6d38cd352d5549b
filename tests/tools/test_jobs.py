"""What is running on a host is told while it runs, to whoever may see it, and no longer."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from tests.tools.meanwhile import Meanwhile
from tests.waiting import until

import virtstore
from virtstore.agent import locks

from . import test_agent_commands as commands

MIB: Final = 1 << 20
AGENT: Final = shlex.join([sys.executable, "-P", "-m", "virtstore.agent"])
KEYS: Final = [
    "host", "pid", "user", "from", "verb", "path", "began", "stage", "done", "total",
]  # fmt: skip


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two roots, the second called `other`; an image in the first."""
    config = tmp_path / "config.toml"
    text = ""
    for name in ("images", "other"):
        (tmp_path / name).mkdir(mode=0o700)
        text += f'[[directory]]\npath = "{tmp_path}/{name}"\naccess = "write"\n'
    config.write_text(f'log = "none"\n{text}')
    monkeypatch.setenv("VIRTSTORE_CONFIG", str(config))
    (tmp_path / "images" / "x.img").write_bytes(os.urandom(3 * MIB))
    return tmp_path / "images"


class Other:
    """Another session of the same user, by an agent that does not wait."""

    def __init__(self, images: Path, *options: str) -> None:
        self._images = images
        self._options = options

    def jobs(self) -> list[virtstore.Job]:
        """The jobs in the directories of this test."""
        agent = os.environ.pop("VIRTSTORE_AGENT", None)
        os.environ["VIRTSTORE_AGENT"] = " ".join([AGENT, *self._options])
        try:
            with virtstore.connect() as host:
                found = host.jobs()
        finally:
            os.environ.pop("VIRTSTORE_AGENT")
            if agent:
                os.environ["VIRTSTORE_AGENT"] = agent
        ours = str(self._images.parent)
        return [job for job in found if job.path and job.path.startswith(ours)]


def job_of(other: Other) -> virtstore.Job:
    """The one job that there is, once it is told to be where its agent waits (`Meanwhile`). Agents
    tell twice a second how far they are: on a busy machine also before they have any data."""
    found: list[virtstore.Job] = []

    def told() -> bool:
        found[:] = other.jobs()
        return any(job.done for job in found)

    until(told, "a job to be told of with data")
    (job,) = found
    return job


def test_a_copy_is_told_while_it_runs_and_not_afterwards(
    images: Path, meanwhile: Meanwhile
) -> None:
    other = Other(images)
    assert other.jobs() == []
    seen: list[virtstore.Job] = []
    with virtstore.connect() as host:
        target = host.image(f"{images}/y.img")
        progress = meanwhile(lambda: seen.append(job_of(other)))
        host.image(f"{images}/x.img").copy(target, progress=progress)
        assert other.jobs() == []  # its agent is there still
    (job,) = seen
    assert (job.host, job.verb, job.path) == ("local", "copy", f"{images}/y.img")
    assert (job.stage, job.total, 0 < job.done <= 3 * MIB) == ("copying", 3 * MIB, True)
    assert job.pid not in (0, os.getpid())
    assert timedelta(0) <= datetime.now(UTC) - job.began < timedelta(hours=1)
    assert job.from_ is None


def test_a_job_is_printed_with_its_keys_and_for_people(
    images: Path, meanwhile: Meanwhile, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    told: list[dict[str, object]] = []

    def look() -> None:
        job_of(Other(images))
        with monkeypatch.context() as patched:
            patched.setenv("VIRTSTORE_AGENT", AGENT)
            shown.append(commands.virtstore("jobs").stdout)
            told.extend(commands.told("jobs", "local:"))

    with virtstore.connect() as host:
        host.image(f"{images}/x.img").copy(host.image(f"{images}/y.img"), progress=meanwhile(look))
    ours = [job for job in told if str(job["path"]).startswith(str(images))]
    assert [list(job) for job in ours] == [KEYS]
    (line,) = [line for line in shown[0].splitlines() if str(images) in line]
    assert "copy" in line
    assert "copying" in line
    assert "%" in line


def test_a_restricted_key_sees_jobs_on_its_own_roots_only(
    images: Path, meanwhile: Meanwhile
) -> None:
    elsewhere = images.parent / "other"
    seen: list[list[virtstore.Job]] = []

    def look() -> None:
        job_of(Other(images))
        for root in (elsewhere, images, images.parent / "neither"):
            seen.append(Other(images, f"--restrict-to {root}").jobs())

    with virtstore.connect() as host:
        host.image(f"{images}/x.img").copy(
            host.image(f"{elsewhere}/y.img"), progress=meanwhile(look)
        )
    paths = [[job.path for job in found] for found in seen]
    assert paths == [[f"{elsewhere}/y.img"], [f"{images}/x.img"], []]


def test_who_runs_it_is_told(
    images: Path, meanwhile: Meanwhile, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[virtstore.Job] = []
    agent = os.environ["VIRTSTORE_AGENT"]
    config = os.environ["VIRTSTORE_CONFIG"]
    ssh = "SSH_CONNECTION='192.0.2.7 50000 192.0.2.1 22'"
    monkeypatch.setenv("VIRTSTORE_AGENT", f"env {ssh} {agent} --config {config}")
    with virtstore.connect() as host:
        host.image(f"{images}/x.img").copy(
            host.image(f"{images}/y.img"),
            progress=meanwhile(lambda: seen.append(job_of(Other(images)))),
        )
    assert seen[0].from_ == "192.0.2.7"


def test_the_job_of_an_agent_that_was_killed_is_gone(images: Path, meanwhile: Meanwhile) -> None:
    other = Other(images)
    files: list[list[str]] = []

    def kill() -> None:
        job = job_of(other)
        files.append(files_of(job.pid))
        os.kill(job.pid, signal.SIGKILL)

    with virtstore.connect() as host, pytest.raises(virtstore.ConnectionFailed):
        host.image(f"{images}/x.img").copy(host.image(f"{images}/y.img"), progress=meanwhile(kill))
    ((file,),) = files
    until(lambda: other.jobs() == [], "the agent's locks to go with it")
    assert not os.path.exists(file)


def files_of(pid: int) -> list[str]:
    """The files in which an agent says what it does."""
    return [
        str(path)
        for directory in locks.directories()
        for path in Path(directory, "jobs").glob(f"{pid}-*")
    ]


def test_an_agent_that_cannot_tell_what_it_does_does_it_all_the_same(
    images: Path, meanwhile: Meanwhile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the directory of jobs would be, there is a file."""
    agent = os.environ["VIRTSTORE_AGENT"]
    if os.geteuid() != 0:
        pytest.skip("only root mounts")
    jobs = "mkdir -m 700 /run/virtstore; touch /run/virtstore/jobs"
    line = f"mount -t tmpfs -o mode=700 none /run; {jobs}\nexec {agent}"
    monkeypatch.setenv("VIRTSTORE_AGENT", shlex.join(["unshare", "--mount", "sh", "-ec", line]))
    with virtstore.connect() as host:
        copied = host.image(f"{images}/x.img").copy(
            host.image(f"{images}/y.img"), progress=meanwhile(lambda: None)
        )
    assert copied.size == 3 * MIB


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_another_user_is_told_nothing_of_it(
    images: Path, meanwhile: Meanwhile, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = images.parent / "theirs.toml"
    theirs.write_text(f'[[directory]]\npath = "{images}"\naccess = "read"\n')
    for each in (images.parent.parent.parent, images.parent.parent, images.parent, images):
        each.chmod(0o755)
    theirs.chmod(0o644)
    seen: list[list[virtstore.Job]] = []

    def look() -> None:
        job_of(Other(images))
        with monkeypatch.context() as patched:
            nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups"
            patched.setenv("VIRTSTORE_AGENT", f"{nobody} {AGENT}")
            with virtstore.connect(config=str(theirs)) as host:
                seen.append(host.jobs())

    with virtstore.connect() as host:
        host.image(f"{images}/x.img").copy(host.image(f"{images}/y.img"), progress=meanwhile(look))
    assert [[job for job in found if job.path] for found in seen] == [[]]
