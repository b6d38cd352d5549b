"""`copy --live`: the disk of a running domain as it is at one moment, while its guest writes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests import guest
from tests.libvirt_host import IMAGES, LibvirtHost
from tests.tools.live_copies import (
    SEEN,
    SOCKETS,
    Backups,
    backups,
    begin_other_job,
    guards,
    job,
    remembered,
    until_nothing_is_left,
)
from tests.tools.test_agent_commands import virtstore as virtstore_program
from tests.waiting import until

import virtstore

__all__ = ["backups"]  # a fixture

MIB = 1 << 20


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_a_running_domains_disk_is_copied_as_it_was_at_one_moment(
    libvirt: LibvirtHost, backups: Backups, form: str
) -> None:
    disk = libvirt.disk("web.img")
    if form == "qcow2":
        made = ("qemu-img", "convert", "-O", "qcow2", disk, disk.with_suffix(".qcow2"))
        subprocess.run(libvirt.inside(*made), check=True)
        disk = disk.with_suffix(".qcow2")
    libvirt.start("web", disk)
    if form == "raw":
        libvirt.wait_for_writes("web.img", 3)
        copied = backups.copy("web.img", middle=lambda: libvirt.wait_for_writes("web.img", 3))
        libvirt.wait_for_writes("web.img", 2)
    else:
        copied = backups.copy("web.qcow2")
        backups.copy("web.qcow2", "copy.qcow2")
        same = ("qemu-img", "check", "-q", str(backups.path / "copy.qcow2"))
        subprocess.run(same, check=True)
    contents = (backups.path / "copy.img").read_bytes()
    assert copied.size == len(contents) == guest.NEEDED + guest.FIRST
    assert contents.startswith(guest.boot_sector()[: guest.SECTOR // 2])
    assert guest.is_of_one_moment(contents)
    assert len(guest.counts(contents)) >= (3 if form == "raw" else 0)
    until_nothing_is_left(libvirt, "web")


def test_what_an_overlay_lies_over_is_not_shown_to_who_may_not_read_it(
    libvirt: LibvirtHost, backups: Backups
) -> None:
    golden = libvirt.disk("golden.img")
    (libvirt.images / "web").mkdir()
    over = IMAGES / "web/web.qcow2"
    made = ("qemu-img", "create", "-q", "-f", "qcow2", "-b", golden, "-F", "raw", over)
    subprocess.run(libvirt.inside(*made), check=True)
    libvirt.start("web", over)
    backups.allow({IMAGES / "web": "append"})
    with pytest.raises(virtstore.Denied, match=r"golden\.img"):
        backups.copy("web/web.qcow2")
    assert job(libvirt, "web") is None
    backups.allow({IMAGES: "append"})
    assert backups.copy("web/web.qcow2").size == guest.NEEDED + guest.FIRST


class Shown:
    """What a domain's backup job shows, read a second time by another program."""

    def __init__(self, libvirt: LibvirtHost, backups: Backups) -> None:
        self._libvirt = libvirt
        self._file = backups.path.parent / "shown.raw"

    def look(self) -> None:
        (socket,) = (self._libvirt.directory / SEEN).glob("domain-*/virtstore-*")
        uri = f"nbd+unix:///vda?socket={SOCKETS}/{socket.parent.name}/{socket.name}"
        self._libvirt.wait_for_writes("web.img", 2)
        self._file.unlink(missing_ok=True)
        subprocess.run(self._libvirt.inside("nbdcopy", uri, self._file), check=True)

    @property
    def contents(self) -> bytes:
        return self._file.read_bytes()


def test_an_archive_holds_the_very_state_that_the_job_had(
    libvirt: LibvirtHost, backups: Backups
) -> None:
    libvirt.start("web", libvirt.disk("web.img"))
    libvirt.wait_for_writes("web.img", 3)
    shown = Shown(libvirt, backups)
    backups.copy("web.img", "web", archive=True, middle=shown.look)
    assert restored(backups, "web") == shown.contents
    assert guest.is_of_one_moment(shown.contents)


def restored(backups: Backups, name: str) -> bytes:
    """What is in an archive."""
    made = backups.path / "restored.img"
    with virtstore.connect("local:") as host:
        archive = host.image(f"{backups.path}/{name}")
        archive.copy(host.image(str(made)), overwrite=True)
    return made.read_bytes()


def test_a_paused_domain_is_copied_too_and_stays_paused(
    libvirt: LibvirtHost, backups: Backups
) -> None:
    libvirt.start("web", libvirt.disk("web.img"))
    libvirt.wait_for_writes("web.img", 2)
    libvirt.virsh("suspend", "web")
    backups.copy("web.img")
    assert libvirt.virsh("domstate", "web") == "paused"
    assert (backups.path / "copy.img").read_bytes() == (libvirt.images / "web.img").read_bytes()


def test_only_the_disk_that_is_copied_has_a_job(libvirt: LibvirtHost, backups: Backups) -> None:
    libvirt.start("web", libvirt.disk("web.img"), libvirt.disk("data.img"))
    seen: list[str] = []
    backups.copy("data.img", middle=lambda: seen.append(job(libvirt, "web") or ""))
    assert "name='vda' backup='no'" in seen[0]
    assert "name='vdb' backup='yes'" in seen[0]


def test_an_image_that_no_domain_runs_on_is_refused(libvirt: LibvirtHost, backups: Backups) -> None:
    libvirt.define("web", libvirt.disk("web.img"))
    with pytest.raises(virtstore.Unsupported, match="domain web, which has it, does not run"):
        backups.copy("web.img")
    libvirt.disk("alone.img")
    with pytest.raises(virtstore.Unsupported, match=r"no domain that runs .* leave --live out"):
        backups.copy("alone.img")


def test_the_refusal_of_a_running_domains_image_names_live(
    libvirt: LibvirtHost, backups: Backups
) -> None:
    libvirt.start("web", libvirt.disk("web.img"))
    with virtstore.connect("local:") as host:
        image, target = host.image(f"{IMAGES}/web.img"), host.image(f"{backups.path}/copy.img")
        with pytest.raises(
            virtstore.InUse, match=r"domain web is running .*; --live and --snapshot copy it"
        ):
            image.copy(target)


def test_somebody_elses_job_is_left_alone(libvirt: LibvirtHost, backups: Backups) -> None:
    libvirt.start("web", libvirt.disk("web.img"))
    before = begin_other_job(libvirt, "web")
    with pytest.raises(virtstore.InUse, match="somebody else's backup job"):
        backups.copy("web.img")
    assert job(libvirt, "web") == before


def test_a_second_live_copy_of_a_domain_is_refused(libvirt: LibvirtHost, backups: Backups) -> None:
    libvirt.start("web", libvirt.disk("web.img"))

    def again() -> None:
        with pytest.raises(virtstore.InUse, match="another live copy"):
            backups.copy("web.img", "again.img")

    backups.copy("web.img", middle=again)
    assert guest.is_of_one_moment((backups.path / "copy.img").read_bytes())


def test_a_domain_that_stops_in_the_middle_leaves_the_copy_partial(
    libvirt: LibvirtHost, backups: Backups
) -> None:
    libvirt.start("web", libvirt.disk("web.img", 200 * MIB))
    with (libvirt.images / "web.img").open("r+b") as file:
        file.seek(100 * MIB)
        file.write(os.urandom(99 * MIB))
    with pytest.raises(virtstore.ConnectionFailed, match="the domain was stopped, or"):
        backups.copy("web.img", middle=lambda: libvirt.virsh("destroy", "web"))
    with virtstore.connect("local:") as host:
        (left,) = host.list(str(backups.path))
    assert (left.path, left.state) == (f"{backups.path}/copy.img", "partial")
    assert [path.name for path in libvirt.images.iterdir()] == ["web.img"]


def test_no_scratch_file_is_made_in_a_part_of_a_directory(
    libvirt: LibvirtHost, backups: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = IMAGES / "part"
    (libvirt.images / "part").mkdir()
    libvirt.disk("web.img")
    subprocess.run(libvirt.inside("mv", IMAGES / "web.img", part), check=True)
    libvirt.start("web", part / "web.img")
    monkeypatch.setenv("VIRTSTORE_AGENT", f"{backups.agent()} --restrict-to {part}")
    with virtstore.connect("local:") as host:
        image, target = host.image(f"{part}/web.img"), host.image(f"{part}/copy.img")
        with pytest.raises(virtstore.NotFound, match="no directory on this host where"):
            image.copy(target, live=True)
    assert job(libvirt, "web") is None


@pytest.fixture
def small(libvirt: LibvirtHost, backups: Backups) -> Iterator[Path]:
    """A small file system in the pool, with an image of a domain that runs; by its path on that
    host."""
    small = IMAGES / "small"
    subprocess.run(libvirt.inside("mkdir", small), check=True)
    mount = ("mount", "-t", "tmpfs", "-o", "size=96M,mode=711", "none", small)
    subprocess.run(libvirt.inside(*mount), check=True)
    try:
        backups.allow({small: "append"}, "volatile = true\n")
        libvirt.disk("web.img")
        subprocess.run(libvirt.inside("mv", IMAGES / "web.img", small), check=True)
        libvirt.start("web", small / "web.img")
        yield small
    finally:
        libvirt.virsh("destroy", "web")
        subprocess.run(libvirt.inside("umount", small), check=True)


def test_a_guest_is_not_paused_when_the_room_for_what_it_overwrites_ends(
    libvirt: LibvirtHost, backups: Backups, small: Path
) -> None:
    filler = small / "filler"

    def fill() -> None:
        subprocess.run(libvirt.inside("fallocate", "-l", "80M", filler), check=True)
        until(lambda: job(libvirt, "web") is None, "the end of the domain's backup job")

    with pytest.raises(virtstore.NoSpace, match="ended before the guest had to wait"):
        backups.copy("small/web.img", middle=fill)
    assert libvirt.virsh("domstate", "web") == "running"
    backups.allow({small: "append"}, "volatile = true\n", copies="read")
    with virtstore.connect("local:") as host:
        image, target = host.image(f"{small}/web.img"), host.image(f"{small}/web.zst")
        with pytest.raises(virtstore.NoSpace, match="have to be free at its start"):
            image.copy(target, live=True, archive=True)


def test_a_guest_that_was_paused_for_want_of_room_goes_on(
    libvirt: LibvirtHost, backups: Backups, small: Path
) -> None:
    filler = small / "filler"

    def fill() -> None:
        made = f"truncate -s 200M {filler}; cat /dev/zero > {filler} 2>/dev/null"
        subprocess.run(libvirt.inside("sh", "-c", made))
        until(lambda: job(libvirt, "web") is None, "the end of the domain's backup job")

    with pytest.raises(virtstore.NoSpace):
        backups.copy("small/web.img", middle=fill)
    until(lambda: libvirt.virsh("domstate", "web") == "running", "the guest to go on")


def killed_after(
    libvirt: LibvirtHost, backups: Backups, delay: float, patched: pytest.MonkeyPatch
) -> None:
    """Copies, and kills the agent so many seconds after it was started; nothing may be left of the
    job, and the guest goes on."""
    with remembered(patched) as started, virtstore.connect("local:") as host:
        source = host.image(f"{IMAGES}/web.img")
        kill = threading.Timer(delay, started[0]._process.kill)
        kill.start()
        with suppress(virtstore.Error):
            source.copy(host.image(f"{backups.path}/copy.img"), live=True, overwrite=True)
        kill.join()
    until_nothing_is_left(libvirt, "web")
    assert libvirt.virsh("domstate", "web") == "running"
    libvirt.wait_for_writes("web.img")


def test_an_agent_that_is_killed_leaves_no_job_and_the_guest_runs(
    libvirt: LibvirtHost, backups: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    libvirt.start("web", libvirt.disk("web.img"))
    killed_after(libvirt, backups, 0.5, monkeypatch)


def killed_and_copied(
    libvirt: LibvirtHost,
    backups: Backups,
    part: float,
    archive: bool,
    patched: pytest.MonkeyPatch,
) -> None:
    """Copies, kills the agent when this part is there, and copies again by the same command: that
    has to be what the second job showed."""
    with remembered(patched) as started:

        def kill() -> None:
            started[0]._process.kill()

        with pytest.raises(virtstore.ConnectionFailed):
            backups.copy("web.img", "web", archive=archive, middle=kill, part=part)
    until_nothing_is_left(libvirt, "web")
    shown = Shown(libvirt, backups)
    backups.copy("web.img", "web", archive=archive, middle=shown.look)
    (made,) = backups.path.glob("web*")
    assert (restored(backups, made.name) if archive else made.read_bytes()) == shown.contents
    assert guest.is_of_one_moment(shown.contents)
    made.unlink()


def test_what_was_killed_in_the_middle_is_copied_whole_by_the_same_command(
    libvirt: LibvirtHost, backups: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    libvirt.start("web", libvirt.disk("web.img"))
    killed_and_copied(libvirt, backups, 0.1, False, monkeypatch)


def test_an_agent_ends_the_job_itself_when_its_guard_was_killed(
    libvirt: LibvirtHost, backups: Backups
) -> None:
    libvirt.start("web", libvirt.disk("web.img"))
    backups.copy("web.img", middle=lambda: os.kill(guards()[0], signal.SIGKILL))
    until_nothing_is_left(libvirt, "web")
    assert guest.is_of_one_moment((backups.path / "copy.img").read_bytes())


def test_the_job_of_an_agent_that_was_killed_with_its_guard_is_ended_by_the_next_copy(
    libvirt: LibvirtHost, backups: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    libvirt.start("web", libvirt.disk("web.img"))
    with remembered(monkeypatch) as started:

        def kill() -> None:
            os.kill(guards()[0], signal.SIGKILL)
            started[0]._process.send_signal(signal.SIGKILL)

        with pytest.raises(virtstore.ConnectionFailed):
            backups.copy("web.img", middle=kill)
    assert job(libvirt, "web")
    backups.copy("web.img")
    until_nothing_is_left(libvirt, "web")


def test_a_scratch_file_that_a_stopped_host_left_is_shown_as_partial_and_removed_by_clean(
    libvirt: LibvirtHost, backups: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    libvirt.start("web", libvirt.disk("web.img"))

    def keep() -> None:
        (scratch,) = libvirt.images.glob("*.live-*")
        shutil.copy(scratch, scratch.with_name(f"old.{scratch.name}"))

    backups.copy("web.img", middle=keep)
    backups.allow({IMAGES: "write"})
    with virtstore.connect("local:") as host:
        found = {each.path: each.state for each in host.list(str(IMAGES))}
    del found[f"{IMAGES}/web.img"]
    assert list(found.values()) == ["partial"]
    virtstore_program("clean", IMAGES)
    assert [path.name for path in libvirt.images.iterdir()] == ["web.img"]


@pytest.mark.torture
def test_live_copies_that_are_killed_at_ten_places_are_copied_whole_by_the_same_command(
    libvirt: LibvirtHost, backups: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (libvirt.images / libvirt.disk("web.img", 200 * MIB).name).open("r+b") as file:
        file.seek(20 * MIB)
        file.write(os.urandom(180 * MIB))
    libvirt.start("web", IMAGES / "web.img")
    for place in range(10):
        for archive in (False, True):
            killed_and_copied(libvirt, backups, place / 10, archive, monkeypatch)


@pytest.mark.torture
def test_live_copies_that_are_killed_at_any_moment_leave_no_job_and_the_guest_runs(
    libvirt: LibvirtHost, backups: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    libvirt.start("web", libvirt.disk("web.img"))
    for _ in range(50):
        killed_after(libvirt, backups, random.uniform(0.1, 1.2), monkeypatch)
