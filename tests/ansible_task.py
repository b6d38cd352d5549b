"""Tasks of Ansible's with the modules of the collection: each is run as Ansible runs a module, but
in this process, which saves starting a Python each time."""

from __future__ import annotations

import json
import locale
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any, Final
from unittest import mock

from ansible.module_utils import basic

_MODULES: Final = "ansible_collections.virtstore.storage.plugins.modules"
_EXECUTABLE: Final = str(Path(sys.executable).parent / "virtstore")

#: What Ansible gives a module in check mode.
CHECK_MODE: Final = {"_ansible_check_mode": True}

#: What it gives each that is to tell a difference.
_ALWAYS: Final = {"_ansible_diff": True}
_SAME: Final = ("changed", "diff", "failed", "error")


@dataclass(frozen=True)
class Tasks:
    """Runs tasks with an environment, which is all that virtstore gets."""

    environment: dict[str, str]

    def run(self, module: str, **params: object) -> dict[str, Any]:
        """The result of a task, `warnings` as texts."""
        warned: list[str] = []
        given = {"executable": _EXECUTABLE, **_ALWAYS, **params}
        with (
            mock.patch.dict(os.environ, self.environment, clear=True),
            _locale_kept(),
            _given(given),
            mock.patch.object(basic.AnsibleModule, "warn", lambda _, text: warned.append(text)),
            redirect_stdout(StringIO()) as printed,
        ):
            try:
                import_module(f"{_MODULES}.{module}").main()
            except SystemExit as ended:
                status = ended.code
        result: dict[str, Any] = json.loads(printed.getvalue())
        assert result.get("failed", False) == bool(status), result
        del result["invocation"]
        return {**result, "warnings": warned}

    def checked(self, module: str, **params: object) -> dict[str, Any]:
        """The result of a task in check mode."""
        return self.run(module, **params, **CHECK_MODE)

    def foretold(self, module: str, **params: object) -> dict[str, Any]:
        """The result of a task that does what check mode said that it would."""
        checked = self.checked(module, **params)
        done = self.run(module, **params)
        for key in _SAME:
            assert checked.get(key) == done.get(key), (checked, done)
        return done

    def done_once(self, module: str, **params: object) -> dict[str, Any]:
        """The same of one that changes something, after which the same task changes nothing."""
        done = self.foretold(module, **params)
        assert done["changed"], done
        again = self.run(module, **params)
        assert (again["changed"], again.get("diff")) == (False, None), again
        return done

    def refused(self, module: str, code: str, **params: object) -> dict[str, Any]:
        """The error of a task that fails with this code and changes nothing."""
        failed = self.run(module, **params)
        assert (failed.get("failed"), failed["changed"]) == (True, False), failed
        error: dict[str, Any] = failed["error"]
        assert error["code"] == code, failed
        assert error["message"] in failed["msg"]
        return error


@contextmanager
def _locale_kept() -> Iterator[None]:
    """A module sets the locale of its process to that of its environment, which is ours."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        yield
    finally:
        locale.setlocale(locale.LC_ALL, before)


@contextmanager
def _given(params: dict[str, object]) -> Iterator[None]:
    """What a module finds as its parameters, by the two names that Ansible's own starter sets.
    Nothing goes to this machine's log."""
    arguments = json.dumps({"ANSIBLE_MODULE_ARGS": params}).encode()
    with (
        mock.patch.object(basic, "_ANSIBLE_ARGS", arguments),
        mock.patch.object(basic, "_ANSIBLE_PROFILE", "legacy", create=True),
        mock.patch.object(basic, "HAS_SYSLOG", False),
    ):
        yield
