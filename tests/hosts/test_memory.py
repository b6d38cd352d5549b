"""However large an image is, every process of a copy stays small; and holes cost nothing."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections import defaultdict
from pathlib import Path
from typing import Final

import pytest

from . import processes
from .command import Client
from .conftest import Hosts
from .trees import MIB

_LARGE: Final = 20 << 30
_BOUND: Final = 120_000_000


@pytest.fixture
def large(hosts: Hosts) -> Path:
    """An image of 20 GiB with 64 MiB of data here and there."""
    path = hosts.local / "large"
    noise = random.Random(5)
    with path.open("wb") as file:
        for number in range(16):
            file.seek(number * (_LARGE // 16) + 12345)
            file.write(noise.randbytes(4 * MIB))
        file.truncate(_LARGE)
    return path


def _peaks(process: subprocess.Popen[bytes], hosts: Hosts) -> dict[str, int]:
    """The most that any process of a run had resident, by the process's name."""
    peaks: defaultdict[str, int] = defaultdict(int)
    while process.poll() is None:
        for each in processes.of(hosts.directory):
            peaks[each.name] = max(peaks[each.name], processes.peak_memory(each))
        time.sleep(0.05)
    stdout, stderr = process.communicate()
    assert process.returncode == 0, (stdout, stderr)
    return peaks


def _keeps_small(client: Client, hosts: Hosts, *words: str | Path) -> None:
    peaks = _peaks(client.start(*words), hosts)
    assert any(name.startswith("virtstore") for name in peaks), peaks
    assert max(peaks.values()) < _BOUND, (words, peaks)


def test_a_large_image_is_archived_in_little_memory(
    client: Client, hosts: Hosts, large: Path
) -> None:
    archive = hosts.a.images / "large.zst"
    _keeps_small(client, hosts, "copy", "--archive", large, hosts.a.at(archive))
    _keeps_small(client, hosts, "copy", "--archive", large, hosts.local / "large.zst")
    _keeps_small(client, hosts, "verify", hosts.a.at(archive))
    _keeps_small(client, hosts, "diff", large, hosts.a.at(archive))
    assert archive.stat().st_size < 66 * MIB


def test_a_large_image_is_copied_in_little_memory(
    client: Client, hosts: Hosts, large: Path
) -> None:
    if shutil.disk_usage(hosts.b.images).free < 25 << 30:  # an image has all its space
        pytest.skip("less than 25 GiB free")
    image = hosts.b.images / "large"
    _keeps_small(client, hosts, "copy", large, hosts.b.at(image))
    _keeps_small(client, hosts, "copy-contents", large, hosts.b.at(image))
    assert image.stat().st_size == _LARGE
    os.unlink(image)
