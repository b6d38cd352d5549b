"""Containers are recognised by what they begin or end with, whatever is behind that."""

from __future__ import annotations

import random
import struct

import pytest

from virtstore.formats import containers
from virtstore.formats.containers import Container

KIB = 1 << 10
NOTHING = 0xFFFF_FFFF_FFFF_FFFF


class Bytes:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def read_at(self, offset: int, length: int) -> bytes:
        assert 0 <= offset <= 1 << 63
        assert 0 <= length <= 64 * KIB
        return self.data[offset : offset + length]


def found(data: bytes) -> Container | None:
    return containers.detect(Bytes(data))


def qcow2(*, backing: bytes = b"", features: int = 0, extension: bytes = b"") -> bytes:
    at = 400 if backing else 0
    head = struct.pack(">4sIQIIQ", b"QFI\xfb", 3, at, len(backing), 16, 1 << 30)
    head = head.ljust(72, b"\0") + struct.pack(">Q", features)
    head = head.ljust(100, b"\0") + struct.pack(">I", 104) + extension
    return (head.ljust(400, b"\0") + backing).ljust(4096, b"\0")


def vhd(kind: int, data: int = NOTHING) -> bytes:
    foot = struct.pack(">8sIIQ", b"conectix", 2, 0x10000, data).ljust(48, b"\0")
    return (foot + struct.pack(">Q4xI", 1 << 20, kind)).ljust(512, b"\0")


VMDK = struct.pack("<4sIIQQQQ", b"KDMV", 1, 3, 2048, 128, 1, 20)
DESCRIPTOR = b"# Disk DescriptorFile\nversion=1\nparentCID=%b\n%b%b"


def vmdk(parent: bytes = b"ffffffff", hint: bytes = b"", extent: bytes = b"") -> bytes:
    text = DESCRIPTOR % (parent, hint, extent or b'RW 2048 SPARSE "x.vmdk"\n')
    return VMDK.ljust(512, b"\0") + text.ljust(20 * 512, b"\0")


def test_a_qcow2_says_its_size_and_its_backing_file() -> None:
    assert found(qcow2()) == Container("qcow2", 1 << 30)
    overlay = found(qcow2(backing=b"/base.img"))
    assert overlay
    assert (overlay.backing, overlay.size) == ("/base.img", 1 << 30)
    assert overlay.needs
    assert "/base.img" in overlay.needs


def test_a_qcow2_with_its_data_in_another_file_names_it() -> None:
    extension = struct.pack(">II", 0x12345678, 3) + b"abc".ljust(8, b"\0")
    extension += struct.pack(">II", 0x44415441, 8) + b"data.raw"
    held = found(qcow2(features=4, extension=extension))
    assert held
    assert held.needs
    assert "data.raw" in held.needs
    unnamed = found(qcow2(features=4))
    assert unnamed
    assert unnamed.needs


def test_of_a_vmdk_the_parts_are_told_from_the_whole() -> None:
    assert found(vmdk()) == Container("vmdk", 1 << 20)
    part = found(VMDK.ljust(4096, b"\0"))
    assert part
    assert part.needs
    text = found(DESCRIPTOR % (b"ffffffff", b"", b'RW 2048 FLAT "x-flat.vmdk" 0\n'))
    assert text
    assert text.size == 1 << 20
    assert text.needs
    assert "x-flat.vmdk" in text.needs
    overlay = found(vmdk(b"12345678", b'parentFileNameHint="base.vmdk"\n'))
    assert overlay
    assert overlay.backing == "base.vmdk"
    assert overlay.needs
    for magic in (b"COWD\1\0\0\0", b"\xbe\xba\xfe\xca\0\0\0\0\1\0\0\0\2\0\0\0"):
        esx = found(magic.ljust(512, b"\0"))
        assert esx
        assert esx.format == "vmdk"
        assert esx.needs


def test_a_fixed_vhd_is_recognised_by_its_footer_alone() -> None:
    disk = bytes(1 << 20)
    assert found(disk + vhd(2)) == Container("vhd", 1 << 20)
    assert found(disk + vhd(2)[:511]) == Container("vhd", 1 << 20)
    assert found(disk + vhd(2) + bytes(512)) is None


def test_a_dynamic_vhd_is_recognised_without_its_footer_and_another_names_its_parent() -> None:
    assert found(vhd(3, 512) + bytes(4096)) == Container("vhd", 1 << 20)
    header = b"cxsparse".ljust(64, b"\0") + "basis.vhd".encode("utf-16-be")
    overlay = found(vhd(4, 512) + header.ljust(1024, b"\0") + vhd(4, 512))
    assert overlay
    assert overlay.backing == "basis.vhd"
    assert overlay.needs


@pytest.mark.parametrize(
    ("kind", "parent", "whole"),
    [(1, 0, True), (2, 0, True), (3, 1, False), (4, 0, False)],
    ids=["dynamic", "static", "undo", "differencing"],
)
def test_a_vdi_is_whole_unless_it_has_a_parent(kind: int, parent: int, whole: bool) -> None:
    head = bytearray(512)
    struct.pack_into("<I8xI", head, 0x40, 0xBEDA107F, kind)
    head[0x1A8] = parent
    struct.pack_into("<Q", head, 0x170, 1 << 20)
    held = found(bytes(head) + bytes(4096))
    assert held
    assert (held.format, held.size) == ("vdi", 1 << 20)
    assert (held.needs is None) == whole


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("qcow", b"QFI\xfb\0\0\0\1"),
        ("qed", b"QED\0"),
        ("parallels", b"WithoutFreeSpace"),
        ("parallels", b"WithouFreSpacExt"),
        ("dmg", b"encrcdsa"),
        ("bochs", b"Bochs Virtual HD Image"),
        ("cloop", b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0"),
        ("vhdx", b"vhdxfile"),
    ],
)
def test_a_magic_number_is_enough_however_short_or_damaged_the_rest(name: str, head: bytes) -> None:
    for tail in (b"", bytes(600), b"\xff" * 4096):
        held = found(head + tail)
        assert held
        assert held.format == name


def test_an_apple_image_is_recognised_by_its_footer() -> None:
    koly = bytearray(b"koly\0\0\0\4".ljust(512, b"\0"))
    struct.pack_into(">Q", koly, 0x1EC, 2048)
    assert found(bytes(8192) + koly) == Container("dmg", 1 << 20)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(4096),
        b"LUKS\xba\xbe\0\2".ljust(4096, b"\0"),
        b"conectix".rjust(300, b"\0").ljust(4096, b"\0"),
        b"\xeb\x63\x90" + bytes(507) + b"\x55\xaa" + bytes(4096),
        b"# a comment\nof a text\n".ljust(4096, b" "),
    ],
)
def test_what_is_no_container_is_none(data: bytes) -> None:
    assert found(data) is None


def test_whatever_a_guest_writes_behind_a_magic_number_is_only_read() -> None:
    source = random.Random(5)
    for _, magic, _ in containers._HEADS:
        for fill in (b"\xff" * 70_000, *(source.randbytes(70_000) for _ in range(20))):
            held = found(magic + fill if magic[0] != 0x7F else bytes(0x40) + magic + fill)
            assert held
            assert held.size is None or 0 < held.size < 1 << 63
            assert len(held.backing or "") < 1100
            assert len(held.needs or "") < 2300


def test_a_size_that_no_file_can_have_is_not_told() -> None:
    head = bytearray(qcow2())
    struct.pack_into(">Q", head, 24, NOTHING)
    assert found(bytes(head)) == Container("qcow2", None)
