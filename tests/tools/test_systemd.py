"""The units of the Debian package: systemd understands them, and what they forbid keeps `doctor`
from nothing."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from release import deb

from . import test_doctor as doctors
from .test_doctor import images

__all__ = ["images"]  # a fixture

_PROGRAM: Final = Path(sys.executable).with_name("virtstore")
_SERVICE: Final = "virtstore-doctor.service"
_TIMER: Final = "virtstore-doctor.timer"
#: Exposure, of 100, as systemd-analyze(1) reckons it. A service without any setting has 96.
_EXPOSED: Final = 65


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The directory that the package has of them, with this checkout's program in it."""
    directory = tmp_path / "system"
    deb.units(directory)
    service = directory / _SERVICE
    assert "ExecStart=/usr/bin/virtstore doctor --json\n" in service.read_text()
    service.write_text(service.read_text().replace("=/usr/bin/virtstore ", f"={_PROGRAM} "))
    return directory


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    assert program, "this needs: apt-get install systemd"
    argv = [program, *map(str, words)]
    return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def setting(units: Path, name: str) -> str:
    """What a setting of the service has, of all lines that it has."""
    return " ".join(re.findall(rf"^{name}=~?(.*)$", (units / _SERVICE).read_text(), re.M))


def test_systemd_understands_the_units(units: Path) -> None:
    done = analyze("verify", "--man=no", units / _SERVICE, units / _TIMER)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    broken = units / "broken.service"
    broken.write_text((units / _SERVICE).read_text().replace("Nice=10", "Nice=much"))
    assert analyze("verify", "--man=no", broken).stderr


def test_the_service_is_less_exposed_than_one_that_nobody_thought_about(units: Path) -> None:
    words = ("security", "--offline=true", f"--threshold={_EXPOSED}", "--no-pager")
    done = analyze(*words, units / _SERVICE)
    assert done.returncode == 0, done.stdout + done.stderr
    bare = units / "bare.service"
    bare.write_text(f"[Service]\nExecStart={_PROGRAM} doctor\n")
    assert analyze(*words, bare).returncode != 0


def test_nothing_is_enabled(units: Path) -> None:
    services = [path for path in units.iterdir() if path.suffix == ".service"]
    assert units / _SERVICE in services
    assert [path.name for path in services if "[Install]" in path.read_text()] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give capabilities up")
def test_doctor_finds_a_healthy_host_healthy_without_what_the_service_lacks(
    images: Path, units: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacks = setting(units, "CapabilityBoundingSet").replace("CAP_", "").lower().split()
    assert "sys_module" in lacks
    known = subprocess.run(["setpriv", "--list-caps"], capture_output=True, text=True, check=True)
    dropped = [f"-{name}" for name in lacks if name in known.stdout.split()]
    without = ["setpriv", "--no-new-privs", "--bounding-set", ",".join(dropped)]
    monkeypatch.setenv("VIRTSTORE_AGENT", shlex.join([*without, *shlex.split(doctors.AGENT)]))
    assert {each["severity"] for each in doctors.findings(status=0)} == {"ok"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_what_protects_the_kernels_settings_would_keep_bubblewrap_from_working(
    images: Path, units: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is why the service has none of that."""
    over_proc = "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys"
    doctors.started_by(monkeypatch, over_proc)
    assert "bubblewrap does not work here" in doctors.found("problem", status=1)
    for name in ("ProtectKernelTunables", "ProtectKernelLogs", "ProtectHostname", "ProtectProc"):
        assert setting(units, name) == ""
