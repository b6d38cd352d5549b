"""The hooks of a job: commands of this machine's shell, before the job, after it, and where it
failed.

A hook runs as the user who runs the job, with the environment that the command itself has and the
variables below; nothing that virtstore uses to log in is added. The hooks `after` and `failed` get
on standard input what `backup --json` prints. That is a file without a name: a hook need not read
it. What a hook prints goes to standard error, since standard output has the results.

    VIRTSTORE_JOB          the job's name
    VIRTSTORE_JOB_FILE     where it is written
    VIRTSTORE_HOOK         before, after or failed
    VIRTSTORE_TARGET       as the file has it
    VIRTSTORE_STATUS       the exit status that the command will have
    VIRTSTORE_MESSAGE      what went wrong, the first of it; else empty
    VIRTSTORE_MADE         how many backups were made
    VIRTSTORE_FAILED       how many sources have none
    VIRTSTORE_TRANSFERRED  bytes that were moved
    VIRTSTORE_SECONDS      how long it took, whole seconds

A hook `before` has the first four only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Final, NamedTuple

from virtstore.backups.job_file import Job
from virtstore.errors import Error

#: Characters of a message: a variable may have 128 KiB (execve(2), MAX_ARG_STRLEN).
_LONGEST: Final = 8192


class Outcome(NamedTuple):
    """What became of a job. `told`: the JSON that the command prints. `untold`: why that, or the
    text in its place, could not be printed."""

    status: int
    message: str = ""
    made: int = 0
    failed: int = 0
    transferred: int = 0
    seconds: int = 0
    told: str = "[]"
    untold: OSError | None = None


def before(job: Job) -> None:
    """Raises `Error` where the hook fails."""
    _run(job, "before", job.said.hooks.before, {}, "")


def after(job: Job, outcome: Outcome) -> None:
    """Raises `Error` where the hook fails."""
    _run(job, "after", job.said.hooks.after, _figures(outcome), outcome.told)


def failed(job: Job, outcome: Outcome) -> None:
    """Raises `Error` where the hook fails, too."""
    _run(job, "failed", job.said.hooks.failed, _figures(outcome), outcome.told)


def _figures(outcome: Outcome) -> dict[str, str]:
    return {
        "VIRTSTORE_STATUS": str(outcome.status),
        "VIRTSTORE_MESSAGE": outcome.message.replace("\0", "?")[:_LONGEST],
        "VIRTSTORE_MADE": str(outcome.made),
        "VIRTSTORE_FAILED": str(outcome.failed),
        "VIRTSTORE_TRANSFERRED": str(outcome.transferred),
        "VIRTSTORE_SECONDS": str(outcome.seconds),
    }


def _run(job: Job, hook: str, command: str | None, figures: dict[str, str], told: str) -> None:
    if command is None:
        return
    about = {
        "VIRTSTORE_JOB": job.name,
        "VIRTSTORE_JOB_FILE": job.file,
        "VIRTSTORE_HOOK": hook,
        "VIRTSTORE_TARGET": job.said.target,
    }
    with _file_of(told) as stdin:
        status = _ended(command, {**os.environ, **about, **figures}, stdin)
    if status:
        how = f"exited with {status}"
        if status < 0:
            how = f"was ended by {signal.Signals(-status).name}"
        raise Error(f"the hook {hook!r} of the job {job.name} {how}: {command}", path=job.file)


@contextmanager
def _file_of(text: str) -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as file:
        file.write(text.encode())
        file.seek(0)
        yield file


def _ended(command: str, environment: dict[str, str], stdin: IO[bytes]) -> int:
    """The exit status of a command. Whatever ends the wait for it (Ctrl-C) ends the command, with
    what it started."""
    argv = ["/bin/sh", "-c", command]
    with subprocess.Popen(argv, stdin=stdin, stdout=2, env=environment, process_group=0) as process:
        try:
            return process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            raise
