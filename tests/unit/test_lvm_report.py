"""What LVM reports becomes values, and what is no report becomes an error that says so.

A program called `lvm` that is first on PATH says what LVM said once, or nonsense."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from virtstore.backends.lvm import report
from virtstore.backends.lvm.report import Volume
from virtstore.errors import Error, NotFound
from virtstore.model import ThinPool

_NO_DEVICE = {
    "lv_active": "",
    "lv_device_open": "unknown",
    "lv_kernel_major": "-1",
    "lv_kernel_minor": "-1",
}
_COLUMNS = {
    "lv_name": "web",
    "lv_uuid": "kGy62Z-pocg-F8pJ-xemD-BGQE-pcO2-qz360e",
    "vg_uuid": "uTo9qS-b70H-aRBl-mpEV-R5on-peVY-5ypSAM",
    "lv_size": "33554432",
    "lv_tags": "",
    "lv_role": "public",
    "lv_layout": "linear",
    "origin": "",
    "origin_size": "",
    "pool_lv": "",
    "data_percent": "",
    "lv_active": "active",
    "lv_device_open": "",
    "lv_kernel_major": "254",
    "lv_kernel_minor": "7",
    "lv_snapshot_invalid": "unknown",
    "lv_health_status": "",
}
_SEGMENT = {"zero": "unknown", "transaction_id": ""}
_GROUP = {"vg_size": "100", "vg_free": "60", "vg_extent_size": "4"}
_POOL = {"lv_name": "pool", "lv_role": "private", "lv_layout": "thin,pool", "transaction_id": "7"}

Fake = Callable[[str, int, str], None]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Make `lvm` a program that prints a text and a complaint and ends with a status."""

    def make(said: str, status: int = 0, complaint: str = "") -> None:
        program = tmp_path / "lvm"
        (tmp_path / "said").write_text(said)
        (tmp_path / "complaint").write_text(complaint)
        program.write_text(
            f"#!/bin/sh\ncat {tmp_path}/said\ncat {tmp_path}/complaint >&2\nexit {status}\n"
        )
        program.chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(time, "sleep", lambda _: None)
    return make


def rows(*changes: dict[str, str]) -> str:
    """A report of as many volumes, in which these columns are other ones."""
    uuids = [_COLUMNS["lv_uuid"], *(f"other-{number}" for number, _ in enumerate(changes[1:]))]
    volumes = [_COLUMNS | {"lv_uuid": uuid} for uuid in uuids]
    segments = [_SEGMENT | {"lv_uuid": uuid} for uuid in uuids]
    for volume, segment, change in zip(volumes, segments, changes, strict=True):
        for column, value in change.items():
            (segment if column in _SEGMENT else volume)[column] = value
    return section(lv=volumes, seg=segments)


def section(**parts: list[dict[str, str]]) -> str:
    return json.dumps({"report": [{"vg": [_GROUP], "lv": [], "seg": []} | parts]})


def volume(fake: Fake, **changes: str) -> Volume:
    fake(rows(changes), 0, "")
    [found] = report.report("vg0").volumes
    return found


def test_a_thick_volume(fake: Fake) -> None:
    found = volume(fake, lv_tags="one,virtstore.partial")
    assert (found.name, found.type, found.size, found.allocated) == (
        "web",
        "lvm",
        32 << 20,
        32 << 20,
    )
    assert found.tags == {"one", "virtstore.partial"}
    assert (found.active, found.open, found.device) == (True, False, (254, 7))
    assert (found.origin, found.pool, found.invalid) == (None, None, False)
    # As /sys/dev/block/254:7/dm/uuid has it.
    assert found.uuid == ("LVM-uTo9qSb70HaRBlmpEVR5onpeVY5ypSAMkGy62ZpocgF8pJxemDBGQEpcO2qz360e")


def test_an_origin_is_an_image_like_any_other(fake: Fake) -> None:
    assert volume(fake, lv_role="public,origin,thickorigin").type == "lvm"


def test_a_thick_snapshot_is_as_long_as_its_origin_and_takes_its_exception_store(
    fake: Fake,
) -> None:
    found = volume(
        fake,
        lv_role="public,snapshot,thicksnapshot",
        lv_size="4194304",
        origin="base",
        origin_size="33554432",
        data_percent="12.5",
        lv_snapshot_invalid="",
    )
    assert (found.type, found.origin) == ("lvm-snapshot", "base")
    assert (found.size, found.allocated, found.invalid) == (32 << 20, 4 << 20, False)


def test_a_snapshot_that_ran_full_is_invalid(fake: Fake) -> None:
    role = "public,snapshot,thicksnapshot"
    told = "snapshot invalid"
    assert volume(fake, lv_role=role, origin_size="33554432", lv_snapshot_invalid=told).invalid


def test_a_thin_volume_takes_what_is_mapped_of_it(fake: Fake) -> None:
    found = volume(fake, lv_layout="thin,sparse", pool_lv="pool", data_percent="25.00", zero="zero")
    assert (found.type, found.pool, found.zeroes) == ("lvm-thin", "pool", True)
    assert (found.size, found.allocated) == (32 << 20, 8 << 20)
    assert not volume(fake, lv_layout="thin,sparse", pool_lv="pool", zero="").zeroes


def test_a_thin_snapshot(fake: Fake) -> None:
    role = "public,snapshot,thinsnapshot"
    found = volume(
        fake, lv_role=role, lv_layout="thin,sparse", pool_lv="pool", origin="t", **_NO_DEVICE
    )
    assert (found.type, found.origin, found.active) == ("lvm-thin-snapshot", "t", False)
    # Of one that is not active LVM does not say how much is mapped.
    assert found.allocated == found.size


@pytest.mark.parametrize(
    ("role", "layout"),
    [
        ("private", "thin,pool"),
        ("private,thin,pool,data", "linear"),
        ("private,pool,spare", "linear"),
    ],
)
def test_pools_and_parts_of_other_volumes_are_no_images(fake: Fake, role: str, layout: str) -> None:
    found = volume(fake, lv_role=role, lv_layout=layout, transaction_id="7")
    assert found.type is None


def test_pools_are_told_with_the_room_that_is_left(fake: Fake) -> None:
    fake(rows(_POOL | {"data_percent": "25"}, {"lv_layout": "thin,sparse"}, {}), 0, "")
    told = report.report("vg0")
    assert report.thin_pools(told) == (ThinPool("pool", 32 << 20, 24 << 20),)
    assert [volume.transaction for volume in told.volumes] == [7, None, None]


def test_a_volume_of_many_segments_is_one_volume(fake: Fake) -> None:
    segments = [_SEGMENT | {"lv_uuid": _COLUMNS["lv_uuid"]}] * 3
    fake(section(lv=[_COLUMNS], seg=segments), 0, "")
    assert [found.name for found in report.report("vg0").volumes] == ["web"]


def test_a_volume_on_a_missing_disk_is_partial(fake: Fake) -> None:
    assert volume(fake, lv_health_status="partial").partial
    assert not volume(fake, lv_health_status="refresh needed").partial


def test_a_volume_group(fake: Fake) -> None:
    fake(section(), 0, "")
    found = report.report("vg0").group
    assert (found.size, found.free, found.extent_size, found.missing) == (100, 60, 4, "")


def test_a_missing_disk_of_a_volume_group_is_named_once(fake: Fake) -> None:
    said = (
        "  WARNING: Couldn't find device with uuid uTo9qS-b70H.\n"
        "  WARNING: VG vg0 is missing PV uTo9qS-b70H (last written to /dev/sdb).\n"
        "  WARNING: VG vg0 is missing PV uTo9qS-b70H (last written to /dev/sdb).\n"
    )
    fake(section(), 0, said)
    missing = report.report("vg0").group.missing
    assert missing == "the physical volume uTo9qS-b70H is missing (it was /dev/sdb)"


def test_two_groups_of_one_name_are_refused(fake: Fake) -> None:
    said = json.loads(section())
    fake(json.dumps({"report": said["report"] * 2}), 0, "")
    with pytest.raises(Error, match="2 volume groups called vg0"):
        report.report("vg0")


def test_an_unknown_group_is_not_found(fake: Fake) -> None:
    fake("", 5, 'Volume group "vg9" not found')
    with pytest.raises(NotFound, match="vg9"):
        report.report("vg9")


@pytest.mark.parametrize(
    "said",
    [
        "",
        "Segmentation fault",
        "[]",
        "{}",
        '{"report": {}}',
        '{"report": [{"vg": [], "lv": []}]}',
        section(lv=[{"lv_name": "web"}]),
        section(vg=[{"vg_size": "1"}]),
        section(vg=[_GROUP | {"vg_free": "60.00m"}]),
        rows({"lv_name": 7}),  # type: ignore[dict-item]
        rows(_POOL | {"transaction_id": ""}),
        rows({"lv_size": "32.00m"}),
        rows({"data_percent": "Invalid", "lv_layout": "thin,sparse"}),
        rows({"lv_kernel_major": ""}),
        rows({})[:-20],
        "\x00\xff" * 100,
    ],
)
def test_what_is_no_report_is_an_error_that_says_so(fake: Fake, said: str) -> None:
    fake(said, 0, "")
    with pytest.raises(Error, match="lvm answered with something that is no report") as raised:
        report.report("vg0")
    assert raised.value.code == "failed"


def test_a_failure_is_told_with_what_lvm_said(fake: Fake) -> None:
    fake("", 5, "  /run/lock/lvm/V_vg0: open failed: No space left on device")
    with pytest.raises(Error, match="lvm fullreport failed: /run/lock/lvm/V_vg0: open failed"):
        report.report("vg0")


def test_an_lvm_that_hangs_is_stopped_and_told(
    tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake("", 0, "")
    (tmp_path / "lvm").write_text(f"#!{sys.executable}\nimport signal\nsignal.pause()\n")
    monkeypatch.setattr(report, "_TIMEOUT", 0.5)
    with pytest.raises(Error, match="lvm did not end within"):
        report.report("vg0")
