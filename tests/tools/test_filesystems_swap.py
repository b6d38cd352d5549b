"""Swap areas end where they were told to, as mkswap itself would have made them."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.tools.ext_images import MIB, fingerprint, opened, tool

from virtstore.errors import Error, Unsafe, Unsupported, UsageError
from virtstore.filesystems.base import Device, Resized
from virtstore.filesystems.blkid import probe
from virtstore.filesystems.detect import detect, end_of_contents
from virtstore.filesystems.registry import for_type, support
from virtstore.filesystems.swap import Swap

UUID = "12345678-9abc-def0-1234-56789abcdef0"
IMAGE = 16 * MIB
PAGE = 4096


def mkswap(path: Path, size: int, *options: str) -> bytes:
    """A swap area of `size` bytes; the bytes of all of it."""
    with path.open("wb") as image:
        image.truncate(size)
    path.chmod(0o600)
    tool("mkswap", "-q", "-U", UUID, "-L", "disk", *options, str(path))
    return path.read_bytes()


@pytest.mark.parametrize("size", [10 * PAGE, MIB, 5 * MIB + 123, IMAGE])
def test_one_that_was_resized_is_what_mkswap_makes_of_that_size(tmp_path: Path, size: int) -> None:
    wanted = mkswap(tmp_path / "wanted", size)
    whole = size // PAGE * PAGE
    for change, made in ((Swap().grow, 10 * PAGE), (Swap().shrink, IMAGE)):
        path = tmp_path / "image"
        mkswap(path, made)
        os.truncate(path, IMAGE)
        with opened(path) as device:
            assert change(device, size) == Resized(whole, changed=whole != made)
            assert os.pread(device.fd, size, 0) == wanted
            assert end_of_contents(detect(device)) == whole


def test_it_keeps_uuid_and_label_and_fills_its_image(tmp_path: Path) -> None:
    path = tmp_path / "image"
    mkswap(path, MIB)
    os.truncate(path, IMAGE + 100)
    with opened(path) as device:
        assert Swap().grow(device) == Resized(IMAGE, changed=True)
        found = detect(device).filesystem
        assert found
        assert (found.type, found.uuid, found.label) == ("swap", UUID, "disk")
        assert found.size == IMAGE


def test_as_asked_already_is_no_change(tmp_path: Path) -> None:
    path = tmp_path / "image"
    mkswap(path, IMAGE)
    with opened(path) as device:
        before = fingerprint(device)
        assert Swap().grow(device) == Resized(IMAGE, changed=False)
        assert Swap().shrink(device, IMAGE + 5) == Resized(IMAGE, changed=False)
        assert fingerprint(device) == before


def test_one_in_a_partition_is_resized_and_nothing_around_it(tmp_path: Path) -> None:
    path = tmp_path / "image"
    alone = mkswap(tmp_path / "alone", MIB)
    noise = random.Random(3).randbytes(MIB)
    path.write_bytes(noise + alone + noise + noise)
    with opened(path) as image:
        device = image.part(MIB, 2 * MIB)
        assert Swap().grow(device) == Resized(2 * MIB, changed=True)
        assert Swap().shrink(device, MIB) == Resized(MIB, changed=True)
    assert path.read_bytes() == noise + alone + noise + noise


def test_the_minimum_is_ten_pages_and_less_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "image"
    mkswap(path, IMAGE)
    with opened(path) as device:
        assert Swap().minimum(device) == 10 * PAGE
        before = fingerprint(device)
        with pytest.raises(Unsafe, match=str(10 * PAGE)):
            Swap().shrink(device, 10 * PAGE - 1)
        with pytest.raises(UsageError, match="grow the image first"):
            Swap().grow(device, IMAGE + PAGE)
        with pytest.raises(UsageError, match="shrinkfs"):
            Swap().grow(device, IMAGE - 1)
        assert fingerprint(device) == before
        assert Swap().shrink(device, None) == Resized(10 * PAGE, changed=True)
        assert Swap().shrink(device, None) == Resized(10 * PAGE, changed=False)


def test_a_descriptor_for_reading_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "image"
    mkswap(path, IMAGE)
    with path.open("rb") as image:
        assert Swap().shrink(Device(image.fileno(), IMAGE), MIB).changed


TUX_ON_ICE = b"\xed\xc3\x02\xe9\x98\x56\xe5\x0c"
Change = Callable[[Device], object]
CHANGES: list[Change] = [
    lambda device: Swap().grow(device),
    lambda device: Swap().shrink(device, None),
]


@pytest.mark.parametrize(
    "mark", [b"S1SUSPEND", b"S2SUSPEND", b"ULSUSPEND", b"LINHIB0001", TUX_ON_ICE]
)
def test_a_suspended_guest_is_never_lost(tmp_path: Path, mark: bytes) -> None:
    path = tmp_path / "image"
    mkswap(path, IMAGE)
    with opened(path) as device:
        os.pwrite(device.fd, mark.ljust(10, b"\0"), PAGE - 10)
        before = fingerprint(device)
        kind = probe(device).type
        for each in (Swap(), for_type(kind)) if kind else (Swap(),):
            assert each.minimum(device) is None
            for change in (each.grow, each.shrink):
                with pytest.raises(Unsafe, match="suspended"):
                    change(device, MIB)
        assert fingerprint(device) == before


def test_a_suspended_guest_of_tux_on_ice_that_left_the_mark_is_never_lost(tmp_path: Path) -> None:
    path = tmp_path / "image"
    mkswap(path, IMAGE)
    with opened(path) as device:
        os.pwrite(device.fd, TUX_ON_ICE, 0)
        for change in CHANGES:
            with pytest.raises(Unsafe, match="suspended"):
                change(device)


def test_a_suspended_guest_is_not_among_what_can_be_resized() -> None:
    able = {each.type: (each.grow, each.shrink) for each in support(mounting=False)}
    assert able["swap"] == (True, True)
    assert able["swsuspend"] == (False, False)
    with pytest.raises(Unsupported) as refused:
        for_type("zfs_member")
    assert "swsuspend" not in refused.value.message


def test_pages_of_another_size_are_unsupported(tmp_path: Path) -> None:
    path = tmp_path / "image"
    mkswap(path, IMAGE, "-p", "65536")
    with opened(path) as device:
        before = fingerprint(device)
        for change in CHANGES:
            with pytest.raises(Unsupported, match="another size"):
                change(device)
        assert Swap().minimum(device) is None
        assert fingerprint(device) == before


@pytest.mark.parametrize(
    ("layout", "fields", "says"),
    [
        (">III", (1, 4095, 0), "big-endian"),
        ("<III", (2, 4095, 0), "version 2"),
        ("<III", (1, 4095, 3), "3 bad pages"),
        ("<III", (1, 4096, 0), "the image was cut"),
        ("<III", (1, 0, 0), "lies"),
    ],
)
def test_a_header_that_is_not_understood_is_refused_untouched(
    tmp_path: Path, layout: str, fields: tuple[int, int, int], says: str
) -> None:
    path = tmp_path / "image"
    mkswap(path, IMAGE)
    with opened(path) as device:
        os.pwrite(device.fd, struct.pack(layout, *fields), 1024)
        before = fingerprint(device)
        for change in CHANGES:
            with pytest.raises(Error, match=says):
                change(device)
        assert fingerprint(device) == before


def test_flipped_bytes_are_refused_or_resized_within_the_image(tmp_path: Path) -> None:
    path = tmp_path / "image"
    pristine = mkswap(path, MIB)[:PAGE]
    outcomes = set()
    with opened(path) as device:
        for seed in range(500):
            seeded = random.Random(seed)
            page = bytearray(pristine)
            for _ in range(seeded.choice((1, 2, 8))):
                page[seeded.choice((*range(1024, 1040), *range(PAGE - 10, PAGE)))] ^= 1 << seed % 8
            os.pwrite(device.fd, page, 0)
            before = fingerprint(device)
            try:
                assert Swap().shrink(device, MIB // 2).size <= MIB
                outcomes.add("resized")
            except Error:
                assert fingerprint(device) == before
                outcomes.add("refused")
    assert outcomes == {"resized", "refused"}
