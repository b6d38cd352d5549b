"""What a job does around its work: it waits for its turn, and runs its hooks.

The hook `before` can keep the work from being done. `after` is run whatever became of it, also
where `before` failed, the command was interrupted, or nobody reads what it prints; and then
`failed` where the exit status is not 0. A hook that fails is an error of the job's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager

from virtstore.backups import hooks
from virtstore.backups.hooks import Outcome
from virtstore.backups.job_file import Job
from virtstore.backups.turns import turn
from virtstore.cli.render import print_error
from virtstore.errors import Error, Interrupted


def run(job: Job, work: Callable[[], Outcome]) -> int:
    """Do a job, and return its exit status. `work` makes the backups and prints what came of it;
    what it raises, or could not print, is raised once the hooks have run."""
    with turn_of(job):
        try:
            hooks.before(job)
            outcome = work()
        except Error as error:
            _afterwards(job, Outcome(error.exit_status, str(error)))
            raise
        except KeyboardInterrupt:
            _afterwards(job, Outcome(Interrupted.exit_status, "interrupted"))
            raise
        except Exception as error:
            _afterwards(job, Outcome(Error.exit_status, f"its end could not be told: {error}"))
            raise
        status = _afterwards(job, outcome)
        if outcome.untold:
            raise outcome.untold
        return status


def _afterwards(job: Job, outcome: Outcome) -> int:
    """Run what comes after the work. Returns the exit status then."""
    outcome = _hooked(hooks.after, job, outcome)
    if outcome.status:
        outcome = _hooked(hooks.failed, job, outcome)
    return outcome.status


def _hooked(hook: Callable[[Job, Outcome], None], job: Job, outcome: Outcome) -> Outcome:
    try:
        hook(job, outcome)
    except Error as error:
        print_error(error, as_json=False)
        status, message = outcome.status or error.exit_status, outcome.message or str(error)
        return outcome._replace(status=status, message=message)
    return outcome


def turn_of(job: Job) -> AbstractContextManager[None]:
    """The turn of a job, among those with its target."""
    return turn(job.said.target, lambda: _say_that_it_waits(job))


def _say_that_it_waits(job: Job) -> None:
    text = f"another job with the target {job.said.target} is running; {job.name} waits for its end"
    print(f"virtstore: {text}", file=sys.stderr, flush=True)
