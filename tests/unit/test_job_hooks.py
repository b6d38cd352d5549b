"""The hooks of a job: when they run, what they are told, and what one that fails does."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from virtstore import meeting_place
from virtstore.backups.hooks import Outcome
from virtstore.backups.job_file import Hooks, Job, JobFile
from virtstore.cli import by_job
from virtstore.errors import Error, NoSpace

_VARIABLES = "env | sort | grep ^VIRTSTORE_"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where turns are kept, and where hooks write to."""
    monkeypatch.setattr(meeting_place, "directories", lambda: [str(tmp_path)])
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("VIRTSTORE_")]:
        monkeypatch.delenv(name)
    return tmp_path


def job(**hooks: str) -> Job:
    said = JobFile(target="b:/srv/backups", hooks=Hooks(**hooks))
    return Job("web", "/etc/virtstore/backup/web.toml", said)


def run(outcome: Outcome | Exception | type[BaseException], **hooks: str) -> int:
    def work() -> Outcome:
        Path("work").touch()
        if isinstance(outcome, Outcome):
            return outcome
        raise outcome

    return by_job.run(job(**hooks), work)


def test_hooks_run_around_the_work_and_failed_only_where_it_failed(directory: Path) -> None:
    hooks = {
        "before": "test ! -e work && echo before >> log",
        "after": "test -e work && echo after >> log",
        "failed": "echo failed >> log",
    }
    assert run(Outcome(0), **hooks) == 0
    assert Path("log").read_text().split() == ["before", "after"]
    Path("work").unlink()
    assert run(Outcome(7), **hooks) == 7
    assert Path("log").read_text().split()[2:] == ["before", "after", "failed"]


def test_a_hook_is_told_what_happened(directory: Path) -> None:
    outcome = Outcome(7, "b: no room", 2, 1, 5 << 20, 63, '[{"source": "a:/web"}]')
    hooks = {hook: f"{_VARIABLES} > {hook}; cat > {hook}.json" for hook in ("before", "after")}
    run(outcome, **hooks)
    about = [
        "VIRTSTORE_FAILED=1",
        "VIRTSTORE_HOOK=after",
        "VIRTSTORE_JOB=web",
        "VIRTSTORE_JOB_FILE=/etc/virtstore/backup/web.toml",
        "VIRTSTORE_MADE=2",
        "VIRTSTORE_MESSAGE=b: no room",
        "VIRTSTORE_SECONDS=63",
        "VIRTSTORE_STATUS=7",
        "VIRTSTORE_TARGET=b:/srv/backups",
        "VIRTSTORE_TRANSFERRED=5242880",
    ]
    assert Path("after").read_text().splitlines() == about
    assert json.loads(Path("after.json").read_text()) == [{"source": "a:/web"}]
    assert Path("before").read_text().splitlines() == [
        line.replace("=after", "=before") for line in about if line[10:13] in ("HOO", "JOB", "TAR")
    ]
    assert Path("before.json").read_text() == ""


def test_a_hook_before_that_fails_keeps_the_job_from_running(directory: Path) -> None:
    hooks = {"before": "exit 3", "after": "touch after", "failed": f"{_VARIABLES} > failed"}
    with pytest.raises(Error, match="the hook 'before' of the job web exited with 3: exit 3"):
        run(Outcome(0), **hooks)
    assert not Path("work").exists()
    assert Path("after").exists()
    assert "VIRTSTORE_MESSAGE=/etc/virtstore/backup/web.toml: the hook 'before'" in (
        Path("failed").read_text()
    )


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (NoSpace("no room", host="b", path="/x"), 7),
        (KeyboardInterrupt, 130),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1),  # of what prints the outcome
    ],
)
def test_hooks_run_after_what_ended_the_job(
    directory: Path, raised: Exception | type[BaseException], status: int
) -> None:
    with pytest.raises((NoSpace, KeyboardInterrupt, BrokenPipeError)):
        run(
            raised, after="echo $VIRTSTORE_STATUS > after", failed="echo $VIRTSTORE_STATUS > failed"
        )
    assert [Path(name).read_text() for name in ("after", "failed")] == [f"{status}\n"] * 2


def test_a_hook_after_that_fails_is_no_success(
    directory: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(Outcome(0), after="echo printed; exit 4", failed="touch failed") == 1
    assert Path("failed").exists()
    told = capfd.readouterr()
    assert "exited with 4" in told.err
    assert "printed" in told.err
    assert told.out == ""  # that has the results


def test_a_hook_that_is_killed_is_told(directory: Path) -> None:
    with pytest.raises(Error, match="was ended by SIGKILL"):
        run(Outcome(0), before="kill -9 $$")


def test_a_hook_need_not_read_what_it_is_told(directory: Path) -> None:
    assert run(Outcome(0, told=json.dumps(["x" * 4_000_000])), after="true") == 0


def test_no_message_is_too_long_to_be_told(directory: Path) -> None:
    assert run(Outcome(1, "x" * 300_000), failed="touch failed") == 1
    assert Path("failed").exists()


def test_hooks_are_told_what_was_made_where_it_could_not_be_printed(directory: Path) -> None:
    full = NoSpaceOnTheScreen(errno.ENOSPC, "No space left on device")
    outcome = Outcome(1, "not printed", 2, untold=full)
    with pytest.raises(NoSpaceOnTheScreen):
        run(outcome, failed="echo $VIRTSTORE_MADE $VIRTSTORE_STATUS > seen")
    assert Path("seen").read_text() == "2 1\n"


class NoSpaceOnTheScreen(OSError):
    pass
