"""Directories on FUSE file systems, which can less than those of the kernel: the backends'
contract and the commands (fuse/), on each of several, in a mount namespace of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "fuse"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts file systems")

#: The package that each needs, and what mounts it at $1/place, as sh runs it. Of sshfs and unionfs
#: nobody learns which names are one file's.
KINDS = {
    "ntfs-3g": (
        "ntfs-3g",
        'truncate -s 256M "$1/disk" && mkntfs -qQF "$1/disk" >"$1/log" 2>&1'
        ' && ntfs-3g -o umask=077 "$1/disk" "$1/place"',
    ),
    "bindfs": ("bindfs", 'bindfs "$1/below" "$1/place"'),
    "unionfs": ("unionfs-fuse", 'unionfs -o cow "$1/below=RW" "$1/place" 2>"$1/log"'),
    "sshfs": ("sshfs", 'sshfs -o ssh_command="$1/sftp" "x:$1/below" "$1/place"'),
    "sshfs-without-links": (
        "sshfs",
        'sshfs -o disable_hardlink,ssh_command="$1/sftp" "x:$1/below" "$1/place"',
    ),
}

#: Ends with the namespaces, and so do the mount and whoever serves it.
SCRIPT = """
mkdir "$1/below" "$1/place" && chmod 700 "$1/below" "$1/place"
printf '#!/bin/sh\\nexec /usr/lib/openssh/sftp-server\\n' >"$1/sftp" && chmod 700 "$1/sftp"
{ MOUNT; } && mountpoint -q "$1/place" || exit 99
export VIRTSTORE_FUSE="$1/place"
shift
"$@"
"""


#: Commands take their time: where file systems are alike, the contract says enough.
TESTS = {
    "ntfs-3g": ("contract", "commands"),
    "sshfs": ("contract", "commands"),
    "sshfs-without-links": ("without_links",),
    "bindfs": ("contract",),
    "unionfs": ("contract",),
}


@pytest.mark.parametrize(("kind", "files"), TESTS.items())
def test_the_contract_and_the_commands_hold_on(
    kind: str, files: tuple[str, ...], tmp_path: Path
) -> None:
    package, mount = KINDS[kind]
    if not shutil.which(kind.partition("-without")[0]):
        pytest.fail(f"it needs: apt-get install {package}", pytrace=False)
    done = subprocess.run(
        [
            *("unshare", "--mount", "--propagation", "private", "--pid", "--fork"),
            *("--kill-child", "--mount-proc", "sh", "-c", SCRIPT.replace("MOUNT", mount), "sh"),
            str(tmp_path),
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-p", "no:xdist", "--basetemp", str(tmp_path / "tests")),
            *(f"{HERE}/test_{file}.py" for file in files),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    said = done.stdout[-20000:] + done.stderr[-5000:]
    assert done.returncode == 0, f"exit status {done.returncode}\n{said}"
    assert " passed" in done.stdout
    assert not os.path.ismount(tmp_path / "place")
