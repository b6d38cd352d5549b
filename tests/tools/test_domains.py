"""Images of libvirt's domains: who has one is told by name, and nothing is lost that a domain
counts on. A real libvirtd, and an agent on its pool."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.guest import FIRST, NEEDED
from tests.libvirt_host import IMAGES, QEMU_USER, LibvirtHost
from tests.tools.test_agent_commands import MIB, told
from tests.tools.test_agent_commands import virtstore as command

import virtstore

SIZE = NEEDED + FIRST


@pytest.fixture
def db(pool: LibvirtHost) -> Path:
    """The disk of a domain that is shut off."""
    disk = pool.disk("db.img", SIZE)
    pool.define("db", disk)
    return disk


def refused(*words: object, says: str) -> None:
    """A command that must fail with `in-use`, and say so."""
    error = told(*words, status=6)["error"]
    assert error["code"] == "in-use"
    assert says in error["message"], error


def test_info_and_list_tell_the_domain_and_its_state(
    pool: LibvirtHost, web: Path, db: Path
) -> None:
    pool.disk("free.img", SIZE)
    info = told("info", web)
    assert info["domain"] == {"name": "web", "state": "running"}
    assert {"by": "domain", "detail": "domain web is running"} in info["in_use"]
    assert {use["by"] for use in info["in_use"]} >= {"process", "qemu-lock"}
    pool.virsh("suspend", "web")
    listed = {Path(each["path"]).name: each["domain"] for each in told("list", "-l", IMAGES)}
    assert listed == {
        "web.img": {"name": "web", "state": "paused"},
        "db.img": {"name": "db", "state": "shut off"},
        "free.img": None,
    }
    assert told("info", db)["in_use"] == []
    shown = command("list", "-l", IMAGES).stdout
    assert "DOMAIN" in shown
    assert "db (shut off)" in shown
    assert "domain:      web (paused)" in command("info", web).stdout


def test_what_a_running_domain_has_is_refused_with_its_name(pool: LibvirtHost, web: Path) -> None:
    new = pool.disk("new.img", SIZE)
    with virtstore.connect() as here:
        running, other = here.image(str(web)), here.image(str(new))
        for change in (
            lambda: running.delete(force_defined=True),
            lambda: running.rename("other.img", force_defined=True),
            lambda: running.shrink("-1M", force_defined=True),
            lambda: running.resize("minimum", force_defined=True),
            lambda: running.copy(here.image(f"{IMAGES}/copy.img")),
            lambda: other.copy(running, overwrite=True, force_defined=True),
            lambda: other.copy_contents(running, force_defined=True),
            lambda: running.compress(force_defined=True),
        ):
            with pytest.raises(virtstore.InUse, match=r"domain web is running \("):
                change()
    pool.wait_for_writes("web.img")
    assert {each.name for each in pool.images.iterdir()} == {"web.img", "new.img"}


def test_what_a_domain_that_is_shut_off_would_lose_is_refused_unless_forced(
    pool: LibvirtHost, db: Path
) -> None:
    new = pool.disk("new.img", SIZE)
    before = (pool.images / "db.img").read_bytes()
    with virtstore.connect() as here:
        defined, other = here.image(str(db)), here.image(str(new))
        losing: list[Callable[[bool, bool], object]] = [
            lambda force, dry: defined.shrink(
                "-1M", discard_data=True, force_defined=force, dry_run=dry
            ),
            lambda force, dry: other.copy(
                defined, overwrite=True, force_defined=force, dry_run=dry
            ),
            lambda force, dry: other.copy_contents(defined, force_defined=force, dry_run=dry),
            lambda force, dry: defined.compress(force_defined=force, dry_run=dry),
            lambda force, dry: defined.rename("other.img", force_defined=force, dry_run=dry),
            lambda force, dry: defined.delete(force_defined=force, dry_run=dry),
        ]
        for lose in losing:
            for dry_run in (True, False):
                with pytest.raises(virtstore.InUse, match="domain db, shut off, is defined on it"):
                    lose(False, dry_run)
        assert (pool.images / "db.img").read_bytes() == before
        assert {each.name for each in pool.images.iterdir()} == {"db.img", "new.img"}
        for lose in losing:
            lose(True, True)
        assert (pool.images / "db.img").read_bytes() == before
        for lose in losing[:3] + losing[5:]:
            lose(True, False)
    assert {each.name for each in pool.images.iterdir()} == {"new.img"}


def test_a_domain_that_is_shut_off_keeps_nobody_from_reading_or_growing_its_disk(
    pool: LibvirtHost, db: Path
) -> None:
    assert told("grow", db, "+1M")["size"] == SIZE + MIB
    told("copy", db, f"{IMAGES}/copy.img")
    told("compress", db, "--keep")
    assert told("info", db)["domain"] == {"name": "db", "state": "shut off"}
    assert told("info", f"{IMAGES}/copy.img")["domain"] is None


def test_an_image_is_known_by_what_it_is_and_not_by_the_path_that_a_domain_has(
    pool: LibvirtHost,
) -> None:
    pool.disk("real.img", SIZE)
    (pool.images / "link.img").symlink_to("real.img")
    pool.define("linked", IMAGES / "link.img")
    assert told("info", f"{IMAGES}/real.img")["domain"]["name"] == "linked"
    refused("delete", f"{IMAGES}/real.img", says="domain linked, shut off, is defined on it")


def test_a_disk_that_a_running_domain_gets_at_its_next_start_is_defined_already(
    pool: LibvirtHost, web: Path
) -> None:
    more = pool.disk("more.img", SIZE)
    pool.virsh("attach-disk", "web", more, "vdb", "--config", "--subdriver", "raw")
    refused("delete", more, says="domain web, from its next start on, is defined on it")


def test_who_runs_on_an_overlay_of_an_image_is_told(pool: LibvirtHost) -> None:
    golden = pool.disk("golden.img", SIZE)
    (pool.images / "elsewhere").mkdir()
    overlay = IMAGES / "elsewhere" / "top.qcow2"  # those beside it are told of before
    made = ("qemu-img", "create", "-q", "-f", "qcow2", "-b", golden, "-F", "raw", overlay)
    subprocess.run(pool.inside(*made), check=True)
    pool.start("web", overlay)
    assert told("info", golden)["domain"] == {"name": "web", "state": "running"}
    refused("delete", golden, says="domain web is running, on an overlay of it")
    told("copy", golden, f"{IMAGES}/copy.img")  # nobody writes to it


def test_a_host_tells_libvirts_pool_that_lies_in_no_root_and_the_lines_that_make_one(
    libvirt: LibvirtHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    libvirt.disk("web.img", SIZE)
    (tmp_path / "other").mkdir(mode=0o700)
    config = tmp_path / "config.toml"
    config.write_text(f'[[directory]]\npath = "{tmp_path}/other"\naccess = "read"\n')
    monkeypatch.setenv("VIRTSTORE_AGENT", libvirt.agent("--config", config))
    (pool,) = told("storage-info", "local:")["unmanaged"]
    assert (pool["name"], pool["path"]) == ("default", f"{IMAGES}")
    assert f'[[directory]]\npath = "{IMAGES}"\naccess = "write"' in pool["remedy"]
    shown = command("storage-info", "local:").stdout
    assert f"libvirt's pool default ({IMAGES}) lies in no root" in shown
    assert f'path = "{IMAGES}"' in shown
    findings = json.loads(command("doctor", "local:", "--json", status=None).stdout)
    assert "libvirt tells of its domains" in {each["what"] for each in findings}
    config.write_text(f'[[directory]]\npath = "{IMAGES}"\naccess = "write"\n')
    assert "unmanaged" not in told("storage-info", "local:")


@pytest.mark.parametrize("virsh", ["exit 1", "echo nonsense", "kill -9 $$"])
def test_a_libvirt_that_does_not_answer_hides_no_user_and_is_no_error(
    pool: LibvirtHost, web: Path, tmp_path: Path, virsh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "bin" / "virsh"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\n{virsh}\n")
    fake.chmod(0o755)
    path = f"{fake.parent}:{Path(sys.executable).parent}:/usr/bin:/usr/sbin"
    monkeypatch.setenv("PATH", path)
    info = told("info", web)
    assert info["domain"] is None
    assert "process" in {use["by"] for use in info["in_use"]}
    refused("delete", web, says="process: qemu-system-x86")


def test_images_in_libvirts_pool_keep_owner_mode_and_access_list_and_start(
    pool: LibvirtHost,
) -> None:
    told("create", f"{IMAGES}/web.img", SIZE)
    new = pool.disk("new.img")
    pool.start("web", IMAGES / "web.img")  # gives it to QEMU's user
    pool.virsh("destroy", "web")
    image = pool.images / "web.img"
    os.chown(image, QEMU_USER, QEMU_USER)
    subprocess.run(["setfacl", "-m", "u:4711:r", str(image)], check=True)
    assert told("info", f"{IMAGES}/web.img").get("warnings", []) == []
    before = attributes(image)
    told("copy", new, f"{IMAGES}/web.img", "--overwrite", "--force-defined")
    assert attributes(image) == before
    told("copy-contents", new, f"{IMAGES}/web.img", "--force-defined")
    told("shrink", f"{IMAGES}/web.img", "-1M", "--force-defined")
    assert attributes(image) == before
    pool.virsh("start", "web")
    pool.wait_for_writes("web.img")


def attributes(image: Path) -> tuple[int, int, int, str]:
    """Owner, group, mode, access list."""
    found = image.stat()
    listed = subprocess.run(["getfacl", "-cpn", str(image)], check=True, stdout=subprocess.PIPE)
    return found.st_uid, found.st_gid, found.st_mode, listed.stdout.decode()


def test_only_what_makes_a_file_system_smaller_is_refused_of_a_domain_that_is_shut_off(
    pool: LibvirtHost,
) -> None:
    disk = IMAGES / "db.img"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", str(pool.images / "db.img"), "32M"], check=True)
    pool.define("db", disk)
    with virtstore.connect() as here:
        image = here.image(str(disk))
        assert image.resize("40M").size == 40 * MIB
        assert image.growfs().size == 40 * MIB
        shrinking: list[Callable[[bool], object]] = [
            lambda force: image.shrinkfs("minimum", force_defined=force),
            lambda force: image.resize("36M", force_defined=force),
            lambda force: image.resize("minimum", force_defined=force),
        ]
        for shrink in shrinking:
            with pytest.raises(virtstore.InUse, match="domain db, shut off, is defined on it"):
                shrink(False)
        assert image.info().size == 40 * MIB
        for shrink in shrinking:
            shrink(True)
        assert (image.info().size or 0) < 36 * MIB
