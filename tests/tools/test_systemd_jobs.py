"""The units of jobs: systemd understands them, their timers fire when their pages say so, and none
is exposed as a service that nobody thought about."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

import pytest
from release import deb

from .test_systemd import analyze

_PROGRAM: Final = Path(sys.executable).with_name("virtstore")
_JOBS: Final = ("virtstore-backup", "virtstore-backup-check", "virtstore-prune")
_FAILED: Final = "virtstore-failed@.service"
_SERVICES: Final = (*(f"{name}@.service" for name in _JOBS), _FAILED)
#: Exposure, of 100, as systemd-analyze(1) reckons it. A service without any setting has 96.
_EXPOSED: Final = 60


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The directory that the package has of them, with this checkout's program in it."""
    directory = tmp_path / "system"
    deb.units(directory)
    for service in directory.glob("*.service"):
        service.write_text(service.read_text().replace("=/usr/bin/virtstore ", f"={_PROGRAM} "))
    return directory


def setting(unit: Path, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", unit.read_text(), re.M)


@pytest.mark.parametrize("name", _SERVICES)
def test_systemd_understands_each_service(units: Path, name: str) -> None:
    done = analyze("verify", "--man=no", units / name)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


@pytest.mark.parametrize("job", _JOBS)
def test_systemd_understands_each_timer(units: Path, job: str) -> None:
    timer = units / f"{job}@.timer"
    done = analyze("verify", "--man=no", timer)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    timer.write_text(timer.read_text().replace("OnCalendar=*", "OnCalendar=nightly *"))
    assert "Failed to parse calendar" in analyze("verify", "--man=no", timer).stderr


@pytest.mark.parametrize("name", _SERVICES)
def test_no_service_is_exposed_as_one_that_nobody_thought_about(units: Path, name: str) -> None:
    words = ("security", "--offline=true", f"--threshold={_EXPOSED}", "--no-pager")
    done = analyze(*words, units / name)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_nights_come_one_after_the_other(units: Path) -> None:
    """Backups, then what is pruned of them, then the look at what there is."""
    timers = [units / f"{job}@.timer" for job in ("virtstore-backup", "virtstore-prune")]
    timers.append(units / "virtstore-backup-check@.timer")
    hours = []
    for timer in timers:
        [calendar] = setting(timer, "OnCalendar")
        done = analyze("calendar", "--iterations=2", "--base-time=2026-11-28 12:00", calendar)
        assert done.returncode == 0, done.stderr
        fires = re.findall(r"(2026-\d\d-\d\d) (\d\d:\d\d):00", done.stdout)
        days = {day for day, _ in fires}
        assert {"2026-11-29", "2026-11-30"} <= days
        hours.append(next(hour for day, hour in fires if day == "2026-11-29"))
    assert hours == sorted(hours) == ["01:00", "05:00", "07:00"]


@pytest.mark.parametrize("job", _JOBS)
def test_a_night_that_a_machine_slept_through_is_made_up_for(units: Path, job: str) -> None:
    assert setting(units / f"{job}@.timer", "Persistent") == ["yes"]


@pytest.mark.parametrize("job", _JOBS)
def test_somebody_is_told_of_a_unit_that_failed(units: Path, job: str) -> None:
    [failed] = setting(units / f"{job}@.service", "OnFailure")
    assert failed == "virtstore-failed@%n.service"
    assert (units / _FAILED).exists()
