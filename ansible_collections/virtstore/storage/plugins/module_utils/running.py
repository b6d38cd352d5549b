"""`virtstore --json`, run by a module: words go in, an answer or a failure comes out.

virtstore is never imported: it may have another Python than Ansible, and its JSON is what it
promises not to break.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from ansible_collections.virtstore.storage.plugins.module_utils.failure import (
    Failure,
    failure_in,
)

#: A document of JSON's that is an object.
Answer = dict[str, Any]


class Module(Protocol):
    """What is used of Ansible's AnsibleModule."""

    params: dict[str, Any]
    check_mode: bool
    _diff: bool

    def get_bin_path(self, arg: str, required: bool = False) -> str | None: ...

    def run_command(self, args: list[str]) -> tuple[int, str, str]: ...

    def warn(self, warning: str) -> None: ...

    def exit_json(self, **result: object) -> NoReturn: ...

    def fail_json(self, msg: str, **result: object) -> NoReturn: ...


@dataclass(frozen=True)
class Found:
    """An image that is there. `size` is None where its format does not tell; `info` is all that
    virtstore tells of it."""

    size: int | None
    partial: bool
    snapshot_of: str | None
    path: str
    info: Answer


class Virtstore:
    """Runs the command. `changed`: whether something was changed, also where what came after that
    failed."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._warned: list[str] = []
        self.check_mode = module.check_mode
        self.changed = False
        asked = str(module.params["executable"])
        found = module.get_bin_path(asked)
        if found is None:
            raise Failure(
                "not-installed",
                f"{asked} is not there: install virtstore on the machine on which this task runs,"
                " name it with 'executable', or let the task run where it is (delegate_to)",
            )
        self._executable = found

    def ask(self, verb: str, *words: str) -> Any:
        """The answer of a command that changes nothing. One of several locations is a list, in
        which some may be failures. Raises Failure where that is all there is."""
        status, printed, said = self._module.run_command(
            [self._executable, verb, "--json", "--no-progress", *words]
        )
        try:
            answer = json.loads(printed)
        except ValueError:
            told = (said or printed).strip() or "it said nothing"
            raise Failure(
                "failed", f"{self._executable} {verb} ended with status {status}: {told}"
            ) from None
        if failure := failure_in(answer):
            raise failure
        self._warn_of(answer)
        return answer

    def plan(self, verb: str, *words: str) -> Any:
        """The answer of a dry run."""
        return self.ask(verb, "--dry-run", *words)

    def change(self, verb: str, *words: str) -> Any:
        """The answer of a command that changes something; of its dry run in check mode."""
        if self.check_mode:
            return self.plan(verb, *words)
        answer = self.ask(verb, *words)
        if not isinstance(answer, dict) or answer.get("changed", True):
            self.changed = True
        return answer

    def image(self, location: str) -> Found | None:
        """The image at a location; None where there is none."""
        return self.images(location)[0]

    def images(self, *there: str) -> list[Found | None]:
        """The images at locations, by one command; None where there is none. Raises Failure."""
        try:
            answer = self.ask("info", *there)
        except Failure as failure:
            answer = {"error": failure.told()}
        return [_found(each) for each in (answer if isinstance(answer, list) else [answer])]

    def warn(self, warning: str) -> None:
        """Tell whoever runs the playbook, once."""
        if warning not in self._warned:
            self._warned.append(warning)
            self._module.warn(warning)

    def _warn_of(self, answer: object) -> None:
        """What virtstore notes of an image or a copy is for people, too."""
        if isinstance(answer, dict):
            about = answer.get("path") or answer.get("target") or answer.get("host") or ""
            for each in answer.get("warnings", ()):
                self.warn(f"{about}: {each}")


def _found(answer: Answer) -> Found | None:
    """The image of which an answer tells; None where it says that there is none. Raises Failure."""
    failure = failure_in(answer)
    if failure is None:
        size, state, origin = answer["size"], answer["state"], answer["snapshot_of"]
        return Found(size, state == "partial", origin, answer["path"], answer)
    if failure.code != "not-found":
        raise failure
    return None


def options(module: Module, flags: Sequence[str], values: Sequence[str] = ()) -> list[str]:
    """The words of a command for parameters of a module, which are called like its options: `flags`
    that are true, and `values` that are given. A value stands behind a `=`, whatever it begins
    with."""
    params = module.params
    words = [_option(name) for name in flags if params[name]]
    for name in values:
        value: str | int | list[str] | None = params[name]
        if value is not None:
            several = value if isinstance(value, list) else [value]
            words += [f"{_option(name)}={each}" for each in several]
    return words


def quiescing(module: Module) -> list[str]:
    """The same for `quiesce`, which may have a value or none."""
    words = {"true": ["--quiesce"], "try": ["--quiesce=try"]}
    return words.get(module.params["quiesce"], [])


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
