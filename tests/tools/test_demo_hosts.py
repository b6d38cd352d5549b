"""The demo's hosts where there is no sshd: local agents, each with its own configuration."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def test_without_sshd_a_host_is_a_local_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    from demo import loopback

    real = loopback.find
    monkeypatch.setattr(loopback, "find", lambda name: None if name == "sshd" else real(name))
    tmp_path.chmod(0o755)
    with loopback.Hosts(tmp_path, ("a", "b")) as hosts:
        assert not hosts.real
        (hosts.directory("b") / "x.img").write_bytes(bytes(4096))
        program = str(Path(sys.executable).with_name("virtstore"))
        listed = subprocess.run(
            [program, "list", f"b:{hosts.directory('b')}"],
            env=hosts.environment,
            capture_output=True,
            text=True,
            check=True,
        )
    assert listed.stdout.split()[-1] == f"b:{hosts.directory('b')}/x.img"
