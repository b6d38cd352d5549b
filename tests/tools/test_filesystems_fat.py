"""FAT is recognised and measured; resizing is refused, with the reason, and nothing is touched."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from virtstore.errors import Unsupported
from virtstore.filesystems import registry
from virtstore.filesystems.base import Device
from virtstore.filesystems.detect import detect
from virtstore.programs import find

MIB = 1 << 20


@pytest.mark.parametrize(
    ("bits", "made"), [("12", 4 * MIB), ("16", 32 * MIB), ("32", 64 * MIB)], ids=["12", "16", "32"]
)
def test_fat_is_recognised_and_refused_untouched(tmp_path: Path, bits: str, made: int) -> None:
    path = tmp_path / "image"
    with path.open("w+b") as image:
        image.truncate(made)
        mkfs = find("mkfs.vfat")
        assert mkfs, "mkfs.vfat is not installed"
        argv = [mkfs, "-F", bits, "-n", "EFI", "-i", "1234ABCD", str(path)]
        subprocess.run(argv, check=True, capture_output=True)
        image.truncate(made + 8 * MIB)
        device = Device(image.fileno(), made + 8 * MIB)
        before = hashlib.sha256(os.pread(device.fd, device.size, 0)).hexdigest()

        found = detect(device).filesystem
        assert found
        assert (found.type, found.uuid, found.label) == ("vfat", "1234-ABCD", "EFI")
        assert found.size == made
        fat = registry.for_type(found.type)
        assert fat.minimum(device) is None
        with pytest.raises(Unsupported, match=r"partition tables by itself.*mkfs\.vfat"):
            fat.grow(device)
        with pytest.raises(Unsupported, match=r"copy the files"):
            fat.shrink(device, None)
        assert hashlib.sha256(os.pread(device.fd, device.size, 0)).hexdigest() == before


def test_the_host_says_that_it_can_not_resize_fat_whatever_is_installed() -> None:
    [vfat] = [each for each in registry.support(mounting=False) if each.type == "vfat"]
    assert (vfat.grow, vfat.shrink, vfat.missing) == (False, False, ())
