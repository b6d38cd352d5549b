"""What a container's header says is checked before any engine reads it."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field

import pytest

from virtstore.errors import Corrupt, Unsupported
from virtstore.formats.disks import VirtualDisk, examine, naming
from virtstore.model import ContainerFormat

KIB = 1 << 10
CLUSTER = 64 * KIB
SIZE = 1 << 30
#: What is longer than this is not read in one go, whatever a header says.
MOST = 64 * KIB


class Bytes:
    def __init__(self, data: bytes, size: int | None = None) -> None:
        self.data = data
        self.size = len(data) if size is None else size
        self.looks = 0

    def read_at(self, offset: int, length: int) -> bytes:
        assert 0 <= offset < 1 << 64
        assert 0 <= length <= MOST
        self.looks += 1
        return self.data[offset : offset + length].ljust(min(length, self.size - offset), b"\0")


@dataclass
class Qcow2:
    """A qcow2 of four clusters: header, refcount table, L1 table, and a table of names."""

    version: int = 3
    cluster_bits: int = 16
    size: int = SIZE
    encryption: int = 0
    l1: tuple[int, int] = (2, 2 * CLUSTER)
    refcounts: tuple[int, int] = (CLUSTER, 1)
    snapshots: tuple[int, int] = (0, 0)
    features: int = 0
    autoclear: int = 0
    refcount_order: int = 4
    length: int = 112
    compression: int = 0
    backing: tuple[int, int] = (0, 0)
    extensions: bytes = b""
    name: bytes = b""
    table: bytes = b""
    clusters: int = field(default=4)

    def bytes(self) -> bytes:
        head = struct.pack(
            ">4sIQIIQIIQQIIQ",
            b"QFI\xfb",
            self.version,
            *self.backing,
            self.cluster_bits,
            self.size,
            self.encryption,
            *self.l1,
            *self.refcounts,
            *self.snapshots,
        )
        head += struct.pack(
            ">QQQIIB7x",
            self.features,
            0,
            self.autoclear,
            self.refcount_order,
            self.length,
            self.compression,
        )
        head = (head + self.extensions).ljust(2 * KIB, b"\0") + self.name
        tables = head.ljust(3 * CLUSTER, b"\0") + self.table
        return tables.ljust(self.clusters * CLUSTER, b"\0")


def look(image: Qcow2, size: int | None = None) -> VirtualDisk:
    return examine(Bytes(image.bytes(), size), "qcow2")


def extension(kind: int, data: bytes) -> bytes:
    return struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)


def backed(name: bytes, **other: bytes) -> Qcow2:
    return Qcow2(backing=(2 * KIB, len(name)), name=name, **other)  # type: ignore[arg-type]


def snapshot(
    name: bytes, *, identity: bytes = b"1", extra: int = 16, l1: int = 2 * CLUSTER
) -> bytes:
    entry = struct.pack(">QIHHIIQII", l1, 2, len(identity), len(name), 0, 0, 0, 0, extra)
    entry += bytes(extra) + identity + name
    return entry + bytes(-len(entry) % 8)


def bitmap(name: bytes, table: int = 2 * CLUSTER, kind: int = 1, granularity: int = 16) -> bytes:
    entry = struct.pack(">QIIBBHI", table, 1, 2, kind, granularity, len(name), 0) + name
    return entry + bytes(-len(entry) % 8)


def with_bitmaps(directory: bytes, count: int, **other: int) -> Qcow2:
    data = struct.pack(">IIQQ", count, 0, len(directory), 3 * CLUSTER)
    told = Qcow2(autoclear=1, extensions=extension(0x23852875, data), table=directory)
    for name, value in other.items():
        setattr(told, name, value)
    return told


def test_a_plain_qcow2_is_told() -> None:
    assert look(Qcow2()) == VirtualDisk("qcow2", SIZE, CLUSTER)
    assert look(Qcow2(version=2, features=1 << 63)) == VirtualDisk("qcow2", SIZE, CLUSTER)


def test_its_extensions_and_its_backing_file_are_told() -> None:
    told = look(backed(b"golden.img", extensions=extension(0xE2792ACA, b"raw")))
    assert (told.backing, told.backing_format) == ("golden.img", "raw")
    assert look(backed("über/golden".encode())).backing == "über/golden"
    assert look(backed(b"./with:colon.img")).backing == "./with:colon.img"
    assert look(Qcow2(backing=(2 * KIB, 0))).backing is None


REFUSED: dict[str, tuple[Qcow2, type[Exception], str]] = {
    "version 1": (Qcow2(version=1), Unsupported, "qemu-img convert -f qcow -O qcow2"),
    "version 4": (Qcow2(version=4), Unsupported, "version 4"),
    "small clusters": (Qcow2(cluster_bits=8), Corrupt, r"2\^8"),
    "large clusters": (Qcow2(cluster_bits=22), Corrupt, r"2\^22"),
    "absurd clusters": (Qcow2(cluster_bits=0xFFFFFFFF), Corrupt, "clusters"),
    "short header": (Qcow2(length=96), Corrupt, "96 bytes long"),
    "long header": (Qcow2(length=CLUSTER + 8), Corrupt, "bytes long"),
    "odd header": (Qcow2(length=107), Corrupt, "bytes long"),
    "refcounts": (Qcow2(refcount_order=7), Corrupt, "reference counts"),
    "subclusters": (Qcow2(features=16, cluster_bits=12), Corrupt, "subclusters"),
    "AES": (Qcow2(encryption=1), Unsupported, "AES"),
    "LUKS": (Qcow2(encryption=2), Unsupported, "qemu-img convert --object secret"),
    "encryption": (Qcow2(encryption=9), Unsupported, "method 9"),
    "dirty": (Qcow2(features=1), Corrupt, "qemu-img check -r all FILE"),
    "corrupt": (Qcow2(features=2), Corrupt, "qemu-img check -r all FILE"),
    "data file": (Qcow2(features=4), Unsupported, "does not say which"),
    "named data file": (
        Qcow2(features=4, extensions=extension(0x44415441, b"/etc/sh\x1bdow")),
        Unsupported,
        r"/etc/sh\?dow",
    ),
    "raw data file": (Qcow2(autoclear=2), Corrupt, "it has none"),
    "unknown": (Qcow2(features=1 << 5 | 1 << 63), Unsupported, "bits 5, 63"),
    "compression": (Qcow2(features=8, compression=2), Unsupported, "type 2"),
    "compression alone": (Qcow2(compression=1), Corrupt, "compression"),
    "compression bit": (Qcow2(features=8), Corrupt, "compression"),
    "no compression": (Qcow2(features=8, length=104), Corrupt, "compression"),
    "key": (Qcow2(extensions=extension(0x0537BE77, bytes(16))), Unsupported, "encrypted"),
    "long end": (Qcow2(extensions=struct.pack(">II", 0, CLUSTER)), Corrupt, "extension"),
    "no size": (Qcow2(size=0), Unsupported, "no bytes"),
    "absurd size": (Qcow2(size=1 << 63), Corrupt, "more than any can have"),
    "large size": (Qcow2(size=(1 << 50) + 512), Unsupported, "up to 1 PiB"),
    "part of a sector": (Qcow2(size=SIZE + 1), Corrupt, "no whole sectors"),
    "small L1": (Qcow2(l1=(1, 2 * CLUSTER)), Corrupt, "too few"),
    "small extended L1": (Qcow2(features=16, l1=(3, 2 * CLUSTER)), Corrupt, "too few"),
    "absurd L1": (Qcow2(l1=(1 << 31, 2 * CLUSTER)), Corrupt, "L1 table would have"),
    "unaligned L1": (Qcow2(l1=(2, 2 * CLUSTER + 8)), Corrupt, "L1 table would lie"),
    "L1 in the header": (Qcow2(l1=(2, 0)), Corrupt, "L1 table would lie"),
    "L1 outside": (Qcow2(l1=(2, 4 * CLUSTER)), Corrupt, "L1 table would lie"),
    "L1 far outside": (Qcow2(l1=(2, (1 << 64) - CLUSTER)), Corrupt, "L1 table would lie"),
    "no refcounts": (Qcow2(refcounts=(CLUSTER, 0)), Corrupt, "no reference counts"),
    "absurd refcounts": (Qcow2(refcounts=(CLUSTER, 129)), Corrupt, "refcount table would"),
    "refcounts outside": (Qcow2(refcounts=(3 * CLUSTER, 2)), Corrupt, "refcount table would"),
    "long extension": (Qcow2(extensions=b"\1" * 8), Corrupt, "extension"),
    "backing outside": (Qcow2(backing=(CLUSTER, 8)), Corrupt, "backing file"),
    "no backing, outside": (Qcow2(backing=(CLUSTER + 1, 0)), Corrupt, "backing file"),
    "backing in the header": (Qcow2(backing=(8, 8)), Corrupt, "backing file"),
    "long backing": (backed(b"x" * 1024), Corrupt, "1024 bytes"),
    "backing of json": (backed(b'json:{"driver":"raw"}'), Unsupported, "qemu-img rebase -u"),
    "backing elsewhere": (backed(b"nbd://host/x"), Unsupported, "qemu-img rebase -u"),
    "backing by fd": (backed(b"fd:3"), Unsupported, "qemu-img rebase -u"),
    "backing with a NUL": (backed(b"/golden\0/x"), Unsupported, "no text"),
    "backing of bytes": (backed(b"/golden\xff"), Unsupported, "no text"),
    "format": (
        backed(b"golden", extensions=extension(0xE2792ACA, b"a,b=c")),
        Corrupt,
        "of the format",
    ),
    "absurd snapshots": (Qcow2(snapshots=(1025, 3 * CLUSTER)), Unsupported, "snapshot -d"),
    "snapshots outside": (Qcow2(snapshots=(1, 4 * CLUSTER)), Corrupt, "snapshot table would"),
    "unaligned snapshots": (Qcow2(snapshots=(1, 3 * CLUSTER + 8)), Corrupt, "snapshot table"),
    "too many snapshots": (
        Qcow2(snapshots=(2, 3 * CLUSTER), table=snapshot(b"one")),
        Corrupt,
        "a snapshot's L1 table",
    ),
    "a snapshot's L1": (
        Qcow2(snapshots=(1, 3 * CLUSTER), table=snapshot(b"one", l1=1 << 40)),
        Corrupt,
        "a snapshot's L1 table",
    ),
    "a snapshot's data": (
        Qcow2(snapshots=(1, 3 * CLUSTER), table=snapshot(b"one", extra=1025)),
        Corrupt,
        "do not fit",
    ),
    "absurd bitmaps": (with_bitmaps(bitmap(b"a"), 1025), Unsupported, "bitmap --remove"),
    "too many bitmaps": (with_bitmaps(bitmap(b"a"), 2), Corrupt, "do not fit"),
    "too few bitmaps": (with_bitmaps(bitmap(b"a") * 2, 1), Corrupt, "do not fit"),
    "a bitmap's table": (with_bitmaps(bitmap(b"a", table=1 << 62), 1), Corrupt, "bitmap's table"),
    "another kind of bitmap": (with_bitmaps(bitmap(b"a", kind=2), 1), Corrupt, "do not fit"),
    "a bitmap without a name": (with_bitmaps(bitmap(b""), 1), Corrupt, "do not fit"),
    "a fine bitmap": (with_bitmaps(bitmap(b"a", granularity=8), 1), Corrupt, "do not fit"),
    "short bitmaps": (
        Qcow2(autoclear=1, extensions=extension(0x23852875, b"bitmaps!")),
        Corrupt,
        "takes 24",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_header_that_asks_for_harm_is_refused(what: str) -> None:
    image, error, told = REFUSED[what]
    with pytest.raises(error, match=told):
        look(image)


def test_a_table_in_a_large_hole_is_not_read() -> None:
    sparse = Qcow2(size=1 << 50, l1=(1 << 21, 4 * CLUSTER))
    assert look(sparse, size=1 << 60).size == 1 << 50


def test_names_inside_are_told_without_what_a_terminal_obeys() -> None:
    table = snapshot(b"one") + snapshot(b"", identity=b"17") + snapshot(b"\x1b[31mred", extra=24)
    assert look(Qcow2(snapshots=(3, 3 * CLUSTER), table=table)).snapshots == (
        "one",
        "17",
        "?[31mred",
    )
    directory = bitmap(b"backup") + bitmap(b"li\nne")
    assert look(with_bitmaps(directory, 2)).bitmaps == ("backup", "li?ne")


def test_bitmaps_that_a_writer_left_behind_are_not_told() -> None:
    assert look(with_bitmaps(bitmap(b"stale"), 1, autoclear=0)).bitmaps == ()


def test_what_is_none_is_refused_under_any_name() -> None:
    for format in ("qcow2", "vmdk", "vdi", "vhdx"):
        for data in (b"", bytes(8), bytes(256 * KIB), b"QFI", b"\xff" * 4096):
            with pytest.raises(Corrupt, match=f"a {format} container"):
                examine(Bytes(data), format)
    with pytest.raises(Unsupported, match="bochs"):
        examine(Bytes(bytes(4096)), "bochs")


TEXT = b"""# Disk DescriptorFile
version=1
CID=fa88b845
parentCID=ffffffff
createType="monolithicSparse"

RW 2048 SPARSE "x.vmdk"
"""


def vmdk(text: bytes = TEXT, **other: int) -> bytes:
    names = {
        "capacity": 2048,
        "at": 21,
        "version": 1,
        "flags": 3,
        "grain": 128,
        "descriptor": 1,
        "entries": 512,
    }
    values = {**names, "algorithm": 0, **other}
    head = struct.pack("<4sII", b"KDMV", values["version"], values["flags"])
    head += struct.pack("<QQQQ", values["capacity"], values["grain"], values["descriptor"], 20)
    head += struct.pack("<IQQ", values["entries"], 0, values["at"])
    head = head.ljust(77, b"\0") + struct.pack("<H", values["algorithm"])
    return (head.ljust(512, b"\0") + text).ljust(32 * 512, b"\0")


def streamed(**footer: int) -> bytes:
    end = (1 << 64) - 1
    return vmdk(at=end) + bytes(512) + vmdk(TEXT, **footer)[:512] + bytes(512)


def test_a_vmdk_in_one_file_is_told() -> None:
    assert examine(Bytes(vmdk()), "vmdk") == VirtualDisk("vmdk", 1 << 20, CLUSTER)
    assert examine(Bytes(streamed()), "vmdk") == VirtualDisk("vmdk", 1 << 20, CLUSTER)


@pytest.mark.parametrize(
    ("data", "error", "told"),
    [
        (vmdk(capacity=0), Unsupported, "no bytes"),
        (vmdk(capacity=1 << 60), Corrupt, "more than any"),
        (vmdk(capacity=1 << 41), Corrupt, "grain directory"),
        (vmdk(capacity=1 << 50), Unsupported, "up to 1 PiB"),
        (vmdk(version=4), Unsupported, "version 4"),
        (vmdk(algorithm=2), Unsupported, "compressed"),
        (vmdk(grain=127), Corrupt, "grains of 127"),
        (vmdk(grain=0), Corrupt, "grains of 0"),
        (vmdk(entries=0), Corrupt, "0 in a table"),
        (vmdk(descriptor=0), Unsupported, "several files"),
        (vmdk(descriptor=5), Corrupt, "descriptor"),
        (vmdk(at=1), Corrupt, "grain directory"),
        (vmdk(at=1 << 40), Corrupt, "grain directory"),
        (vmdk(b""), Unsupported, "several files"),
        (vmdk(TEXT + b'RW 2048 FLAT "/etc/shadow" 0\n'), Unsupported, "several files"),
        (vmdk(TEXT + b'rw 2048 sparse "/etc/shadow"\n'), Unsupported, "several files"),
        (vmdk(TEXT.replace(b"SPARSE", b"FLAT")), Unsupported, "several files"),
        (vmdk(TEXT.replace(b"ffffffff", b"12345678")), Unsupported, "parent"),
        (vmdk(TEXT + b'xparentFileNameHint="/etc/shadow"\n'), Unsupported, "parent"),
        (streamed(capacity=0), Corrupt, "differ"),
        (streamed(at=(1 << 64) - 1), Corrupt, "differ"),
        (streamed()[:-512], Corrupt, "footer"),
        (TEXT, Unsupported, "several files"),
    ],
)
def test_a_vmdk_that_needs_more_than_itself_or_is_damaged_is_refused(
    data: bytes, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        examine(Bytes(data), "vmdk")


def vdi(**other: int) -> bytes:
    names = {"version": 0x10001, "kind": 1, "map": 512, "data": 1024, "sector": 512}
    values = {**names, "size": 1 << 20, "block": 1 << 20, "blocks": 1, "link": 0, **other}
    head = bytearray(1024)
    struct.pack_into("<II4xI", head, 0x40, 0xBEDA107F, values["version"], values["kind"])
    struct.pack_into("<II12xI", head, 0x154, values["map"], values["data"], values["sector"])
    struct.pack_into("<QI4xI", head, 0x170, values["size"], values["block"], values["blocks"])
    head[0x1A8] = values["link"]
    return bytes(head)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (vdi(version=0x20000), "version 2.0"),
        (vdi(kind=3), "parent"),
        (vdi(kind=4), "parent"),
        (vdi(link=1), "parent"),
        (vdi(size=0), "no bytes"),
        (vdi(size=1 << 63), "more than any"),
        (vdi(size=(1 << 20) + 1), "map of its 1 blocks"),
        (vdi(blocks=1 << 31), "map of its"),
        (vdi(map=0), "map of its"),
        (vdi(map=513), "map of its"),
        (vdi(map=1 << 20), "map of blocks would lie"),
        (vdi(block=1 << 16), "blocks of 65536"),
        (vdi()[:0x180], "header"),
    ],
)
def test_a_vdi_that_needs_more_than_itself_or_is_damaged_is_refused(data: bytes, told: str) -> None:
    with pytest.raises((Corrupt, Unsupported), match=told):
        examine(Bytes(data), "vdi")


def test_a_vdis_last_sector_is_told_whole() -> None:
    told = examine(Bytes(vdi(size=(1 << 20) - 100)), "vdi")
    assert told == VirtualDisk("vdi", 1 << 20, 1 << 20)


def vhdx(*, log: tuple[int, int] = (0, 0), flags: int = 0, size: int = SIZE) -> bytes:
    data = bytearray(1 << 20)
    data[:8] = b"vhdxfile"
    for at, sequence, guid in ((64 * KIB, 7, log[0]), (128 * KIB, 8, log[1])):
        struct.pack_into("<4sIQ32xB", data, at, b"head", 0, sequence, guid)
    region = bytes.fromhex("06a27c8b90479a4bb8fe575f050f886e")
    struct.pack_into("<4sII4x16sQII", data, 192 * KIB, b"regi", 0, 1, region, 512 * KIB, 1, 1)
    names = ("3767a1ca36fa434db3b633f0aa44e76b", "2442a52f1bcd7648b2115dbed83bf4b8")
    struct.pack_into("<8s2xH", data, 512 * KIB, b"metadata", 2)
    for number, name in enumerate(names):
        place = 512 * KIB + 32 + 32 * number
        struct.pack_into("<16sII", data, place, bytes.fromhex(name), 64 * KIB + 8 * number, 8)
    struct.pack_into("<IIQ", data, 576 * KIB, 32 << 20, flags, size)
    return bytes(data)


def test_a_vhdx_is_told() -> None:
    assert examine(Bytes(vhdx()), "vhdx") == VirtualDisk("vhdx", SIZE, 32 << 20)
    assert examine(Bytes(vhdx(log=(1, 0))), "vhdx").size == SIZE


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (vhdx(log=(0, 1)), "qemu-img check -r all FILE"),
        (vhdx(flags=2), "parent"),
        (vhdx(size=0), "no bytes"),
        (vhdx(size=1 << 62), "up to 1 PiB"),
        (vhdx(size=1 << 50), "a disk of"),
        (vhdx(size=513), "a disk of"),
        (vhdx()[: 512 * KIB], "does not say"),
        (vhdx()[: 64 * KIB], "header"),
        (vhdx()[: 64 * KIB].ljust(1 << 20, b"\0"), "none of its two headers"),
    ],
)
def test_a_vhdx_that_needs_more_than_itself_or_is_damaged_is_refused(
    data: bytes, told: str
) -> None:
    with pytest.raises((Corrupt, Unsupported), match=told):
        examine(Bytes(data), "vhdx")


def whole(format: ContainerFormat) -> bytes:
    if format == "qcow2":
        name = extension(0xE2792ACA, b"raw")
        image = with_bitmaps(bitmap(b"a") + bitmap(b"b"), 2)
        image.extensions = name + image.extensions
        image.backing, image.name = (2 * KIB, 6), b"golden"
        return image.bytes()
    return vmdk() if format == "vmdk" else vdi() if format == "vdi" else vhdx()


@pytest.mark.parametrize("format", ["qcow2", "vmdk", "vdi", "vhdx"])
def test_a_thousand_damaged_headers_are_told_or_refused_within_bounds(
    format: ContainerFormat,
) -> None:
    chance = random.Random(15)
    good = whole(format)
    examine(Bytes(good), format)
    places = [at for at in range(len(good)) if good[at]] + list(range(512))
    for _ in range(1000):
        data = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            at = chance.choice(places)
            data[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, data[at] ^ 1 << chance.randrange(8)))
        source = Bytes(bytes(data)[: chance.choice((len(data), len(data), chance.choice(places)))])
        try:
            told = examine(source, format)
        except (Corrupt, Unsupported) as error:
            words = error.message
        else:
            assert 0 < told.size < 1 << 63
            words = f"{told.backing}{told.snapshots}{told.bitmaps}"
        assert words.isprintable()
        assert source.looks < 10_000


def test_in_a_message_the_containers_path_stands_for_it_and_no_part_of_another_word() -> None:
    message = "`qemu-img convert --object secret,file=KEYFILE FILE NEW`"
    assert naming(message, "/a b") == ("`qemu-img convert --object secret,file=KEYFILE '/a b' NEW`")
