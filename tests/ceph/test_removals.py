"""`rbd rm` that was cut short: an image is there whole or is gone, whoever comes next removes what
is left of it, and all other images of the pool can be used meanwhile."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import pytest

import virtstore
from tests import waiting
from tests.tools import kills
from tests.tools.ext_images import TORTURE

from .cluster import POOL
from .place import MIB, VMS, Place, noise

#: Of `rbd rm`, of some hundred messages, the one after which it is killed.
MOMENTS: Final = range(50, 110) if TORTURE else (60,)
_DISK: Final = noise(9 * MIB, 1)
#: Where the trash's entry of an image says who made it, and the number of `rbd rm`.
_SOURCE: Final = 6
_REMOVING: Final = b"\3"
#: The last byte of an entry while the image still loses its name, and after that.
_MOVING, _MOVED = b"\1", b"\0"


class Removal:
    """`rbd rm` of the image x, step by step: `rbd trash mv` does the same in the beginning."""

    def __init__(self, here: Place) -> None:
        self._here = here
        self.id = here.cluster.json("rbd", "info", f"{POOL}/x")["id"]

    def entered(self) -> None:
        """There is an entry in the trash, and the image has its name."""
        entry = self._moved()
        self._here.cluster.rbd("trash", "restore", "--image-id", self.id, "--pool", POOL)
        self._enter(entry, _MOVING)

    def unnamed(self) -> None:
        """The name is in the directory only."""
        self.entered()
        self.rados("rm", "rbd_id.x")

    def moving(self) -> None:
        """The image has lost its name; the entry does not say so yet."""
        self._enter(self._moved(), _MOVING)

    def moved(self) -> None:
        """The image is in the trash."""
        self._enter(self._moved(), _MOVED)

    def half(self) -> None:
        """Some of the contents are gone."""
        self.moved()
        self.rados("rm", f"rbd_data.{self.id}.0000000000000001")

    def headless(self) -> None:
        """Nothing is left but the entry."""
        self.moved()
        for name in self.rados("ls").split():
            if name.endswith(self.id) or name.startswith(f"rbd_data.{self.id}."):
                self.rados("rm", name)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Somebody has the image open to remove it."""
        cluster, header = self._here.cluster, f"rbd_header.{self.id}"
        argv = ["rados", "--conf", str(cluster.conf), "--id", "admin", "--pool", POOL]
        pipe = subprocess.PIPE
        with subprocess.Popen([*argv, "watch", header], stdin=pipe, stdout=pipe) as watcher:
            try:
                waiting.until(lambda: self.rados("listwatchers", header), "the watch")
                yield
            finally:
                watcher.communicate(b"\n", waiting.PATIENCE)

    def rados(self, *words: str) -> str:
        return self._here.cluster.call("rados", "--pool", POOL, *words)

    def _moved(self) -> bytes:
        """Move the image to the trash, as somebody does who wants to keep it; the entry."""
        self._here.cluster.rbd("trash", "mv", f"{POOL}/x")
        with tempfile.NamedTemporaryFile() as file:
            self.rados("getomapval", "rbd_trash", f"id_{self.id}", file.name)
            return file.read()

    def _enter(self, entry: bytes, state: bytes) -> None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(entry[:_SOURCE] + _REMOVING + entry[_SOURCE + 1 : -1] + state)
            file.flush()
            self.rados("setomapval", "rbd_trash", f"id_{self.id}", "--input-file", file.name)


@pytest.fixture
def host(here: Place) -> Iterator[virtstore.Host]:
    with virtstore.connect(config=str(here.config)) as host:
        yield host


@pytest.fixture
def removal(here: Place) -> Removal:
    here.image("other", bytes(MIB))
    here.image("x", _DISK)
    return Removal(here)


def listed(host: virtstore.Host) -> list[str]:
    """The images of the pool; the one that nobody removes can be looked at."""
    assert host.image(f"{VMS}/other").info().size == MIB
    found = [info for info in host.list(VMS, long=True) if isinstance(info, virtstore.ImageInfo)]
    assert all(info.state == "complete" for info in found)
    return [info.path.removeprefix(f"{VMS}/") for info in found]


def left(here: Place) -> set[str]:
    """The objects of images, and what is in the trash, beside the image `other`."""
    other = here.cluster.json("rbd", "info", f"{POOL}/other")["id"]
    call = here.cluster.call
    objects = set(call("rados", "--pool", POOL, "ls").split())
    known = {f"rbd_{kind}.{other}" for kind in ("header", "object_map")} | {"rbd_id.other"}
    trash = {"rbd_trash"} & objects and call("rados", "--pool", POOL, "listomapkeys", "rbd_trash")
    return {name for name in objects if "." in name} - known | set((trash or "").split())


@pytest.mark.parametrize("step", [Removal.unnamed, Removal.moving, Removal.half, Removal.headless])
def test_an_image_whose_removal_was_cut_short_is_gone_and_nothing_is_left_of_it(
    here: Place, host: virtstore.Host, removal: Removal, step: Callable[[Removal], None]
) -> None:
    step(removal)
    assert left(here)
    assert listed(host) == ["other"]
    assert left(here) == set()
    with pytest.raises(virtstore.NotFound):
        host.image(f"{VMS}/x").delete()
    host.create(f"{VMS}/x", MIB)
    assert here.names() == ["other", "x"]


def test_an_image_whose_removal_had_only_begun_is_there_and_can_be_removed(
    here: Place, host: virtstore.Host, removal: Removal
) -> None:
    removal.entered()
    assert here.names() == ["other", "x", "x"]
    assert listed(host) == ["other", "x"]
    assert here.contents("x") == _DISK
    host.image(f"{VMS}/x").delete()
    assert listed(host) == ["other"]
    assert left(here) == set()


def test_a_removal_that_somebody_is_at_is_left_to_him(
    here: Place, host: virtstore.Host, removal: Removal
) -> None:
    removal.half()
    before = left(here)
    with removal.at_work():
        assert listed(host) == ["other"]
        host.create(f"{VMS}/x", 2 * MIB)  # which is another image
        assert before < left(here)
    assert listed(host) == ["other", "x"]
    assert not [name for name in left(here) if removal.id in name]
    assert host.image(f"{VMS}/x").info().size == 2 * MIB


def test_what_somebody_moved_to_the_trash_stays_there(
    here: Place, host: virtstore.Host, removal: Removal
) -> None:
    here.cluster.rbd("trash", "mv", f"{POOL}/x")
    assert listed(host) == ["other"]
    host.create(f"{VMS}/x", MIB).delete()
    here.cluster.rbd("trash", "restore", "--image-id", removal.id, "--pool", POOL)
    assert here.contents("x") == _DISK


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_image_of_which_the_removal_was_killed_is_there_whole_or_gone(
    here: Place, host: virtstore.Host, removal: Removal, moment: int
) -> None:
    kill = f"inject=sendmsg:signal=SIGKILL:when={moment}"
    argv = ["strace", "-fqq", "-o", "/dev/null", "-e", "trace=sendmsg", "-e", kill, "rbd"]
    argv += ["--conf", str(here.cluster.conf), "--id", "admin", "rm", f"{POOL}/x"]
    subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if "x" in listed(host):  # whoever was killed counts as using it for half a minute
        assert here.contents("x") == _DISK
        kills.patiently(here.config, lambda host: host.image(f"{VMS}/x").delete())

    def is_gone() -> bool:  # or as being at it
        assert listed(host) == ["other"]
        return not left(here)

    waiting.until(is_gone, "the end of the removal")
