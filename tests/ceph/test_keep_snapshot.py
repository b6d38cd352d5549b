"""`backup --keep-snapshot`: only what was written since an image's last backup is read, and the new
one is what reading all would make, whatever was done to the image and whoever was killed."""

from __future__ import annotations

import random
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

import virtstore
from tests.ours import undated
from tests.tools import kills
from tests.tools.ext_images import TORTURE
from virtstore.backends.base import Changed
from virtstore.backends.rbd import cluster as rbd
from virtstore.backends.rbd.moments import changed
from virtstore.backends.rbd.pool import RbdPool
from virtstore.digest import CHUNK

from .cluster import POOL, Cluster
from .place import VMS, Place, noise

_SEEDS: Final = 30 if TORTURE else 1
_ROUNDS: Final = 3
#: A small object, so that a small image has many.
_OBJECT: Final = 64 << 10
_SIZE: Final = 20 * _OBJECT
_DATA: Final = noise(5 * CHUNK + 4096, 1)


@pytest.fixture
def pool(here: Place) -> Iterator[RbdPool]:
    user = here.cluster.user()
    reached = rbd.Cluster(POOL, str(user.conf), user.name, str(user.keyring), "")
    with closing(RbdPool(reached)) as pool:
        yield pool


def qemu_io(cluster: Cluster, *commands: str, image: str = "x") -> None:
    """Have a guest's QEMU do something to an image."""
    user = cluster.user("admin")
    disk = f"rbd:{POOL}/{image}:id=admin:conf={cluster.conf}:keyring={user.keyring}"
    words = [word for command in commands for word in ("-c", command)]
    argv = ["qemu-io", "-f", "raw", "-d", "unmap", disk, *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert "failed" not in done.stdout, done.stdout


class Guest:
    """Does to an image, of a pool of small objects, what it likes."""

    def __init__(self, here: Place, chance: random.Random) -> None:
        self.cluster, self.chance = here.cluster, chance
        self.size = _SIZE
        self.sizes = {"s": _SIZE}  # of snapshots that it can go back to
        self.clone = False

    def begin(self, *, clone: bool) -> None:
        """Make the image: with a parent that has data in every other object, or empty."""
        self.clone = clone
        words = ["create", "--object-size", "64K", "--size", f"{self.size}B"]
        self.cluster.rbd(*words, f"{POOL}/{'parent' if clone else 'x'}")
        if clone:
            data = [f"write -q -P 9 {at} {_OBJECT}" for at in range(0, self.size, 2 * _OBJECT)]
            qemu_io(self.cluster, *data, image="parent")
            self.cluster.rbd("snap", "create", "--no-progress", f"{POOL}/parent@p")
            self.cluster.rbd("snap", "protect", f"{POOL}/parent@p")
            self.cluster.rbd("clone", "--object-size", "64K", f"{POOL}/parent@p", f"{POOL}/x")
        self.write()
        self.cluster.rbd("snap", "create", "--no-progress", f"{POOL}/x@s")

    def act(self) -> None:
        acts: list[Callable[[], None]] = [self.write] * 4 + [self.resize, self.go_back]
        if self.clone:
            acts += [self.flatten, self.cut_and_grow]
        self.chance.choice(acts)()

    def write(self) -> None:
        commands = []
        for _ in range(self.chance.randrange(1, 4)):
            at = self.chance.randrange(self.size // 512) * 512
            most = min(3 * _OBJECT, self.size - at)
            length = self.chance.randrange(1, most // 512 + 1) * 512
            how = self.chance.choice(
                ["write -q -P 5", "write -q -P 6", "write -q -z", "discard -q"]
            )
            commands.append(f"{how} {at} {length}")
        qemu_io(self.cluster, *commands)

    def resize(self, size: int | None = None) -> None:
        self.size = size or self.chance.randrange(_OBJECT // 512, 2 * _SIZE // 512) * 512
        words = ["resize", "--no-progress", "--allow-shrink", "--size", f"{self.size}B"]
        self.cluster.rbd(*words, f"{POOL}/x")

    def cut_and_grow(self) -> None:
        before = self.size
        self.resize(self.chance.randrange(1, before // 512 + 1) * 512)
        self.resize(before)

    def go_back(self) -> None:
        self.cluster.rbd("snap", "rollback", "--no-progress", f"{POOL}/x@s")
        self.size = self.sizes["s"]

    def flatten(self) -> None:
        self.cluster.rbd("flatten", "--no-progress", f"{POOL}/x")
        self.clone = False


def differing(old: bytes, new: bytes) -> Iterator[int]:
    """The sectors, by their first byte, in which two images differ, of what both have."""
    for at in range(0, min(len(old), len(new)), 512):
        if old[at : at + 512] != new[at : at + 512]:
            yield at


def assert_all_told(old: bytes, new: bytes, changed: Changed) -> None:
    assert changed.size == len(old)
    touched = {
        number
        for offset, length in changed.ranges
        for number in range(offset // 512, -(-(offset + length) // 512))
    }
    assert {at // 512 for at in differing(old, new)} <= touched
    assert list(changed.ranges) == sorted(changed.ranges)


class Moments:
    """The moments of x, and what the store tells of what lies between them."""

    def __init__(self, here: Place, pool: RbdPool) -> None:
        self._here, self._pool = here, pool
        self._taken: list[bytes] = []

    def take(self) -> None:
        self._pool.images.take_snapshot("x", f"m{len(self._taken)}")
        self._taken.append(self._here.contents(f"x@m{len(self._taken)}"))

    def told(self) -> Changed | None:
        """What is told to have changed between the last two, which is all that has."""
        first, last = (f"m{len(self._taken) - back}" for back in (2, 1))
        image = self._pool.images.get("x")
        [now] = [each for each in image.snapshots if each.name == last]
        found = changed(self._pool.images, image, first, now)
        if found:
            assert_all_told(self._taken[-2], self._taken[-1], found)
        return found


@pytest.mark.parametrize("clone", [False, True], ids=["image", "clone"])
@pytest.mark.parametrize("seed", range(_SEEDS))
def test_nothing_that_was_done_to_an_image_is_left_out(
    here: Place, pool: RbdPool, seed: int, *, clone: bool
) -> None:
    guest = Guest(here, random.Random(f"{seed} {clone}"))
    guest.begin(clone=clone)
    moments = Moments(here, pool)
    moments.take()
    for _ in range(_ROUNDS):
        for _ in range(guest.chance.randrange(1, 4)):
            guest.act()
        moments.take()
        assert moments.told() or clone, "what has no parent is always told"


def test_a_clone_that_shows_less_of_its_parent_than_it_did_is_read_whole(
    here: Place, pool: RbdPool
) -> None:
    guest = Guest(here, random.Random(1))
    guest.begin(clone=True)
    moments = Moments(here, pool)
    moments.take()
    moments.take()
    assert moments.told() == Changed(_SIZE, ())
    guest.resize(_OBJECT)
    guest.resize(_SIZE)
    moments.take()
    assert moments.told() is None


class Backups:
    """Backups of the image x of the pool, which a host makes of itself or another one fetches."""

    def __init__(self, here: Place, source: virtstore.Host, target: virtstore.Host) -> None:
        self.here, self.source, self._target = here, source, target

    def directory(self, name: str) -> virtstore.Image:
        (self.here.root / name).mkdir(mode=0o700, exist_ok=True)
        return self._target.image(str(self.here.root / name))

    def make(
        self, name: str = "kept", *, keep: bool = True, warnings: int = 0
    ) -> virtstore.BackedUp:
        image = self.source.image(f"{VMS}/x")
        [made] = virtstore.backup([image], self.directory(name), keep_snapshot=keep)
        assert not made.error, made.error
        assert len(made.warnings) == warnings, made.warnings
        return made

    def path(self, made: virtstore.BackedUp) -> Path:
        """Where the archive is."""
        assert made.target
        return Path(made.target.rpartition(":")[2])

    def require_right(self, made: virtstore.BackedUp) -> None:
        """It is what a backup in another place is that reads all."""
        whole = self.make("whole", keep=False)
        assert undated(self.path(made).read_bytes()) == undated(self.path(whole).read_bytes())

    def kept(self) -> list[str]:
        return [each for each in self.here.snapshots("x") if each.startswith("virtstore-")]


@pytest.fixture
def backups(
    here: Place, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Backups]:
    agent = [sys.executable, "-P", "-m", "virtstore.agent", "--config", str(here.config)]
    monkeypatch.setenv("VIRTSTORE_AGENT", shlex.join(agent))
    (rsh := here.root.parent / "rsh").write_text('#!/bin/sh\nshift $(($# - 1)); exec sh -c "$1"\n')
    rsh.chmod(0o700)
    monkeypatch.setenv("VIRTSTORE_RSH", str(rsh))
    other = "ssh://a" if getattr(request, "param", "") == "on one host" else "ssh://b"
    with virtstore.connect("ssh://a") as source, virtstore.connect(other) as target:
        yield Backups(here, source, target)


def write(here: Place, at: int, length: int = 4096) -> None:
    qemu_io(here.cluster, f"write -q -P 77 {at} {length}")


@pytest.mark.parametrize("backups", ["on one host", "to another host"], indirect=True)
def test_only_what_was_written_since_the_last_backup_is_read(here: Place, backups: Backups) -> None:
    here.image("x", _DATA)
    first = backups.make()
    assert (first.read, first.base) == (len(_DATA), None)
    [snapshot] = backups.kept()
    write(here, 2 * CHUNK - 100)
    second = backups.make()
    assert (second.read, second.base) == (2 * CHUNK, first.target)
    backups.require_right(second)
    assert len(backups.kept()) == 1
    assert backups.kept() != [snapshot]
    backups.path(second).unlink()
    assert backups.make().read == len(_DATA), "the snapshot is not the state of the first backup"


def test_an_image_that_changed_its_size_or_was_rolled_back_is_backed_up_right(
    here: Place, backups: Backups
) -> None:
    here.image("x", _DATA)
    here.cluster.rbd("snap", "create", "--no-progress", f"{POOL}/x@mine")
    backups.make()
    for size in (3 * CHUNK - 512, 7 * CHUNK + 512):
        words = ["--no-progress", "--allow-shrink", "--size", f"{size}B"]
        here.cluster.rbd("resize", *words, f"{POOL}/x")
    backups.require_right(backups.make())
    here.cluster.rbd("snap", "rollback", "--no-progress", f"{POOL}/x@mine")
    backups.require_right(made := backups.make())
    assert made.size == len(_DATA)


def test_a_frame_that_is_damaged_in_the_base_is_read_and_a_new_image_of_the_name_is_read_whole(
    here: Place, backups: Backups
) -> None:
    here.image("x", _DATA)
    with backups.path(backups.make()).open("r+b") as archive:
        archive.seek(3 * CHUNK + CHUNK // 2)
        archive.write(b"damaged")
    second = backups.make(warnings=1)
    assert second.read == CHUNK
    backups.require_right(second)
    image = backups.source.image(f"{VMS}/x")
    with pytest.raises(virtstore.InUse, match="snapshots"):
        image.delete()
    assert [each.type for each in backups.source.list(VMS)] == ["rbd", "rbd-snapshot"]
    image.delete(with_snapshots=True)
    here.image("x", _DATA[: 2 * CHUNK] + noise(3 * CHUNK, 2))
    assert backups.make().read == 5 * CHUNK


def test_whoever_is_killed_leaves_at_most_a_snapshot_too_many_which_the_next_backup_removes(
    here: Place,
) -> None:
    here.image("x", _DATA)
    directory = here.root / "kept"
    directory.mkdir(mode=0o700)

    def back_up(host: virtstore.Host) -> virtstore.BackedUp:
        image = host.image(f"{VMS}/x")
        [made] = virtstore.backup([image], host.image(str(directory)), keep_snapshot=True)
        if made.error:
            raise virtstore.Error(made.error.message)
        return made

    whole = kills.run(here.config, back_up, "agent", None)
    assert not whole.error
    chance = random.Random(5)
    for number in range(20 if TORTURE else 2):
        write(here, number * CHUNK // 2)
        kills.run(here.config, back_up, "agent", chance.randrange(1, 2 * whole.work))
        with virtstore.connect(config=str(here.config)) as host:
            back_up(host)
            write(here, number * CHUNK // 2 + 4096)
            made = back_up(host)
            assert made.read == CHUNK
            assert made.target
            assert host.image(made.target).verify().checked == "digest"
        assert len(here.snapshots("x")) == 1
