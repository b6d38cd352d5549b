"""What is running on this host, as far as a session may see it, for `virtstore jobs`."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from virtstore.agent import status
from virtstore.agent.context import Agent
from virtstore.agent.policy import Policy
from virtstore.model import Job
from virtstore.protocol import ListedJobs, ListJobs

#: A message has an end, and a path up to 4 KiB.
_MOST: Final = 200


def list_jobs(agent: Agent, request: ListJobs) -> ListedJobs:
    seen = (_seen(agent.policy, written) for written in status.running())
    jobs = sorted(filter(None, seen), key=lambda job: (job.began, job.pid))
    return ListedJobs(tuple(jobs[:_MOST]))


def _seen(policy: Policy, written: status.Written) -> Job | None:
    """A job, by a path that this session may see; None where it may see none."""
    if written.job.path is None:  # of the host as a whole
        return None if policy.is_restricted else written.job
    visible = [path for path in (written.job.path, *written.others) if policy.may(path, "read")]
    return replace(written.job, path=visible[0]) if visible else None
