"""The lab's ring of tests: those in this directory boot labs, those in `inside/` run in one.

Without what the lab needs they fail and name the packages; nothing here skips, so that a
ring that did not run is not taken for one that passed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from .replay import IN_THE_LAB, INSIDE, InsideFile, note
from .uml import missing_packages

#: Set in the environment: run what takes long, too.
TORTURE: Final = "VIRTSTORE_TORTURE"

# What takes long, or installs a whole system: `make torture` runs it.
_LONG: Final = [
    "inside/test_volume_contract.py",
    "test_a_machine_boots.py",
]
collect_ignore = [] if IN_THE_LAB or TORTURE in os.environ else _LONG


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Module | None:
    if IN_THE_LAB or INSIDE not in module_path.parents:
        return None
    return InsideFile.from_parent(parent, path=module_path)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if not IN_THE_LAB and (missing := missing_packages()):
        pytest.fail(f"the lab needs: apt-get install {' '.join(missing)}", pytrace=False)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    # A test that passed says so once it has been called; a failure or skip in any phase counts.
    if IN_THE_LAB and (report.when == "call" or not report.passed):
        note(report)
