"""A Debian that was shrunk to its minimum, archived, restored into a larger volume and grown
still boots to its login prompt.

Runs under `make torture`: it downloads and installs a system. The machine is emulated; its
kernel is started straight from the files of its own /boot.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

import virtstore

from .uml import CHECKOUT, Lab

MIB = 1 << 20
GIB = 1 << 30
#: A volume group's first volume begins here on its disk (`pvs -o pe_start`).
_VOLUME_AT = MIB
_LIMIT = 240

_CONFIGURATION = """
[[directory]]
path = "/run/lab"
[[volume_group]]
name = "vg0"
access = "write"
"""
_RESTORE = f"""set -e
until [ -e /run/lab/ready ]; do sleep 0.2; done
mkdir -p /etc/virtstore && cp /run/lab/config.toml /etc/virtstore/
vgcreate -qq vg0 /dev/ubda
v={CHECKOUT}/.venv/bin/virtstore
$v create /dev/vg0/web 2G
$v copy-contents /run/lab/debian.img.zst /dev/vg0/web
$v growfs /dev/vg0/web
$v info --json /dev/vg0/web
pvs --noheadings -o pe_start --units b --nosuffix >&2
"""


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `images/debian.img` (GPT, an ext4 root), its kernel and its initrd."""
    directory = tmp_path_factory.mktemp("debian")
    (directory / "images").mkdir(mode=0o700)
    root = directory / "root"
    packages = "systemd-sysv,udev,linux-image-cloud-amd64"
    _run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}", "bookworm", root)
    for name, found in (("vmlinuz", "vmlinuz-*"), ("initrd", "initrd.img-*")):
        shutil.copy(next((root / "boot").glob(found)), directory / name)
    image = directory / "images" / "debian.img"
    image.touch()
    os.truncate(image, 1536 * MIB)
    table = "label: gpt\nstart=2048, type=linux, name=root\n"
    subprocess.run(["sfdisk", "-q", image], input=table, text=True, check=True)
    _run("mke2fs", "-q", "-t", "ext4", "-d", root, "-E", f"offset={MIB}", image, "1500M")
    shutil.rmtree(root)
    return directory


def test_a_machine_shrunk_archived_restored_and_grown_boots(
    debian: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = debian / "images"
    config = debian / "config.toml"
    config.write_text(f'[[directory]]\npath = "{images}"\naccess = "write"\n')
    monkeypatch.setenv("VIRTSTORE_CONFIG", str(config))
    with virtstore.connect() as here:
        image = here.image(f"{images}/debian.img")
        before = image.info().size or 0
        smallest = image.resize("minimum").size or 0
        assert smallest < before * 2 / 3
        image.copy(here.image(f"{images}/debian.img.zst"), archive=True)
    lab = Lab(tmp_path / "lab", disks=[3 * GIB])
    with lab.boot(_RESTORE) as machine:
        shutil.copy(images / "debian.img.zst", machine.directory)
        (machine.directory / "config.toml").write_text(_CONFIGURATION)
        (machine.directory / "ready").touch()
        restored = machine.wait(600).check()
    assert int(restored.stderr.split()[-1]) == _VOLUME_AT
    assert b'"size": 2147483648' in restored.stdout
    said = _boot(debian, lab.disks[0], _VOLUME_AT, 2 * GIB)
    assert re.search(rb"\w+ login: ", said), said.decode("utf-8", "replace")[-3000:]
    # The root file system that the kernel mounted is the grown one.
    assert b"EXT4-fs (vda1): mounted filesystem" in said


def _boot(machine: Path, disk: Path, offset: int, size: int) -> bytes:
    """What a machine says on its serial line until somebody could log in, or time is up."""
    drive = f"driver=raw,offset={offset},size={size},file.driver=file,file.filename={disk}"
    argv: list[str | Path] = [
        *("qemu-system-x86_64", "-M", "pc", "-cpu", "max", "-m", "512", "-nic", "none"),
        *("-nographic", "-no-reboot", "-snapshot", "-drive", f"{drive},if=virtio"),
        *("-kernel", machine / "vmlinuz", "-initrd", machine / "initrd"),
        *("-append", "root=/dev/vda1 console=ttyS0 panic=-1"),
    ]
    console = machine / "console"
    with console.open("wb") as log:
        emulator = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    deadline = time.monotonic() + _LIMIT
    try:
        while b" login: " not in (said := console.read_bytes()):
            if time.monotonic() > deadline or emulator.poll() is not None:
                break
            time.sleep(0.5)
        return said
    finally:
        emulator.kill()
        emulator.wait()


def _run(*argv: str | Path) -> None:
    subprocess.run(argv, check=True)
