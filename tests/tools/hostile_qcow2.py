"""qcow2 images whose headers and tables were changed as somebody would who means harm, or as a bad
disk does: many, and the same ones each time."""

from __future__ import annotations

import random
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

KIB, MIB = 1 << 10, 1 << 20
#: Bytes of the disk in each, with an ext4 in it.
SIZE = 8 * MIB
#: What nobody may open for an image: each variant that names a file names this.
SECRET = "/etc/hostname"

#: The options of the images that are changed.
PRISTINE = (
    ("compat=1.1",),
    ("compat=0.10",),
    ("compat=1.1,cluster_size=4K,lazy_refcounts=on",),
    ("compat=1.1,extended_l2=on",),
    ("compat=1.1,compression_type=zstd", "-c"),
)

#: The header's fields: their names, where they lie, and their bytes.
FIELDS = {
    "magic": (0, 4), "version": (4, 4), "backing offset": (8, 8), "backing length": (16, 4),
    "cluster bits": (20, 4), "size": (24, 8), "encryption": (32, 4), "L1 entries": (36, 4),
    "L1": (40, 8), "refcount table": (48, 8), "refcount clusters": (56, 4),
    "snapshots": (60, 4), "snapshot table": (64, 8), "incompatible": (72, 8),
    "compatible": (80, 8), "autoclear": (88, 8), "refcount order": (96, 4),
    "header length": (100, 4), "compression": (104, 1),
}  # fmt: skip


class Variant(NamedTuple):
    """`what` was done to an image, in a word or two, and what came of it."""

    what: str
    data: bytes


def pristine(directory: Path) -> list[bytes]:
    """The images before anything is done to them, each with a snapshot and a bitmap if its version
    has them."""
    raw = directory / "pristine.img"
    raw.write_bytes(b"")
    with raw.open("r+b") as image:
        image.truncate(SIZE)
    _run("mke2fs", "-q", "-F", "-t", "ext4", "-L", "guest", raw)
    made = []
    for number, (options, *more) in enumerate(PRISTINE):
        path = directory / f"pristine-{number}.qcow2"
        _run("qemu-img", "convert", "-O", "qcow2", "-o", options, *more, raw, path)
        _run("qemu-img", "snapshot", "-c", "before", path)
        if "0.10" not in options:
            _run("qemu-img", "bitmap", "--add", path, "backup")
        made.append(path.read_bytes())
    return made


def bomb(size: int) -> bytes:
    """A file of a few MiB: all of its disk of `size` bytes is the same cluster, over and over."""
    cluster = 2 * MIB
    l2, data, last = 3 * cluster, 4 * cluster, 5 * cluster
    entries = size // (cluster * cluster // 8)
    assert entries * 8 <= cluster
    head = struct.pack(
        ">4sIQIIQIIQQIIQQQQIIB7x",
        *(b"QFI\xfb", 3, 0, 0, 21, size, 0, entries, 2 * cluster, cluster, 1, 0, 0),
        *(0, 0, 0, 4, 112, 0),
    )
    image = bytearray(last + cluster)
    image[: len(head)] = head
    image[cluster : cluster + 8] = last.to_bytes(8, "big")
    image[2 * cluster : 2 * cluster + entries * 8] = struct.pack(">Q", 1 << 63 | l2) * entries
    image[l2:data] = struct.pack(">Q", 1 << 63 | data) * (cluster // 8)
    image[data:last] = b"\x55" * cluster
    image[last : last + 16] = b"\0\1" * 8
    return bytes(image)


def _run(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


def variants(images: list[bytes], count: int, seed: int = 15) -> Iterator[Variant]:
    """`count` of them, the same ones for a seed."""
    for number in range(count):
        chance = random.Random(seed * 100_000 + number)
        what, change = CHANGES[number % len(CHANGES)]
        data = bytearray(images[number // len(CHANGES) % len(images)])
        told = change(data, chance)
        yield Variant(f"{what} {told}".strip(), bytes(data))


def _number(chance: random.Random, data: bytearray, old: int, length: int) -> int:
    """A number where another was: absurd, just beside the old one, or where something else lies."""
    most = (1 << 8 * length) - 1
    cluster = 1 << int.from_bytes(data[20:24], "big")
    others = [int.from_bytes(data[at : at + size], "big") for at, size in FIELDS.values()]
    chosen = chance.choice((
        0, 1, 2, most, most >> 1, (most >> 1) + 1, old ^ 1 << chance.randrange(8 * length),
        old + 1, old - 1, old + cluster, old - cluster, len(data), len(data) - 512,
        len(data) + cluster, 1 << chance.randrange(64), chance.choice(others),
        chance.randrange(1 << 64),
    ))  # fmt: skip
    return chosen & most


def _field(data: bytearray, chance: random.Random) -> str:
    names = chance.sample(list(FIELDS), chance.choice((1, 1, 1, 2, 3)))
    for name in names:
        at, length = FIELDS[name]
        old = int.from_bytes(data[at : at + length], "big")
        data[at : at + length] = _number(chance, data, old, length).to_bytes(length, "big")
    return ", ".join(names)


def _bits(data: bytearray, chance: random.Random) -> str:
    word = 1 << chance.randrange(8) | (1 << chance.randrange(64) if chance.random() < 0.3 else 0)
    at = chance.choice((72, 72, 72, 80, 88))
    data[at : at + 8] = word.to_bytes(8, "big")
    return f"{word:#x} at {at}"


def _table(data: bytearray, chance: random.Random) -> str:
    """An entry of the L1, L2 or refcount table, or of a refcount block."""
    cluster = 1 << int.from_bytes(data[20:24], "big")
    l1, refcounts = (int.from_bytes(data[at : at + 8], "big") for at in (40, 48))
    l2 = int.from_bytes(data[l1 : l1 + 8], "big") & 0x00FFFFFFFFFFFE00
    block = int.from_bytes(data[refcounts : refcounts + 8], "big")
    name, start, entries = chance.choice((
        ("L1", l1, 1), ("L2", l2, 64), ("refcount table", refcounts, 2), ("block", block, 16),
    ))  # fmt: skip
    for _ in range(chance.choice((1, 1, 4, 16))):
        at = start + 8 * chance.randrange(entries)
        old = int.from_bytes(data[at : at + 8], "big")
        flags = chance.choice((0, 0, 1, 1 << 62, 1 << 63, 3 << 62))
        entry = chance.choice((_number(chance, data, old, 8), l1, l2, refcounts, cluster, 0))
        data[at : at + 8] = (entry | flags).to_bytes(8, "big")
    return name


def _names(data: bytearray, chance: random.Random) -> str:
    """Bytes of the snapshot table, or of the bitmap directory, which follows it somewhere."""
    at = int.from_bytes(data[64:72], "big")
    what = chance.choice(("snapshots", "bitmaps"))
    if what == "bitmaps" and (found := bytes(data).rfind(b"backup")) > 0:
        at = found - 24
    for _ in range(chance.choice((1, 2, 8))):
        data[min(at + chance.randrange(64), len(data) - 1)] = chance.choice((0, 1, 0x80, 0xFF))
    return what


def _extension(data: bytearray, chance: random.Random) -> str:
    kind = chance.choice((0xE2792ACA, 0x44415441, 0x23852875, 0x0537BE77, 0x6803F857, 7))
    length = chance.choice((0, 8, 16, 24, 4096, 0x7FFFFFFF, 0xFFFFFFFF))
    at = int.from_bytes(data[100:104], "big") if data[7] == 3 else 72
    word = chance.choice((b"raw", b"qcow2", b"nbd", SECRET.encode(), bytes(24), b"\xff" * 24))
    data[at : at + 32] = struct.pack(">II", kind, length) + word.ljust(24, b"\0")
    if kind == 0x44415441 and data[7] == 3:
        data[79] |= 4
    return f"{kind:#x}"


def _backing(data: bytearray, chance: random.Random) -> str:
    name = chance.choice((
        SECRET, f"../../../../..{SECRET}", f"file:{SECRET}", "nbd://127.0.0.1:1/x", "/dev/zero",
        f'json:{{"driver":"raw","file":{{"driver":"file","filename":"{SECRET}"}}}}', "", "\n",
        "bad0.qcow2", "x" * 1024, "/proc/self/fd/0", "fat:/etc", "/" * 1023,
    ))  # fmt: skip
    at = chance.choice((1024, 1024, 1024, 600, 3000))
    data[8:20] = struct.pack(">QI", at, len(name))
    data[at : at + len(name)] = name.encode()
    return name[:24]


def _noise(data: bytearray, chance: random.Random) -> str:
    last = chance.choice((112, 512, 64 * KIB, len(data)))
    for _ in range(chance.choice((1, 4, 16, 256))):
        data[chance.randrange(last)] = chance.randrange(256)
    return f"below {last}"


def _cut(data: bytearray, chance: random.Random) -> str:
    length = chance.choice((chance.randrange(512), chance.randrange(len(data)), len(data) - 512))
    del data[length:]
    return f"at {length}"


Change = Callable[[bytearray, random.Random], str]
CHANGES: tuple[tuple[str, Change], ...] = (
    ("fields", _field),
    ("table", _table),
    ("fields", _field),
    ("bits", _bits),
    ("table", _table),
    ("extension", _extension),
    ("names", _names),
    ("backing", _backing),
    ("noise", _noise),
    ("cut", _cut),
)
