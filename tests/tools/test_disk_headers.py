"""Our reader of containers' headers, held against what the real qemu-img makes and says."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from virtstore.errors import Corrupt, Unsupported
from virtstore.formats.disks import VirtualDisk, examine
from virtstore.model import ContainerFormat

MIB = 1 << 20
SIZE = 16 * MIB

#: The options of qcow2 images that are opened, each with the size of their clusters.
OPENED = {
    "": 64 << 10,
    "compat=0.10": 64 << 10,
    "compat=1.1": 64 << 10,
    "cluster_size=512": 512,
    "cluster_size=4K": 4 << 10,
    "cluster_size=2M": 2 << 20,
    "extended_l2=on": 64 << 10,
    "extended_l2=on,cluster_size=16K": 16 << 10,
    "extended_l2=on,cluster_size=2M": 2 << 20,
    "compression_type=zstd": 64 << 10,
    "lazy_refcounts=on": 64 << 10,
    "preallocation=metadata": 64 << 10,
    "preallocation=falloc": 64 << 10,
    "preallocation=full": 64 << 10,
    "refcount_bits=1": 64 << 10,
    "refcount_bits=64": 64 << 10,
    "compat=0.10,cluster_size=512": 512,
    "preallocation=metadata,cluster_size=512,refcount_bits=64": 512,
}


class _File:
    def __init__(self, fd: int) -> None:
        self.fd, self.size = fd, os.fstat(fd).st_size

    def read_at(self, offset: int, length: int) -> bytes:
        assert length <= 64 << 10
        return os.pread(self.fd, length, offset)


@contextmanager
def opened(path: Path) -> Iterator[_File]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield _File(fd)
    finally:
        os.close(fd)


def look(path: Path, format: ContainerFormat = "qcow2") -> VirtualDisk:
    with opened(path) as source:
        return examine(source, format)


def qemu_img(*words: object, cwd: Path | None = None) -> str:
    argv = ["qemu-img", *map(str, words)]
    return subprocess.run(argv, cwd=cwd, check=True, capture_output=True, text=True).stdout


def make(path: Path, *options: object, size: int = SIZE) -> Path:
    qemu_img("create", "-q", "-f", "qcow2", *options, path, size)
    return path


def filled(path: Path) -> Path:
    path.write_bytes(os.urandom(MIB) + bytes(3 * MIB))
    return path


@pytest.mark.parametrize("options", OPENED)
def test_what_qemu_img_makes_is_told_as_qemu_img_tells_it(tmp_path: Path, options: str) -> None:
    path = make(tmp_path / "x.qcow2", *(("-o", options) if options else ()))
    said = json.loads(qemu_img("info", "--output=json", path))
    assert look(path) == VirtualDisk("qcow2", said["virtual-size"], OPENED[options])
    assert said["cluster-size"] == OPENED[options]


@pytest.mark.parametrize("size", [512, 1536, 1 << 30, 1 << 40, 50 << 40])
def test_the_smallest_and_the_largest_disks_are_told(tmp_path: Path, size: int) -> None:
    path = make(tmp_path / "x.qcow2", "-o", "cluster_size=2M", size=size)
    assert look(path).size == size


def test_one_with_data_in_it_compressed_or_not_is_told(tmp_path: Path) -> None:
    raw = filled(tmp_path / "x.img")
    for number, options in enumerate(([], ["-c"], ["-c", "-o", "compression_type=zstd"])):
        path = tmp_path / f"{number}.qcow2"
        qemu_img("convert", "-O", "qcow2", *options, raw, path)
        assert look(path).size == 4 * MIB


def test_a_resized_one_is_told_with_its_new_size(tmp_path: Path) -> None:
    path = make(tmp_path / "x.qcow2", "-o", "cluster_size=4K")
    for size in (40 * MIB, 400 * MIB, 4 * MIB):
        qemu_img("resize", "-q", "--shrink", path, size)
        assert look(path).size == size


def test_a_disk_without_bytes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="has no bytes"):
        look(make(tmp_path / "x.qcow2", size=0))


@pytest.mark.parametrize("compat", ["0.10", "1.1"])
def test_a_backing_file_is_told_as_the_header_has_it(tmp_path: Path, compat: str) -> None:
    make(tmp_path / "golden.qcow2")
    over = tmp_path / "over.qcow2"
    make(over, "-o", f"compat={compat}", "-b", "golden.qcow2", "-F", "qcow2")
    told = look(over)
    assert (told.backing, told.backing_format) == ("golden.qcow2", "qcow2")
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", "/elsewhere/golden.img", "-F", "raw", over)
    told = look(over)
    assert (told.backing, told.backing_format) == ("/elsewhere/golden.img", "raw")
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", "", over)
    assert look(over).backing is None


def test_a_backing_file_without_a_format_is_told_without_one(tmp_path: Path) -> None:
    make(tmp_path / "golden.qcow2")
    # qemu-img of today asks for the format; one is taken away as older ones left it out.
    over = make(tmp_path / "over.qcow2", "-b", "golden.qcow2", "-F", "qcow2")
    data = over.read_bytes()
    kind = (0xE2792ACA).to_bytes(4, "big")
    over.write_bytes(data.replace(kind, b"none", 1))
    assert "backing-filename-format" not in json.loads(qemu_img("info", "--output=json", over))
    told = look(over)
    assert (told.backing, told.backing_format) == ("golden.qcow2", None)


@pytest.mark.parametrize(
    "name",
    [
        'json:{"driver":"raw","file":{"driver":"file","filename":"/golden.img"}}',
        "nbd://elsewhere/golden",
        "file:golden.img",
        "ssh://root@elsewhere/golden.img",
        "with:colon.img",
        "line\nbreak.img",
    ],
)
def test_a_backing_file_that_is_no_path_is_refused(tmp_path: Path, name: str) -> None:
    path = make(tmp_path / "over.qcow2", "-u", "-b", name, "-F", "raw")
    with pytest.raises(Unsupported, match="qemu-img rebase -u -f qcow2 -b PATH"):
        look(path)


def test_internal_snapshots_are_named(tmp_path: Path) -> None:
    path = make(tmp_path / "x.qcow2", "-o", "cluster_size=512")
    names = ["before the upgrade", "nächste", *(f"s{number}" for number in range(20))]
    for name in names:
        qemu_img("snapshot", "-c", name, path)
    assert look(path).snapshots == tuple(names)
    qemu_img("snapshot", "-d", "nächste", path)
    assert look(path).snapshots == (names[0], *names[2:])


def test_persistent_bitmaps_are_named(tmp_path: Path) -> None:
    path = make(tmp_path / "x.qcow2")
    for name in ("backup-1", "cp2", "x" * 200):
        qemu_img("bitmap", "--add", path, name)
    qemu_img("bitmap", "--disable", path, "cp2")
    assert look(path).bitmaps == ("backup-1", "cp2", "x" * 200)
    qemu_img("snapshot", "-c", "one", path)
    qemu_img("bitmap", "--remove", path, "cp2")
    told = look(path)
    assert (told.bitmaps, told.snapshots) == (("backup-1", "x" * 200), ("one",))


def test_an_encrypted_one_is_refused_and_the_command_that_is_told_decrypts_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "key").write_text("secret")
    secret = ("--object", f"secret,id=key,file={tmp_path / 'key'}")
    path = tmp_path / "x.qcow2"
    # LUKS is made by rounds of hashing that qemu-img times, and on a busy machine it gives up.
    options = "encrypt.format=aes,encrypt.key-secret=key"
    qemu_img("create", "-q", "-f", "qcow2", *secret, "-o", options, path, MIB)
    with pytest.raises(Unsupported, match="AES") as refused:
        look(path)
    told = refused.value.message.split("`")[1]
    for word, stands_for in (("KEYFILE", "key"), ("=FILE", "=x.qcow2"), ("NEW.qcow2", "n.qcow2")):
        told = told.replace(word, stands_for)
    subprocess.run(told.split(), cwd=tmp_path, check=True)
    assert look(tmp_path / "n.qcow2").size == MIB


@pytest.mark.parametrize("raw", ["on", "off"])
def test_one_with_its_data_in_another_file_is_refused_with_that_files_name(
    tmp_path: Path, raw: str
) -> None:
    path = make(tmp_path / "x.qcow2", "-o", f"data_file={tmp_path}/x.data,data_file_raw={raw}")
    with pytest.raises(Unsupported, match=r"x\.data") as refused:
        look(path)
    assert "qemu-img convert -f qcow2 -O qcow2 FILE NEW.qcow2" in refused.value.message


def test_a_dirty_one_is_refused_until_qemu_img_has_mended_it(tmp_path: Path) -> None:
    path = make(tmp_path / "x.qcow2", "-o", "lazy_refcounts=on")
    # qemu-io dies in the middle: what a killed QEMU leaves.
    writing = ["qemu-io", "-f", "qcow2", "-c", "write 0 1M", "-c", "sigraise 9", str(path)]
    subprocess.run(writing, capture_output=True)
    with pytest.raises(Corrupt, match="qemu-img check -r all FILE"):
        look(path)
    qemu_img("check", "-q", "-r", "all", path)
    assert look(path).size == SIZE


def test_one_that_qemu_found_corrupt_is_refused_until_qemu_img_has_mended_it(
    tmp_path: Path,
) -> None:
    path = make(tmp_path / "x.qcow2")
    with path.open("r+b") as stream:
        stream.seek(79)
        stream.write(b"\2")
    with pytest.raises(Corrupt, match="corrupt bit"):
        look(path)
    qemu_img("check", "-q", "-r", "all", path)
    assert look(path).size == SIZE


def test_one_that_was_cut_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "x.qcow2", "-o", "preallocation=metadata")
    for length in (SIZE // 1024, 4096, 103, 4, 0):
        os.truncate(path, length)
        with pytest.raises(Corrupt):
            look(path)


#: What else QEMU writes, each with its options and whether it is opened.
OTHERS: dict[str, tuple[ContainerFormat, str, bool]] = {
    "monolithicSparse": ("vmdk", "subformat=monolithicSparse", True),
    "streamOptimized": ("vmdk", "subformat=streamOptimized", True),
    "monolithicFlat": ("vmdk", "subformat=monolithicFlat", False),
    "twoGbMaxExtentSparse": ("vmdk", "subformat=twoGbMaxExtentSparse", False),
    "twoGbMaxExtentFlat": ("vmdk", "subformat=twoGbMaxExtentFlat", False),
    "dynamic vdi": ("vdi", "static=off", True),
    "static vdi": ("vdi", "static=on", True),
    "dynamic vhdx": ("vhdx", "subformat=dynamic", True),
    "fixed vhdx": ("vhdx", "subformat=fixed", True),
    "large blocks": ("vhdx", "block_size=256M", True),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_hypervisors_containers_are_told_if_they_are_one_file(
    tmp_path: Path, kind: str
) -> None:
    format, options, whole = OTHERS[kind]
    path = tmp_path / f"x.{format}"
    qemu_img("convert", "-O", format, "-o", options, filled(tmp_path / "x.img"), path)
    if not whole:
        with pytest.raises(Unsupported, match="several files"):
            look(path, format)
        return
    said = json.loads(qemu_img("info", "--output=json", path))
    assert look(path, format) == VirtualDisk(format, said["virtual-size"], said["cluster-size"])


def test_the_parts_of_a_vmdk_are_refused_each_by_itself(tmp_path: Path) -> None:
    for subformat in ("monolithicFlat", "twoGbMaxExtentSparse"):
        path = tmp_path / f"{subformat}.vmdk"
        options = ("-O", "vmdk", "-o", f"subformat={subformat}")
        qemu_img("convert", *options, filled(tmp_path / "x.img"), path)
    flat = tmp_path / "monolithicFlat-flat.vmdk"
    with pytest.raises(Corrupt, match="does not begin as one"):
        look(flat, "vmdk")
    with pytest.raises(Unsupported, match="several files"):
        look(tmp_path / "twoGbMaxExtentSparse-s001.vmdk", "vmdk")


def test_a_vmdk_that_is_laid_over_another_is_refused(tmp_path: Path) -> None:
    qemu_img("create", "-q", "-f", "vmdk", tmp_path / "base.vmdk", SIZE)
    path = tmp_path / "x.vmdk"
    qemu_img("create", "-q", "-f", "vmdk", "-b", "base.vmdk", "-F", "vmdk", path, cwd=tmp_path)
    with pytest.raises(Unsupported, match="its parent"):
        look(path, "vmdk")


def test_what_is_called_otherwise_is_not_taken_for_what_it_holds(tmp_path: Path) -> None:
    path = make(tmp_path / "x")
    for format in ("vmdk", "vdi", "vhdx"):
        with pytest.raises(Corrupt, match=f"a {format} container"):
            look(path, format)
    with pytest.raises(Corrupt, match="a qcow2 container"):
        look(filled(tmp_path / "raw"))
