"""Between two hosts, the target's host refuses what the source's host found to be a container."""

from __future__ import annotations

from .command import Client
from .conftest import Hosts, Refused
from .trees import MIB

#: A qcow2 of version 3, of a disk of 1 GiB, with nothing behind its header.
QCOW2 = (
    b"QFI\xfb\0\0\0\3".ljust(20, b"\0") + (16).to_bytes(4, "big") + (1 << 30).to_bytes(8, "big")
).ljust(2 * MIB, b"\0")


def test_a_container_keeps_its_kind_of_name_on_another_host(
    client: Client, hosts: Hosts, refused: Refused
) -> None:
    source, target = hosts.a.images / "web.qcow2", hosts.b.images
    source.write_bytes(QCOW2)
    (target / "disk").write_bytes(bytes(4 * MIB))
    at = hosts.a.at(source)
    for words in (
        ["copy", at, hosts.b.at(target / "web.img")],
        ["copy-contents", at, hosts.b.at(target / "disk")],
    ):
        refused("unsupported", *words, says="a qcow2 container")
    copied = client.json("copy", at, hosts.b.at(target))
    assert copied["warnings"]
    assert (target / "web.qcow2").read_bytes() == QCOW2
    client.json("copy", "--raw", at, hosts.b.at(target / "web.img"))
    assert (target / "web.img").read_bytes() == QCOW2


def test_an_archives_name_says_its_format_on_another_host(client: Client, hosts: Hosts) -> None:
    (hosts.a.images / "web.img").write_bytes(bytes(2 * MIB))
    at = hosts.a.at(hosts.a.images / "web.img")
    client.json("copy", "--archive", at, hosts.b.at(hosts.b.images / "x.img.gz"))
    client.json("copy", "--archive", at, hosts.b.at(hosts.b.images))
    for name, form in (("x.img.gz", "gzip"), ("web.img.zst", "zstd")):
        info = client.json("info", hosts.b.at(hosts.b.images / name))
        assert info["compression"] == form
