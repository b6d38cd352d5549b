"""The disks of domains that run grow, and their guests see it. A real libvirtd and real QEMUs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.guest import FIRST, NEEDED
from tests.libvirt_host import IMAGES, LibvirtHost
from tests.tools.test_agent_commands import MIB, told

import virtstore

SIZE = NEEDED + FIRST
_SHARED = """<disk type="file" device="disk"><driver name="qemu" type="raw" cache="none"/>
<source file="{}"/><target dev="vda" bus="virtio"/><shareable/></disk>"""


def seen(pool: LibvirtHost, domain: str) -> int:
    """The size of its disk for a domain's guest."""
    found = re.search(r"Capacity: +(\d+)", pool.virsh("domblkinfo", domain, "vda"))
    assert found
    return int(found[1])


@pytest.mark.parametrize(("verb", "state"), [("grow", "running"), ("resize", "paused")])
def test_a_running_domains_raw_disk_grows_and_its_guest_sees_it(
    pool: LibvirtHost, web: Path, verb: str, state: str
) -> None:
    if state == "paused":
        pool.virsh("suspend", "web")
    file = pool.images / "web.img"
    before = file.stat().st_blocks
    (planned,) = told(verb, web, "+8M", "--dry-run")["plan"][-1:]
    assert planned == "have domain web see the new size of its disk vda"
    assert seen(pool, "web") == SIZE
    done = told(verb, web, "+8M")
    assert (done["changed"], done["size"]) == (True, SIZE + 8 * MIB)
    assert "domain web sees 26 MiB now" in done["warnings"][-1]
    assert "grow in the guest" in done["warnings"][-1]
    assert seen(pool, "web") == SIZE + 8 * MIB
    assert (file.stat().st_blocks - before) * 512 >= 8 * MIB
    assert not any(file.read_bytes()[SIZE:])
    if state == "running":
        pool.wait_for_writes("web.img", 2)
    again = told(verb, web, SIZE + 8 * MIB, status=0 if verb == "grow" else 6)
    assert verb == "resize" or again["changed"] is False


def test_a_running_domains_qcow2_is_grown_by_its_own_qemu(pool: LibvirtHost) -> None:
    disk = IMAGES / "web.qcow2"
    made = ("qemu-img", "create", "-q", "-f", "qcow2", disk, str(SIZE))
    subprocess.run(pool.inside(*made), check=True)
    pool.start("web", disk)
    with virtstore.connect() as here:
        image = here.image(str(disk))
        assert image.grow("+8M", dry_run=True).size == SIZE + 8 * MIB
        assert seen(pool, "web") == SIZE
        done = image.grow("+8M")
        assert (done.changed, done.size) == (True, SIZE + 8 * MIB)
        assert "domain web sees 26 MiB now" in done.warnings[-1]
        assert seen(pool, "web") == SIZE + 8 * MIB
        assert image.resize("48M").size == 48 * MIB
        assert not image.grow("48M").changed
        with pytest.raises(virtstore.UsageError, match="web is running, and its disk can only gr"):
            image.grow("40M")
    assert seen(pool, "web") == 48 * MIB


def test_both_of_two_domains_with_one_disk_see_that_it_grew(pool: LibvirtHost) -> None:
    disk = pool.disk("both.img", SIZE)
    for name in ("one", "two"):
        pool.start(name, _SHARED.format(disk))
    warnings = told("grow", disk, "+8M")["warnings"]
    assert [warning.split()[1] for warning in warnings] == ["one", "two"]
    assert {seen(pool, name) for name in ("one", "two")} == {SIZE + 8 * MIB}


def test_a_growth_that_was_killed_before_the_domain_was_told_is_finished_by_the_same_command(
    pool: LibvirtHost, web: Path
) -> None:
    os.truncate(pool.images / "web.img", SIZE + 8 * MIB)
    assert seen(pool, "web") == SIZE
    assert told("grow", web, SIZE + 8 * MIB, "--dry-run")["changed"] is False
    assert seen(pool, "web") == SIZE
    assert told("grow", web, SIZE + 8 * MIB)["changed"] is True
    assert seen(pool, "web") == SIZE + 8 * MIB


def test_only_the_disk_of_a_running_domain_grows_and_nothing_on_it(
    pool: LibvirtHost, web: Path
) -> None:
    with virtstore.connect() as here:
        image = here.image(str(web))
        changes: list[Callable[[], object]] = [
            lambda: image.resize("+8M", partition=1),
            lambda: image.resize("+8M", move_swap=True),
            lambda: image.resize("-1M"),
            lambda: image.resize("minimum"),
            lambda: image.growfs(),
        ]
        for change in changes:
            with pytest.raises(virtstore.InUse, match=r"domain web is running \("):
                change()
    assert seen(pool, "web") == SIZE


def refusing_virsh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str) -> None:
    """Let virsh do `before` in place of blockresize, and fail."""
    fake = tmp_path / "bin" / "virsh"
    fake.parent.mkdir()
    fake.write_text(
        f'#!/bin/sh\ncase " $* " in *" blockresize "*) {before} >&2; echo error: no >&2; exit 1;;\n'
        'esac\nexec /usr/bin/virsh "$@"\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}")


def test_a_domain_that_cannot_be_told_is_a_warning_with_what_to_do(
    pool: LibvirtHost, web: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        refusing_virsh(tmp_path, patch, "true")
        done = told("grow", web, "+8M")
    assert (done["changed"], done["size"]) == (True, SIZE + 8 * MIB)
    (warning,) = done["warnings"]
    assert "domain web does not see the new size yet" in warning
    uuid = pool.virsh("domuuid", "web")
    remedy = f"virsh blockresize {uuid} vda {SIZE + 8 * MIB}B"
    assert f"'{remedy}'" in warning
    pool.virsh(*remedy.split()[1:])
    assert seen(pool, "web") == SIZE + 8 * MIB


def test_a_domain_that_ends_meanwhile_has_nothing_to_be_told(
    pool: LibvirtHost, web: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing_virsh(tmp_path, monkeypatch, "/usr/bin/virsh destroy web")
    done = told("grow", web, "+8M")
    assert (done["size"], done.get("warnings", [])) == (SIZE + 8 * MIB, [])
    pool.virsh("start", "web")
    assert seen(pool, "web") == SIZE + 8 * MIB
