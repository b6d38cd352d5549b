"""FAT: refused without a tool being asked, whatever the device is."""

from __future__ import annotations

import pytest

from virtstore import run
from virtstore.errors import Unsupported
from virtstore.filesystems.base import Device
from virtstore.filesystems.fat import Fat


@pytest.mark.parametrize("device", [Device(-1, 0), Device(-1, 1 << 30, start=1 << 20)])
def test_nothing_is_run_and_nothing_is_read(
    monkeypatch: pytest.MonkeyPatch, device: Device
) -> None:
    monkeypatch.setattr(run, "run", None)
    assert Fat.capabilities.tools == ()
    assert not Fat.capabilities.grow
    assert not Fat.capabilities.shrink
    for size in (None, 1 << 20):
        with pytest.raises(Unsupported, match="fatresize"):
            Fat().grow(device, size)
        with pytest.raises(Unsupported, match="fatresize"):
            Fat().shrink(device, size)
