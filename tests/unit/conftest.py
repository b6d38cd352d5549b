"""Fixtures that several files of this ring use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from virtstore.filesystems.base import Device


@pytest.fixture
def new_device(tmp_path: Path) -> Iterator[Callable[[bytes | bytearray], Device]]:
    """Makes a device of the bytes of an image, in place of the one before."""
    with (tmp_path / "image").open("w+b", buffering=0) as file:

        def make(image: bytes | bytearray) -> Device:
            file.truncate(0)
            os.pwrite(file.fileno(), image, 0)
            return Device(file.fileno(), len(image))

        yield make
