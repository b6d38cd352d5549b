"""What an interrupted copy-contents left is an image still: who may only make new images neither
goes on with it, nor replaces it, nor removes it, by any operation."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import virtstore
from virtstore.client.connection import Connection
from virtstore.model import Access
from virtstore.protocol import AnyMessage, Data, Existing, Progressed, Ready, Receive

MIB = 1 << 20
LEFT = "x.img.virtstore-rework"
OLDER = "x.img.virtstore-partial"

Work = Callable[[virtstore.Host, str], object]

#: Each operation that makes something of that name.
MAKING: dict[str, Work] = {
    "create": lambda h, r: h.create(f"{r}/x.img", 4096),
    "copy": lambda h, r: h.image(f"{r}/new.img").copy(h.image(f"{r}/x.img")),
    "copy --overwrite": lambda h, r: h.image(f"{r}/new.img").copy(
        h.image(f"{r}/x.img"), overwrite=True
    ),
    "copy --archive": lambda h, r: h.image(f"{r}/new.img").copy(
        h.image(f"{r}/x.img"), archive=True
    ),
    "snapshot": lambda h, r: h.image(f"{r}/new.img").snapshot("x.img"),
    "uncompress --keep": lambda h, r: h.image(f"{r}/x.img.zst").uncompress(keep=True),
}
CHANGING: dict[str, Work] = {
    "copy-contents": lambda h, r: h.image(f"{r}/new.img").copy_contents(h.image(f"{r}/x.img")),
    "delete": lambda h, r: h.image(f"{r}/x.img").delete(),
    "clean": lambda h, r: h.clean(r),
}


def configured(place: Path, access: Access) -> str:
    file = place.parent / f"{access}.toml"
    file.write_text(f'[[directory]]\npath = "{place}"\naccess = "{access}"\n')
    return str(file)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A new image, an archive of it as `x.img.zst`, and what is left of `x.img`."""
    (place := tmp_path / "images").mkdir(mode=0o700)
    rng = random.Random(3)
    (place / "new.img").write_bytes(rng.randbytes(4 * MIB))
    with virtstore.connect(config=configured(place, "write")) as host:
        host.image(f"{place}/new.img").copy(host.image(f"{place}/x.img.zst"), archive=True)
    (place / "x.img").write_bytes(rng.randbytes(4 * MIB))
    (place / "x.img").chmod(0o640)
    return place


def answer(session: Connection) -> AnyMessage:
    """The next message that does not only say how far it is."""
    while isinstance(message := session.receive()[0], Progressed):
        pass
    return message


def wait_for(seen: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not seen():
        assert time.monotonic() < deadline, "the agent did not write what it was sent"
        time.sleep(0.02)


@pytest.fixture
def left(images: Path) -> Path:
    """By a copy-contents whose client went away after one chunk."""
    old = (images / "x.img").read_bytes()
    argv = [sys.executable, "-P", "-m", "virtstore.agent"]
    session = Connection([*argv, "--config", configured(images, "write")], "local")
    session.send(Receive(f"{images}/x.img", "", 4 * MIB, contents=True))
    assert isinstance(answer(session), Ready)
    session.send(Data(0, MIB, True), b"\1" * MIB)
    for _ in range(1000):
        message = answer(session)
        assert isinstance(message, Existing)
        if message.last:
            break
    session.send(Data(MIB, MIB, True), b"\1" * MIB)
    path = images / LEFT
    wait_for(lambda: path.exists() and path.read_bytes().startswith(b"\1" * MIB))
    session.close()
    assert path.read_bytes()[2 * MIB :] == old[2 * MIB :]
    return path


@pytest.fixture
def hosts(images: Path) -> Iterator[dict[Access, virtstore.Host]]:
    with ExitStack() as sessions:
        levels: tuple[Access, ...] = ("append", "write")
        yield {
            level: sessions.enter_context(virtstore.connect(config=configured(images, level)))
            for level in levels
        }


@pytest.mark.parametrize("name", [*MAKING, *CHANGING])
@pytest.mark.parametrize("version", ["this", "older"])
def test_with_access_to_append_what_is_left_of_an_image_stays(
    hosts: dict[Access, virtstore.Host], images: Path, left: Path, version: str, name: str
) -> None:
    if version == "older":
        path = images / OLDER
        shutil.copyfile(left, path)  # without the mark that a draft has
        left.unlink()
        left = path
    kept = left.read_bytes()
    work = {**MAKING, **CHANGING}[name]
    with pytest.raises(virtstore.Denied, match='needs "write"'):
        work(hosts["append"], str(images))
    assert left.read_bytes() == kept
    assert not (images / "x.img").exists()


@pytest.mark.parametrize("name", [name for name in MAKING if name != "copy --overwrite"])
def test_with_access_to_write_it_is_an_image_that_is_there(
    hosts: dict[Access, virtstore.Host], images: Path, left: Path, name: str
) -> None:
    kept = left.read_bytes()
    with pytest.raises(virtstore.Exists, match=r"copy-contents.*virtstore clean.*--overwrite"):
        MAKING[name](hosts["write"], str(images))
    assert left.read_bytes() == kept


@pytest.mark.parametrize("version", ["this", "older"])
def test_the_same_copy_contents_makes_it_whole(
    hosts: dict[Access, virtstore.Host], images: Path, left: Path, version: str
) -> None:
    if version == "older":
        left.rename(images / OLDER)
    CHANGING["copy-contents"](hosts["write"], str(images))
    assert sorted(p.name for p in images.iterdir()) == ["new.img", "x.img", "x.img.zst"]
    assert (images / "x.img").read_bytes() == (images / "new.img").read_bytes()
    assert (images / "x.img").stat().st_mode & 0o777 == 0o640


def test_what_replaces_it_is_for_whom_it_was(
    hosts: dict[Access, virtstore.Host], images: Path, left: Path
) -> None:
    MAKING["copy --overwrite"](hosts["write"], str(images))
    assert sorted(p.name for p in images.iterdir()) == ["new.img", "x.img", "x.img.zst"]
    assert (images / "x.img").read_bytes() == (images / "new.img").read_bytes()
    assert (images / "x.img").stat().st_mode & 0o777 == 0o640


def test_a_copy_over_it_that_fails_leaves_it(
    hosts: dict[Access, virtstore.Host], images: Path, left: Path
) -> None:
    kept = left.read_bytes()
    (images / "bad.img.zst").write_bytes((images / "x.img.zst").read_bytes()[:-MIB])
    with pytest.raises(virtstore.Error):
        hosts["write"].image(f"{images}/bad.img.zst").copy(
            hosts["write"].image(f"{images}/x.img"), overwrite=True
        )
    assert left.read_bytes() == kept


@pytest.mark.parametrize("verb", ["delete", "clean"])
def test_who_may_change_images_removes_it(
    hosts: dict[Access, virtstore.Host], images: Path, left: Path, verb: str
) -> None:
    CHANGING[verb](hosts["write"], str(images))
    assert sorted(p.name for p in images.iterdir()) == ["new.img", "x.img.zst"]


def test_it_is_listed_as_partial_and_told_from_a_draft(
    hosts: dict[Access, virtstore.Host], images: Path, left: Path
) -> None:
    shutil.copyfile(left, images / "y.img.virtstore-partial")
    host = hosts["append"]
    states = {Path(e.path).name: e.state for e in host.list(str(images))}
    assert (states["x.img"], states["y.img"]) == ("partial", "partial")
    [told] = host.image(f"{images}/x.img").info().warnings
    assert told.startswith("it is an image which")
    [told] = host.image(f"{images}/y.img").info().warnings
    assert told.startswith("it may be an image which")


def test_with_access_to_append_a_draft_of_ones_own_is_gone_on_with(
    hosts: dict[Access, virtstore.Host], images: Path
) -> None:
    argv = [sys.executable, "-P", "-m", "virtstore.agent"]
    session = Connection([*argv, "--config", configured(images, "append")], "local")
    session.send(Receive(f"{images}/z.img", "", 4 * MIB))
    assert isinstance(answer(session), Ready)
    session.send(Data(0, MIB, True), b"\1" * MIB)
    path = images / "z.img.virtstore-partial"
    wait_for(path.exists)
    session.close()
    host = hosts["append"]
    for overwrite in (True, False):
        target = host.image(f"{images}/z{overwrite}.img")
        if overwrite:
            path.rename(images / "zTrue.img.virtstore-partial")
        host.image(f"{images}/new.img").copy(target, overwrite=overwrite)
        assert Path(target.path).read_bytes() == (images / "new.img").read_bytes()


def test_what_is_left_of_an_image_is_made_whole_whatever_it_begins_with(images: Path) -> None:
    """A guest can write a container's beginning into its raw disk, which `--raw` copies."""
    magic = b"QFI\xfb\0\0\0\3"
    (images / LEFT).write_bytes(magic + (images / "x.img").read_bytes()[len(magic) :])
    (images / "x.img").unlink()
    with virtstore.connect(config=configured(images, "write")) as host:
        host.image(f"{images}/new.img").copy_contents(host.image(f"{images}/x.img"))
    assert (images / "x.img").read_bytes() == (images / "new.img").read_bytes()
    assert not (images / LEFT).exists()


@pytest.mark.parametrize("access", ["read", "append"])
def test_listing_and_looking_change_nothing_where_nothing_may_be_changed(
    images: Path, access: Access
) -> None:
    """What a crash left between two names of one file is mended by who may make images."""
    (images / "new.img").rename(images / "new.img.virtstore-publish")
    before = {path.name: path.read_bytes() for path in images.iterdir()}
    with virtstore.connect(config=configured(images, access)) as host:
        host.list(str(images), long=True)
        host.image(f"{images}/x.img.zst").info()
        host.image(f"{images}/x.img.zst").verify()
    after = {path.name: path.read_bytes() for path in images.iterdir()}
    assert (after == before) is (access == "read")
    assert sorted(after.values()) == sorted(before.values())


def test_an_empty_file_that_a_kill_left_is_removed_by_clean(images: Path) -> None:
    left = images / ".virtstore-0123456789abcdef"
    left.touch()
    os.utime(left, (0, 0))
    with virtstore.connect(config=configured(images, "read")) as host:
        host.list(str(images))
        assert left.exists()
    with virtstore.connect(config=configured(images, "write")) as host:
        host.clean(str(images))
    assert not left.exists()


def _left(place: Path, *names: str) -> list[Path]:
    for path in (paths := [place / f"{name}.virtstore-partial" for name in names]):
        path.write_bytes(bytes(5000))
    return paths


def test_clean_passes_over_what_somebody_works_on_and_says_so_of_an_image(images: Path) -> None:
    """On another host, say."""
    busy, left = _left(images, "busy.img", "left.img")
    with (
        virtstore.connect(config=configured(images, "write")) as host,
        busy.open("rb") as theirs,
    ):
        fcntl.flock(theirs, fcntl.LOCK_EX)
        with pytest.raises(virtstore.InUse, match="another virtstore operation") as refused:
            host.clean(f"{images}/busy.img")
        assert refused.value.path == f"{images}/busy.img"
        assert host.clean(str(images)).removed == (f"{images}/left.img",)
    assert (busy.exists(), left.exists()) == (True, False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files immutable")
def test_what_may_not_be_removed_keeps_nothing_else_from_being_cleaned(images: Path) -> None:
    locked, left = _left(images, "locked.img", "more.img")
    if subprocess.run(["chattr", "+i", locked], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("the file system keeps no such flags")
    try:
        with (
            virtstore.connect(config=configured(images, "write")) as host,
            pytest.raises(virtstore.Denied, match=r"chattr -i.*what else .* removed") as refused,
        ):
            host.clean(str(images))
    finally:
        subprocess.run(["chattr", "-i", locked], check=True)
    assert refused.value.path == f"{images}/locked.img"
    assert (locked.exists(), left.exists()) == (True, False)
