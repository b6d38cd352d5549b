"""TAB behind `HOST:/dev/`: the volumes of a host that has some."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import virtstore
from tests import waiting

from ..hosts import Hosts


def test_the_volumes_of_a_host_are_completed(
    hosts: Hosts, here: virtstore.Host, tmp_path: Path
) -> None:
    hosts.a.configuration.write_text('[[volume_group]]\nname = "vg0"\naccess = "read"\n')
    here.create("/dev/vg0/web", "8M")
    here.create("/dev/vg0/web-data", "8M")
    environment = {**os.environ, "VIRTSTORE_RSH": hosts.rsh, "XDG_RUNTIME_DIR": str(tmp_path)}

    def offered(begun: str) -> list[str]:
        """Asked again where a busy host took too long."""
        program = str(Path(sys.executable).with_name("virtstore"))
        words = [program, "complete", "fish", "info", begun]
        told: list[str] = []

        def answered() -> bool:
            ran = subprocess.run(words, env=environment, capture_output=True, text=True)
            told[:] = [line.partition("\t")[0] for line in ran.stdout.splitlines()]
            return bool(told)

        waiting.until(answered, f"{begun} to be completed")
        return told

    assert offered("a:/dev/v") == ["a:/dev/vg0/"]
    assert offered("a:/dev/vg0/we") == ["a:/dev/vg0/web", "a:/dev/vg0/web-data"]
    assert offered("a:/dev/vg0/web-") == ["a:/dev/vg0/web-data"]
