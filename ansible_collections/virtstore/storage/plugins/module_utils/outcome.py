"""What became of a task, and how Ansible is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.virtstore.storage.plugins.module_utils.failure import Failure
from ansible_collections.virtstore.storage.plugins.module_utils.running import Module, Virtstore

#: What the options that all modules have are to Ansible.
COMMON: dict[str, dict[str, Any]] = {"executable": {"type": "path", "default": "virtstore"}}

#: What there is of an image that is not there, in a difference.
ABSENT = {"state": "absent"}


@dataclass(frozen=True)
class Outcome:
    """`before` and `after`: what is shown as the difference. `result`: further keys of the task's
    result."""

    changed: bool
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    failure: Failure | None = None


def present(size: int | None, **more: object) -> dict[str, object]:
    """What there is of an image, in a difference."""
    return {"state": "present", "size": size, **more}


def conclude(module: Module, work: Callable[[Module, Virtstore], Outcome]) -> None:
    """Do the work, and end the module with what it led to."""
    virtstore: Virtstore | None = None
    try:
        virtstore = Virtstore(module)
        outcome = work(module, virtstore)
    except Failure as failure:
        outcome = _failed(module, virtstore, failure)
    result = {"changed": outcome.changed, **outcome.result}
    if module._diff and outcome.before != outcome.after:
        result["diff"] = {"before": outcome.before, "after": outcome.after}
    if outcome.failure:
        module.fail_json(str(outcome.failure), error=outcome.failure.told(), **result)
    module.exit_json(**result)


def missing(failure: Failure) -> str:
    """The warning about what is not there in check mode."""
    return f"{failure}; this fails, unless an earlier task makes it"


def _failed(module: Module, virtstore: Virtstore | None, failure: Failure) -> Outcome:
    """What a failure means. In check mode an earlier task may be about to make what is missing."""
    if module.check_mode and failure.code == "not-found":
        module.warn(missing(failure))
        return Outcome(changed=True)
    return Outcome(changed=virtstore is not None and virtstore.changed, failure=failure)
