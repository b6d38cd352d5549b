"""What is known of the domains of a host with a real libvirtd."""

from __future__ import annotations

import subprocess
import sys
from xml.sax.saxutils import quoteattr

import msgspec
from tests.libvirt_host import IMAGES, LibvirtHost

from virtstore.libvirt.domains import Domain, DomainDisk

_DOMAINS = """
import msgspec, sys
from virtstore.libvirt.domains import domains
sys.stdout.buffer.write(msgspec.json.encode(domains()))
"""


def domains(host: LibvirtHost) -> dict[str, Domain]:
    """What virtstore knows of that host's domains, by name."""
    argv = host.inside(sys.executable, "-c", _DOMAINS)
    said = subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout
    return {each.name: each for each in msgspec.json.decode(said, type=tuple[Domain, ...])}


def test_domains_that_run_are_paused_or_are_shut_off_are_told_with_their_disks(
    libvirt: LibvirtHost,
) -> None:
    uuid = libvirt.start("web", libvirt.disk("web.img"))
    libvirt.start("db", libvirt.disk("db.img"))
    libvirt.virsh("suspend", "db")
    libvirt.define("old", IMAGES / "gone.qcow2", "/dev/vg0/old")
    found = domains(libvirt)
    assert {name: each.state for name, each in found.items()} == {
        "web": "running",
        "db": "paused",
        "old": "shut off",
    }
    assert found["web"].uuid == uuid
    assert found["web"].disks == (DomainDisk("vda", "file", f"{IMAGES}/web.img", "raw"),)
    assert found["old"].disks == (
        DomainDisk("vda", "file", f"{IMAGES}/gone.qcow2", "qcow2"),
        DomainDisk("vdb", "block", "/dev/vg0/old", "raw"),
    )


def test_the_backing_files_of_a_running_domain_are_told(libvirt: LibvirtHost) -> None:
    libvirt.disk("golden.img")
    for name, backing, form in (("middle", "golden.img", "raw"), ("top", "middle.qcow2", "qcow2")):
        made = ("qemu-img", "create", "-q", "-f", "qcow2", "-b", IMAGES / backing, "-F", form)
        subprocess.run(libvirt.inside(*made, IMAGES / f"{name}.qcow2"), check=True)
    libvirt.start("web", IMAGES / "top.qcow2")
    (disk,) = domains(libvirt)["web"].disks
    assert disk.backing == (f"{IMAGES}/middle.qcow2", f"{IMAGES}/golden.img")


def test_a_disk_that_is_a_volume_of_a_pool_is_known_by_its_path(libvirt: LibvirtHost) -> None:
    odd, quote = '-odd; destroy web "\\.img', "it's.img"
    for name in ("web.img", odd, quote):
        libvirt.disk(name)
    libvirt.virsh("pool-create-as", "pool", "dir", "--target", IMAGES)
    disks = [
        '<disk type="volume" device="disk"><driver name="qemu" type="raw"/><source pool="pool"'
        f' volume={quoteattr(name)}/><target dev="vd{letter}" bus="virtio"/></disk>'
        for name, letter in (("web.img", "a"), (odd, "b"), (quote, "c"))
    ]
    libvirt.define("shut", *disks)
    libvirt.start("web", disks[0])
    found = domains(libvirt)
    libvirt.virsh("pool-destroy", "pool")
    assert found["web"].state == "running"
    assert [disk.source for disk in found["web"].disks] == [f"{IMAGES}/web.img"]
    assert [disk.source for disk in found["shut"].disks] == [
        f"{IMAGES}/web.img",
        f"{IMAGES}/{odd}",
        "",  # which no word of virsh's can name
    ]


def test_a_name_is_never_a_command(libvirt: LibvirtHost) -> None:
    libvirt.start("web", libvirt.disk("web.img"))
    odd = "odd'; destroy web; \"x\\ \N{RIGHT-TO-LEFT OVERRIDE}<&"
    libvirt.define(odd, libvirt.disk("odd.img"))
    found = domains(libvirt)
    assert set(found) == {"web", odd.replace("\N{RIGHT-TO-LEFT OVERRIDE}", "?")}
    assert found["web"].state == "running"


def test_the_guest_writes_and_its_disk_is_of_one_moment(libvirt: LibvirtHost) -> None:
    libvirt.start("web", libvirt.disk("web.img"))
    libvirt.wait_for_writes("web.img", 3)
    libvirt.virsh("suspend", "web")
    written = libvirt.written("web.img")
    assert written == list(range(1, len(written) + 1))


def test_a_host_has_no_domains_without_libvirt_and_nothing_reads_xml() -> None:
    program = f"{_DOMAINS}\nassert not [name for name in sys.modules if name.startswith('xml')]"
    argv = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs none /run && exec "$@"', "sh"]
    argv += [sys.executable, "-c", program]
    assert subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout == b"[]"
