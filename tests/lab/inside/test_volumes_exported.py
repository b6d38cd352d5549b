"""A volume is exported as it was at one moment, while it is mounted and written to, and its
snapshot goes with the export."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import virtstore
from virtstore.backends.lvm.report import report

from ...waiting import PATIENCE, until
from .shell import MIB, lvs, sh

SIZE = 16 * MIB
_COPY = "virtstore.copying."


def test_a_mounted_volume_is_exported_as_it_was_at_one_moment(here: virtstore.Host) -> None:
    web = here.create("/dev/vg0/web", SIZE)
    sh(f"mkfs.ext4 -q {web.path} && mount {web.path} /mnt && echo before >/mnt/file && sync")
    try:
        with web.export(snapshot=True) as export:
            sh("echo after >/mnt/file && sync")
            subprocess.run(["nbdcopy", export.uri, "/run/lab/copy"], check=True)
    finally:
        sh("umount /mnt")
    assert sh("debugfs -R 'cat file' /run/lab/copy").strip() == "before"
    assert set(lvs()) == {"web"}


def test_a_snapshot_goes_with_the_export_that_was_killed(here: virtstore.Host) -> None:
    here.create("/dev/vg0/web", SIZE)
    code = "from virtstore.cli.start import main; main()"
    argv = [sys.executable, "-c", code, "export", "/dev/vg0/web", "--snapshot"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        path = Path(process.stdout.readline().strip().partition("=")[2])
        assert path.is_socket()
        assert _snapshots()
        os.kill(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)
    until(lambda: not any(Path("/dev/mapper").glob("*copying*")), "the snapshot's end")
    until(lambda: not _snapshots(), "its end by LVM's account")
    assert not path.parent.exists()


def _snapshots() -> list[str]:
    found = report("vg0").volumes
    return [v.name for v in found if any(tag.startswith(_COPY) for tag in v.tags)]
