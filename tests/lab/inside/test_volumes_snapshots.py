"""Snapshots that copying makes are gone afterwards, whatever happened to the copy, and what
was in a snapshot's exception store is gone with it."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

import virtstore
from virtstore.backends.guard import Guard
from virtstore.backends.lvm import volume_group, watch
from virtstore.backends.lvm.drafts import Snapshot
from virtstore.backends.lvm.report import Volume, report

from ...ansible_task import Tasks
from ...waiting import PATIENCE, until
from .shell import MIB, fill, lvs, rest_has, sh

_COPY = "virtstore.copying."
BACKUP = "/mnt/images/backup"
#: Of the image: two extents, as a write to what has a snapshot costs most of the time here.
SIZE = 8 * MIB

#: How a guard is found by pgrep, and the shell that calls it is not.
GUARD = re.sub(r"(.)$", r"[\1]", watch.__name__)


@pytest.fixture
def image(here: virtstore.Host) -> virtstore.Image:
    made = here.create("/dev/vg0/web", SIZE)
    sh(f"head -c {SIZE} /dev/urandom >{made.path}")
    return made


def snapshots() -> set[str]:
    """Snapshots that a copy needs, by LVM's own account."""
    return {v.name for v in report("vg0").volumes if any(tag.startswith(_COPY) for tag in v.tags)}


def wait_for_snapshot(*, there: bool) -> None:
    """LVM is not asked again and again: that keeps it from what is waited for."""
    if there:
        nodes = Path("/dev/mapper")
        until(lambda: any(nodes.glob("vg0-*.virtstore--copying-*")), "there is a snapshot")
    deadline = time.monotonic() + PATIENCE
    while bool(snapshots()) != there:
        assert time.monotonic() < deadline, snapshots()
        time.sleep(0.5)


@contextmanager
def slow_copy(image: virtstore.Image) -> Iterator[subprocess.Popen[bytes]]:
    """A client whose copy of a snapshot is under way and will not end soon."""
    program = str(Path(sys.executable).with_name("virtstore"))
    argv = [program, "copy", "--snapshot", "--bwlimit", "100K", image.path, BACKUP]
    client = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        wait_for_snapshot(there=True)
        yield client
    finally:
        client.kill()
        client.communicate()


def kill_agents(client: subprocess.Popen[bytes]) -> None:
    for agent in sh(f"cat /proc/{client.pid}/task/*/children").split():
        os.kill(int(agent), signal.SIGKILL)


def test_a_copy_that_went_well_leaves_none(image: virtstore.Image) -> None:
    copied = image.copy(image.host.image(BACKUP), snapshot=True, archive=True)
    assert lvs() == {"web"}
    assert copied.verify().digest == copied.result.digest


def test_a_copy_whose_target_is_refused_leaves_none(image: virtstore.Image) -> None:
    Path(BACKUP).write_bytes(b"there already")
    with pytest.raises(virtstore.Exists):
        image.copy(image.host.image(BACKUP), snapshot=True)
    with pytest.raises(virtstore.NotFound):
        image.copy(image.host.image("/mnt/images/none/backup"), snapshot=True)
    assert lvs() == {"web"}


def test_a_copy_whose_target_fails_half_way_leaves_none(image: virtstore.Image) -> None:
    sh("mkdir -p /mnt/images/small && mount -t tmpfs -o size=4M,mode=755 small /mnt/images/small")
    extra = Path("/etc/virtstore/conf.d/small.toml")
    extra.parent.mkdir(exist_ok=True)
    extra.write_text(
        '[[directory]]\npath = "/mnt/images/small"\naccess = "write"\nvolatile = true\n'
    )
    try:
        with virtstore.connect("local:") as here:
            target = here.image("/mnt/images/small/backup")
            with pytest.raises(virtstore.NoSpace):
                here.image(image.path).copy(target, snapshot=True, archive=True)
        assert os.listdir("/mnt/images/small") == []
    finally:
        sh("umount /mnt/images/small")
        extra.unlink()
    assert lvs() == {"web"}


def test_the_snapshot_of_a_copy_never_shows(image: virtstore.Image) -> None:
    with slow_copy(image):
        [name] = snapshots()
        assert [entry.path for entry in image.host.list("/dev/vg0")] == [image.path]
        assert image.info().snapshots == ()
        with pytest.raises(virtstore.Error):
            image.host.image(f"/dev/vg0/{name}").delete()
        assert snapshots() == {name}
    wait_for_snapshot(there=False)


def test_an_agent_that_is_killed_leaves_none(image: virtstore.Image) -> None:
    with slow_copy(image) as client:
        kill_agents(client)
        wait_for_snapshot(there=False)
        assert client.wait(timeout=PATIENCE) == virtstore.ConnectionFailed.exit_status
    assert lvs() == {"web"}


def test_a_client_that_is_killed_leaves_none(image: virtstore.Image) -> None:
    with slow_copy(image) as client:
        client.kill()
        wait_for_snapshot(there=False)
    assert lvs() == {"web"}
    assert not Path(BACKUP).exists()


def test_an_agent_and_its_guard_that_are_killed_leave_it_to_the_next_agent(
    image: virtstore.Image,
) -> None:
    with slow_copy(image) as client:
        [guard] = sh(f"pgrep -f '{GUARD}'").split()
        os.kill(int(guard), signal.SIGKILL)
        kill_agents(client)
        client.wait(timeout=PATIENCE)
        assert snapshots() != set()
        image.host.list("/dev/vg0")
        assert lvs() == {"web"}


def guards() -> str:
    return sh(f"pgrep -f '{GUARD}' || true")


def test_one_that_nobody_guards_or_that_cannot_be_opened_is_not_left(
    image: virtstore.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("broken")

    for broken in ("Guard", "Snapshot"):
        with monkeypatch.context() as patch:
            patch.setattr(volume_group, broken, fails)
            with pytest.raises(RuntimeError, match="broken"):
                volume_group.VolumeGroup("vg0").frozen("web")
        assert (lvs(), guards()) == ({"web"}, ""), broken


def test_one_that_was_made_inactive_at_once_is_opened_all_the_same(
    image: virtstore.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def late(group: volume_group.VolumeGroup, volume: Volume, watch: Guard) -> Snapshot:
        opened.append(volume.name)
        if len(opened) == 1:
            raise FileNotFoundError(errno.ENOENT, "it is inactive since LVM was asked")
        return Snapshot(group, volume, watch)

    monkeypatch.setattr(volume_group, "Snapshot", late)
    with volume_group.VolumeGroup("vg0").frozen("web") as snapshot:
        assert snapshot.read_at(0, MIB) == Path(image.path).read_bytes()[:MIB]
    assert len(opened) == 2
    assert (lvs(), guards()) == ({"web"}, "")


def test_what_somebody_else_called_like_one_is_left_alone(image: virtstore.Image) -> None:
    taken = f"web.virtstore-copying-{os.getpid()}"
    sh(f"lvcreate -qq -y -Wn -Zn -L 4M -n {taken} vg0")
    with pytest.raises(virtstore.Error):
        volume_group.VolumeGroup("vg0").frozen("web")
    assert (lvs(), guards()) == ({"web", taken}, "")


@pytest.mark.parametrize("archive", [False, pytest.param(True, marks=pytest.mark.torture)])
def test_an_exception_store_that_runs_full_fails_the_copy_and_nothing_else(
    image: virtstore.Image, archive: bool
) -> None:
    sh("lvcreate -qq -y -Wn -Zn -an -L 228M -n rest vg0")  # leaves an extent for the snapshot
    failures: list[virtstore.Error] = []

    def copy() -> None:
        try:
            target = image.host.image(BACKUP)
            image.copy(target, snapshot=True, archive=archive, bwlimit="1M")
        except virtstore.Error as error:
            failures.append(error)

    copying = threading.Thread(target=copy)
    copying.start()
    wait_for_snapshot(there=True)
    fill(image.path, SIZE)
    sh("sync")
    copying.join(timeout=PATIENCE)
    [failure] = failures
    assert (failure.code, failure.exit_status) == ("no-space", 7), failure
    assert "exception store" in failure.message
    assert (lvs(), os.listdir("/mnt/images")) == ({"web", "rest"}, [])
    assert Path(image.path).read_bytes() == b"\xee" * SIZE


def change_all(image: virtstore.Image, before: bytes) -> None:
    """All that the image held, which is `before`, is now in its snapshot's exception store."""
    fill(image.path, SIZE)
    sh("sync")
    assert before * MIB in Path("/dev/mapper/vg0-s1-cow").read_bytes()


def kept(image: virtstore.Image, byte: bytes) -> virtstore.Image:
    """The image, with a snapshot that has all that the image was in its exception store."""
    fill(image.path, SIZE, byte)
    taken = image.snapshot("s1")
    change_all(image, byte)
    return taken


def test_what_a_deleted_snapshot_kept_is_gone(image: virtstore.Image) -> None:
    kept(image, b"\xa1").delete()
    assert (lvs(), rest_has(b"\xa1")) == ({"web"}, False)


def test_what_a_snapshot_kept_that_is_deleted_with_its_origin_is_gone(
    image: virtstore.Image,
) -> None:
    kept(image, b"\xa2")
    image.delete(with_snapshots=True)
    assert (lvs(), rest_has(b"\xa2")) == (set(), False)


def test_what_an_overwritten_snapshot_kept_is_gone(image: virtstore.Image) -> None:
    taken = kept(image, b"\xa3")
    image.copy(taken, overwrite=True)
    assert (lvs(), taken.info().type, rest_has(b"\xa3")) == ({"web", "s1"}, "lvm", False)


def test_what_a_snapshot_kept_that_ran_full_is_gone(image: virtstore.Image) -> None:
    fill(image.path, SIZE, b"\xa4")
    taken = image.snapshot("s1", size="4M")
    fill(image.path, SIZE)
    sh("sync")
    assert sh("lvs --noheadings -o lv_snapshot_invalid vg0/s1") == "snapshot invalid"
    taken.delete()
    assert (lvs(), rest_has(b"\xa4")) == ({"web"}, False)


@pytest.mark.parametrize(
    "end",
    [
        pytest.param("client", marks=pytest.mark.torture),
        pytest.param("agent", marks=pytest.mark.torture),
        "both",
    ],
)
def test_what_the_snapshot_of_a_copy_kept_is_gone_however_the_copy_ends(
    image: virtstore.Image, end: str
) -> None:
    fill(image.path, SIZE, b"\xb1")
    with slow_copy(image) as client:
        fill(image.path, SIZE)
        sh("sync")
        if end == "client":
            client.kill()
        if end == "both":
            [guard] = sh(f"pgrep -f '{GUARD}'").split()
            os.kill(int(guard), signal.SIGKILL)
        if end != "client":
            kill_agents(client)
            client.wait(timeout=PATIENCE)
        if end == "both":
            image.host.list("/dev/vg0")
        wait_for_snapshot(there=False)
    assert (lvs(), rest_has(b"\xb1")) == ({"web"}, False)


def test_the_size_of_a_thick_snapshot_is_its_origins_for_good(image: virtstore.Image) -> None:
    """LVM would take that of its exception store for it, and cut what that has kept."""
    sh(f"mkfs.ext4 -q {image.path} 3M")
    taken = image.snapshot("s1")
    fill(image.path, SIZE)  # all that it had is now in the exception store
    sh("sync")
    sizes, kept = sh("lvs -a --noheadings -o lv_name,lv_size vg0"), Path(taken.path).read_bytes()
    for change in (
        partial(taken.grow, "16M"),
        partial(taken.shrink, "4M", discard_data=True),
        partial(taken.resize, "16M"),
        partial(taken.resize, "4M"),
        partial(taken.resize, "minimum"),
    ):
        for dry_run in (True, False):
            with pytest.raises(virtstore.Unsupported, match="virtstore copy"):
                change(dry_run=dry_run)
        assert sh("lvs -a --noheadings -o lv_name,lv_size vg0") == sizes, change
        assert Path(taken.path).read_bytes() == kept, change


def test_a_volume_with_thick_snapshots_changes_its_size_only_without_them(
    image: virtstore.Image,
) -> None:
    sh(f"mkfs.ext4 -q {image.path} 3M")
    taken = image.snapshot("s1")
    for change in (
        partial(image.grow, "16M"),
        partial(image.shrink, "4M", discard_data=True),
        partial(image.resize, "16M"),
        partial(image.resize, "4M"),
    ):
        for dry_run in (True, False):
            with pytest.raises(virtstore.InUse, match=r"/dev/vg0/s1.*remove them first"):
                change(dry_run=dry_run)
    assert image.info().size == SIZE
    taken.delete()
    assert image.grow("12M").size == 12 * MIB


def test_what_a_volume_had_lost_when_it_grew_is_told_of_it_and_of_its_copies(
    image: virtstore.Image,
) -> None:
    sh(f"mkswap -q {image.path} && lvreduce -qq -y -f -L 4M vg0/web")
    assert "the last 4194304 bytes" in image.info().warnings[0]
    assert "before it grew" in image.grow("12M").warnings[0]
    [warning] = image.info().warnings
    assert "lacks 4194304 bytes" in warning
    with pytest.raises(virtstore.Corrupt, match="lacks 4194304 bytes"):
        image.growfs()
    copied = image.copy(image.host.image("/dev/vg0/copy"))
    for copy in (image.snapshot("s1"), copied):
        assert "lacks 4194304 bytes" in copy.info().warnings[0], copy.path
    command = warning[warning.index("'lvchange") + 1 : warning.rindex("' on its host")]
    sh(command.replace("lvchange", "lvchange -qq"))
    assert image.info().warnings == ()
    assert "virtstore.lost" not in sh("lvs --noheadings -o lv_tags vg0/web")
    image.host.image("/dev/vg0/s1").delete()
    copied.copy_contents(image)
    assert "lacks 4194304 bytes" in image.info().warnings[0]
    image.host.create("/mnt/images/new.img", 8 * MIB).copy_contents(image)
    assert "virtstore" not in sh("lvs --noheadings -o lv_tags vg0/web")


def test_a_volume_of_whole_extents_hides_no_cut(image: virtstore.Image) -> None:
    made = Path("/mnt/images/cut.img")
    sh(f"truncate -s 16M {made} && mkswap -q {made} && truncate -s 15M {made}")
    copied = image.host.image(str(made)).copy(image.host.image("/dev/vg0/copy"))
    assert copied.result.warnings
    assert "lacks 1048576 bytes" in copied.info().warnings[0]


def test_a_snapshot_that_was_split_before_the_machine_stopped_is_finished_unseen(
    image: virtstore.Image,
) -> None:
    kept(image, b"\xa5")
    sh("lvchange -qq --addtag virtstore.removing vg0/s1 && lvconvert -qq -y --splitsnapshot vg0/s1")
    assert [entry.path for entry in image.host.list("/dev/vg0")] == [image.path]
    assert (lvs(), rest_has(b"\xa5")) == ({"web"}, False)


def test_a_snapshot_that_was_only_marked_before_the_machine_stopped_stays(
    image: virtstore.Image,
) -> None:
    taken = kept(image, b"\xa6")
    sh("lvchange -qq --addtag virtstore.removing vg0/s1")
    assert {entry.path for entry in image.host.list("/dev/vg0")} == {image.path, taken.path}
    assert Path(taken.path).read_bytes() == b"\xa6" * SIZE
    assert "virtstore" not in sh("lvs --noheadings -o lv_tags vg0")


def test_a_task_of_ansible_has_one_snapshot_and_removes_no_image(
    here: virtstore.Host, image: virtstore.Image
) -> None:
    tasks = Tasks(dict(os.environ))
    wanted = {"location": image.path, "name": "web-s1"}
    taken = tasks.run("snapshot", **wanted, size="4M")
    assert (taken["changed"], taken["snapshot"]["snapshot_of"]) == (True, image.path)
    assert not tasks.run("snapshot", **wanted)["changed"]
    refused = tasks.run("snapshot", location=image.path, name="web", state="absent")
    assert refused["error"]["code"] == "unsafe"
    assert tasks.run("snapshot", **wanted, state="absent")["changed"]
    assert lvs() == {"web"}
