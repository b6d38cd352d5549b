"""Who changes an image's owner, mode, names or labels while it is copied has not written to it; who
writes to it has, also through a mapping, and with the time of modification set back."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.tools.meanwhile import Meanwhile

import virtstore

MIB = 1 << 20
Change = Callable[[Path], object]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (made := tmp_path / "images").mkdir(0o700)
    (tmp_path / "elsewhere").mkdir()
    return made


@pytest.fixture
def host(images: Path, meanwhile: Meanwhile) -> Iterator[virtstore.Host]:
    config = images.parent / "config.toml"
    config.write_text(f'[[directory]]\npath = "{images}"\naccess = "write"\n')
    with virtstore.connect(config=str(config)) as opened:
        yield opened


@pytest.fixture
def image(images: Path) -> Path:
    """An image with a second name."""
    path = images / "x.img"
    path.write_bytes(random.Random(5).randbytes(8 * MIB))
    os.link(path, images.parent / "elsewhere" / "second")
    return path


def label(path: Path) -> None:
    try:
        os.setxattr(path, "user.note", b"seen")
    except OSError as error:
        pytest.skip(f"no extended attributes on this file system: {error}")


def give_away(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    os.chown(path, 4711, 4711)


def read_just_now(path: Path) -> None:
    os.utime(path, ns=(10**18, path.stat().st_mtime_ns))


def rename_and_back(path: Path) -> None:
    path.rename(path.parent / "other")
    (path.parent / "other").rename(path)


TOUCHED: dict[str, Change] = {
    "chmod": lambda path: path.chmod(0o640),
    "chown": give_away,
    "ln": lambda path: os.link(path, path.parents[1] / "elsewhere" / "third"),
    "rm of another name": lambda path: (path.parents[1] / "elsewhere" / "second").unlink(),
    "setfattr": label,
    "touch -a": read_just_now,
    "mv and back": rename_and_back,
}
#: After these it has its name no more, and is what it was all the same.
MOVED: dict[str, Change] = {
    "mv": lambda path: path.rename(path.parents[1] / "elsewhere" / "moved"),
    "rm": lambda path: path.unlink(),
}


@pytest.mark.parametrize("name", [*TOUCHED, *MOVED])
def test_a_copy_of_what_nobody_wrote_to_is_whole(
    host: virtstore.Host, meanwhile: Meanwhile, images: Path, image: Path, name: str
) -> None:
    contents = image.read_bytes()
    change = {**TOUCHED, **MOVED}[name]
    host.image(str(image)).copy(
        host.image(f"{images}/y.img"), progress=meanwhile(lambda: change(image))
    )
    assert (images / "y.img").read_bytes() == contents


@pytest.mark.parametrize("name", TOUCHED)
def test_an_image_that_nobody_wrote_to_goes_for_its_archive_and_back(
    host: virtstore.Host, meanwhile: Meanwhile, image: Path, name: str
) -> None:
    contents = image.read_bytes()
    made = host.image(str(image)).compress(
        format="gzip", progress=meanwhile(lambda: TOUCHED[name](image))
    )
    assert not image.exists()
    archive = Path(made.path)
    if name != "rm of another name":  # it has none by now
        made.uncompress(
            progress=meanwhile(lambda: TOUCHED[name](archive)) if name != "ln" else None
        )
    else:
        made.uncompress()
    assert image.read_bytes() == contents
    assert not archive.exists()


def write(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"newer")
        file.seek(-5, 2)
        file.write(b"newer")


def write_in_secret(path: Path) -> None:
    """As `touch -r` does it afterwards, of an image whose owner changes, too."""
    before = path.stat()
    write(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    path.chmod(0o640)


WRITTEN: dict[str, tuple[Change, str]] = {
    "written": (write, r"time of modification changed from 20.*Z to 20.*Z"),
    "written in secret": (write_in_secret, "set its time of modification back"),
    "longer": (lambda path: os.truncate(path, 9 * MIB), "size changed from 8388608 to 9437184"),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_was_written_to_is_not_copied_and_what_was_seen_is_said(
    host: virtstore.Host, meanwhile: Meanwhile, images: Path, image: Path, name: str
) -> None:
    change, told = WRITTEN[name]
    source, target = host.image(str(image)), host.image(f"{images}/y.img")
    with pytest.raises(virtstore.InUse, match=told):
        source.copy(target, progress=meanwhile(lambda: change(image)))
    assert [path.name for path in images.iterdir()] == ["x.img"]


@pytest.mark.parametrize("name", WRITTEN)
def test_what_was_written_to_does_not_go_for_its_archive(
    host: virtstore.Host, meanwhile: Meanwhile, images: Path, image: Path, name: str
) -> None:
    change, told = WRITTEN[name]
    with pytest.raises(virtstore.InUse, match=told):
        host.image(str(image)).compress(progress=meanwhile(lambda: change(image)))
    assert [path.name for path in images.iterdir()] == ["x.img"]


@contextmanager
def mapped(path: Path) -> Iterator[Callable[[bytes], object]]:
    """Writes its beginning through a mapping that is all that its writer has of it. (Python's own
    mapping keeps the file open.)"""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    with path.open("r+b") as file:
        both = mmap.PROT_READ | mmap.PROT_WRITE
        address = libc.mmap(None, MIB, both, mmap.MAP_SHARED, file.fileno(), ctypes.c_long(0))
    assert address not in (None, ctypes.c_void_p(-1).value)
    try:
        yield lambda data: ctypes.memmove(address, data, len(data))
    finally:
        libc.munmap(address, MIB)


def test_a_write_through_a_mapping_is_seen_though_its_page_was_written_before(
    host: virtstore.Host, meanwhile: Meanwhile, images: Path, image: Path
) -> None:
    with mapped(image) as write_to_it:
        before = image.stat().st_mtime_ns
        write_to_it(b"first")
        if image.stat().st_mtime_ns == before:
            pytest.skip("on this file system a mapping leaves no trace (tmpfs)")
        with pytest.raises(virtstore.InUse, match="time of modification"):
            host.image(str(image)).copy(
                host.image(f"{images}/y.img"),
                progress=meanwhile(lambda: write_to_it(b"other")),
            )
    assert [path.name for path in images.iterdir()] == ["x.img"]


@pytest.mark.parametrize("name", ["written", "longer", "replaced", "made"])
def test_what_is_to_be_replaced_stays_if_somebody_wrote_to_it_meanwhile(
    host: virtstore.Host, meanwhile: Meanwhile, images: Path, image: Path, name: str
) -> None:
    target = images / "y.img"
    if name != "made":
        target.write_bytes(b"old" * MIB)

    def change() -> None:
        if name in ("written", "longer"):
            with target.open("r+b") as file:
                file.seek(0, 0 if name == "written" else 2)
                file.write(b"newer")
        else:
            other = images.parent / "elsewhere" / "other"
            other.write_bytes(b"newer")
            other.rename(target)

    with pytest.raises(virtstore.InUse, match="the same command replaces it"):
        host.image(str(image)).copy(
            host.image(str(target)), overwrite=True, progress=meanwhile(change)
        )
    assert b"newer" in target.read_bytes()
    host.image(str(image)).copy(host.image(str(target)), overwrite=True)  # of what is whole
    assert target.read_bytes() == image.read_bytes()
    assert sorted(path.name for path in images.iterdir()) == ["x.img", "y.img"]


@pytest.mark.parametrize("name", ["chmod", "chown", "setfattr", "touch -a"])
def test_what_is_replaced_has_what_it_was_given_meanwhile(
    host: virtstore.Host, meanwhile: Meanwhile, images: Path, image: Path, name: str
) -> None:
    target = images / "y.img"
    target.write_bytes(b"old" * MIB)
    host.image(str(image)).copy(
        host.image(str(target)),
        overwrite=True,
        progress=meanwhile(lambda: TOUCHED[name](target)),
    )
    assert target.read_bytes() == image.read_bytes()
    if name == "chmod":
        assert target.stat().st_mode & 0o777 == 0o640
    if name == "chown":
        assert target.stat().st_uid == 4711


def test_contents_are_not_copied_over_what_somebody_wrote_after_it_was_compared(
    host: virtstore.Host, meanwhile: Meanwhile, images: Path, image: Path
) -> None:
    target = images / "y.img"
    target.write_bytes(image.read_bytes())
    with pytest.raises(virtstore.InUse, match="nothing of it was changed"):
        host.image(str(image)).copy_contents(
            host.image(str(target)), progress=meanwhile(lambda: write(target))
        )
    assert target.read_bytes().startswith(b"newer")
