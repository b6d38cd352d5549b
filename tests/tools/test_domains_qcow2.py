"""qcow2 images of libvirt's domains: what a domain has as qcow2 is one, whatever it is called."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.guest import FIRST, NEEDED
from tests.libvirt_host import IMAGES, LibvirtHost
from tests.tools.test_agent_commands import told

SIZE = NEEDED + FIRST


@pytest.fixture
def unnamed(pool: LibvirtHost) -> Path:
    """A qcow2 whose name says nothing."""
    pool.disk("raw.img", SIZE)
    convert(pool.images / "raw.img", pool.images / "web.img")
    return IMAGES / "web.img"


def convert(source: Path, target: Path) -> None:
    files = [str(source), str(target)]
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *files], check=True)


def _disk(path: Path, form: str) -> str:
    return (
        f'<disk type="file" device="disk"><driver name="qemu" type="{form}"/>'
        f'<source file="{path}"/><target dev="vda" bus="virtio"/></disk>'
    )


def test_a_file_that_a_domain_has_as_qcow2_is_one(pool: LibvirtHost, unnamed: Path) -> None:
    looks = told("info", unnamed)
    assert "its name does not say so" in " ".join(looks["warnings"])
    assert told("grow", unnamed, "1G", status=11)["error"]["code"] == "unsupported"
    pool.define("web", _disk(unnamed, "qcow2"))
    info = told("info", unnamed)
    assert (info["container"], info["size"]) == ("qcow2", SIZE)
    assert not info.get("warnings")
    assert told("grow", unnamed, "1G")["size"] == 1 << 30
    told("copy", unnamed, IMAGES / "copy.raw")
    assert (pool.images / "copy.raw").read_bytes()[:SIZE] == (
        (pool.images / "raw.img").read_bytes()
    )


def test_what_a_guest_wrote_into_its_raw_disk_makes_no_qcow2_of_it(
    pool: LibvirtHost, unnamed: Path
) -> None:
    pool.define("web", _disk(unnamed, "raw"))
    assert "its name does not say so" in " ".join(told("info", unnamed)["warnings"])
    assert told("grow", unnamed, "1G", status=11)["error"]["code"] == "unsupported"


def test_the_qcow2_of_a_running_domain_is_told_of_and_not_changed(pool: LibvirtHost) -> None:
    pool.disk("raw.img", SIZE)
    convert(pool.images / "raw.img", pool.images / "web.qcow2")
    image = IMAGES / "web.qcow2"
    pool.start("web", image)
    info = told("info", image)
    assert (info["container"], info["size"]) == ("qcow2", SIZE)
    assert info["domain"] == {"name": "web", "state": "running"}
    for words in (["shrink", image, "-1M"], ["delete", image], ["copy", image, IMAGES / "c.img"]):
        error = told(*words, status=6)["error"]
        assert "domain web is running" in error["message"]
    told("copy", "--live", image, IMAGES / "live.qcow2")
    assert told("info", IMAGES / "live.qcow2")["size"] == SIZE
    assert told("grow", image, SIZE + (1 << 20))["size"] == SIZE + (1 << 20)


def test_a_disk_of_which_the_guest_sees_a_part_is_not_copied_live(pool: LibvirtHost) -> None:
    image = pool.disk("web.img", SIZE)
    part = (
        '<disk type="file" device="disk"><driver name="qemu" type="raw"/>'
        f'<source file="{image}"><slices><slice type="storage" offset="0" size="{NEEDED}"/>'
        '</slices></source><target dev="vda" bus="virtio"/></disk>'
    )
    pool.start("web", part)
    error = told("copy", "--live", image, IMAGES / "copy.img", status=11)["error"]
    assert "a part of the image only" in error["message"]
    assert not (pool.images / "copy.img").exists()
