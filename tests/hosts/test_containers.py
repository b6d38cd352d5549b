"""Between two hosts: the disk in a container becomes any kind of image, and the bytes of one keep
its kind of name."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

from .command import Client
from .conftest import Hosts, Refused
from .trees import MIB

#: 1 MiB of zeros between two of data, and zeros to the end.
DISK = random.Random(15).randbytes(MIB) + bytes(MIB) + random.Random(16).randbytes(MIB) + bytes(MIB)


def qemu_img(*words: str | Path) -> None:
    subprocess.run(["qemu-img", *words], check=True, capture_output=True, timeout=120)


def as_raw(container: Path) -> bytes:
    qemu_img("convert", "-f", "qcow2", "-O", "raw", container, raw := container.with_suffix(".raw"))
    try:
        return raw.read_bytes()
    finally:
        raw.unlink()


def test_a_disk_goes_from_raw_to_qcow2_to_an_archive_and_back(client: Client, hosts: Hosts) -> None:
    (hosts.a.images / "web.img").write_bytes(DISK)
    there, back = hosts.b.images, hosts.a.images
    copied = client.json("copy", hosts.a.at(back / "web.img"), hosts.b.at(there / "web.qcow2"))
    assert as_raw(there / "web.qcow2") == DISK
    assert (there / "web.qcow2").stat().st_blocks * 512 < 3 * MIB
    qemu_img("check", there / "web.qcow2")

    archive = back / "web.qcow2.zst"
    packed = client.json("copy", "--archive", hosts.b.at(there / "web.qcow2"), hosts.a.at(archive))
    restored = client.json("copy", hosts.a.at(archive), hosts.b.at(there / "again.img"))
    assert (there / "again.img").read_bytes() == DISK
    client.json("copy", hosts.a.at(archive), hosts.b.at(there / "again.qcow2"))
    assert as_raw(there / "again.qcow2") == DISK
    assert copied["digest"] == packed["digest"] == restored["digest"]


def test_contents_are_copied_into_a_qcow2_and_out_of_it(client: Client, hosts: Hosts) -> None:
    source, target = hosts.a.images / "web.qcow2", hosts.b.images / "web.img"
    client.json("create", hosts.a.at(source), f"{len(DISK)}")
    target.write_bytes(DISK)
    copied = client.json("copy-contents", hosts.b.at(target), hosts.a.at(source))
    assert as_raw(source) == DISK
    target.write_bytes(os.urandom(2 * len(DISK)))
    back = client.json("copy-contents", hosts.a.at(source), hosts.b.at(target))
    assert target.read_bytes() == DISK + bytes(len(DISK))
    assert copied["digest"] == back["digest"]


def test_the_bytes_of_a_container_keep_its_kind_of_name_on_another_host(
    client: Client, hosts: Hosts, refused: Refused
) -> None:
    (hosts.a.images / "disk").write_bytes(DISK)
    source, target = hosts.a.images / "web.img", hosts.b.images
    qemu_img("convert", "-f", "raw", "-O", "qcow2", hosts.a.images / "disk", source)
    (target / "disk").write_bytes(bytes(8 * MIB))
    at = hosts.a.at(source)
    for words in (
        ["copy", at, hosts.b.at(target / "web.img")],
        ["copy-contents", at, hosts.b.at(target / "disk")],
    ):
        refused("unsupported", *words, says="a qcow2 container")
    copied = client.json("copy", at, hosts.b.at(target / "web.qcow2"))
    assert copied["warnings"] == ["it holds the bytes of a qcow2 container, and is opened as one"]
    assert (target / "web.qcow2").read_bytes() == source.read_bytes()
    client.json("copy", "--raw", at, hosts.b.at(target / "web.img"))
    assert (target / "web.img").read_bytes() == source.read_bytes()


def test_an_archives_name_says_its_format_on_another_host(client: Client, hosts: Hosts) -> None:
    (hosts.a.images / "web.img").write_bytes(bytes(2 * MIB))
    at = hosts.a.at(hosts.a.images / "web.img")
    client.json("copy", "--archive", at, hosts.b.at(hosts.b.images / "x.img.gz"))
    client.json("copy", "--archive", at, hosts.b.at(hosts.b.images))
    for name, form in (("x.img.gz", "gzip"), ("web.img.zst", "zstd")):
        info = client.json("info", hosts.b.at(hosts.b.images / name))
        assert info["compression"] == form
