"""Which rings of tests ran, and with what result: said at the end of every run."""

from __future__ import annotations

import os
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import leftovers, longest_first

if "VIRTSTORE_LAB" not in os.environ:  # where no test needs it, and to import it takes a while
    import hypothesis

    # No bound on an example's time: a busy machine is no defect.
    hypothesis.settings.register_profile("virtstore", deadline=None)
    hypothesis.settings.load_profile("virtstore")

# Where the tools are that tests call; a user's PATH on Debian has only the bin directories.
os.environ["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"

# Whoever runs the tests may have come by ssh or sudo; the agents that they start have not.
for _name in ("SSH_CONNECTION", "SUDO_UID", "SUDO_USER", "SUDO_COMMAND", "DOAS_USER", "PKEXEC_UID"):
    os.environ.pop(_name, None)

# Where these are set, pytest shows a difference line by line, which for the bytes of an image takes
# it hours.
for _name in ("CI", "BUILD_NUMBER"):
    os.environ.pop(_name, None)

# Where /tmp is in memory, a root there would have to be said to be volatile.
if os.path.ismount("/tmp") and "TMPDIR" not in os.environ:
    os.environ["TMPDIR"], tempfile.tempdir = "/var/tmp", None

# Whoever runs the tests by nohup lets SIGHUP be ignored, also by what they start.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# What they start is known by this.
os.environ[leftovers.MARK] = str(os.getpid())

RINGS = ("unit", "contract", "tools", "hosts", "ceph", "lab")


#: Set in the environment: run what takes long, too.
TORTURE = "VIRTSTORE_TORTURE"


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_on_the_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The first fixture to be there and the last to go."""
    with leftovers.none_of_the_machine(tmp_path_factory.getbasetemp()):
        yield


@pytest.fixture(scope="session", autouse=True)
def processes_begin_at_once(
    request: pytest.FixtureRequest, nothing_is_left_on_the_machine: None
) -> Iterator[None]:
    """Of those rings that start many."""
    if not {_ring(item.nodeid) for item in request.session.items} & {"tools", "hosts", "ceph"}:
        yield
        return
    from . import warm

    with warm.started():
        yield


@pytest.fixture(autouse=True)
def nothing_is_left_in_the_process() -> Iterator[None]:
    """What a wider fixture holds was there before, for those come first."""
    with leftovers.none_of_the_process():
        yield


def pytest_configure(config: pytest.Config) -> None:
    longest_first.configure(config)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest files come first. What is marked as torture is for `make torture`. In the lab,
    outside has chosen already."""
    if "VIRTSTORE_LAB" in os.environ:
        return
    longest_first.sort(config, items)
    if TORTURE in os.environ:
        return
    long = [item for item in items if item.get_closest_marker("torture")]
    if long:
        items[:] = [item for item in items if item not in long]
        config.hook.pytest_deselected(items=long)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    stats = terminalreporter.stats.values()
    reports = (each for found in stats for each in found if isinstance(each, pytest.TestReport))
    longest_first.note(terminalreporter.config, reports)
    counts: dict[str, Counter[str]] = {ring: Counter() for ring in RINGS}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            ring = _ring(report.nodeid)
            if ring in counts:
                counts[ring][outcome] += 1
    terminalreporter.section("rings")
    for ring, found in counts.items():
        told = ", ".join(f"{number} {outcome}" for outcome, number in found.items())
        if not found.keys() - {"skipped"}:
            told = f"DID NOT RUN ({told})" if told else "DID NOT RUN"
        terminalreporter.write_line(f"{ring:<9} {told}")


def _ring(nodeid: str) -> str:
    parts = Path(nodeid.split("::")[0]).parts
    return parts[parts.index("tests") + 1] if "tests" in parts[:-1] else ""
