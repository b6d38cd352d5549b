"""What the benchmarks copy: images of this machine's own files, made once and kept read-only.

| file | is |
|---|---|
| `sparse.img` | 4 GiB, an ext4 file system with about 700 MB of files; the rest is holes |
| `sparse.qcow2` | the same disk in a qcow2 |
| `full.img` | as `sparse.img`, wholly allocated |
| `changed.img` | the same, with 1 % of its 128 KiB blocks replaced by random bytes |
| `solid.img` | 4 GiB of such data, without a zero to spare |
| `huge.img` | 1 TiB with a piece of such data, 1 MiB, in every GiB |
| `huge-same.img` | the same pieces in 4 GiB |
| `noise.img` | 400 MiB of random bytes |
| `many/` | 10,000 images of 64 KiB |

Everything is divided by `scale`. What is there already is taken as it is.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from demo.__main__ import _files as files_of_this_machine
from demo.loopback import find

MIB = 1 << 20
GIB = 1 << 30
#: Sizes before they are divided.
SIZE, FILES, SOLID, HUGE, NOISE, MANY = 4 * GIB, 700 * MIB, 4 * GIB, 1 << 40, 400 * MIB, 10_000
BLOCK = 128 << 10
#: One block in so many differs in `changed.img`.
ONE_IN = 100
SMALL_IMAGE = 64 << 10
_SEED = 5


def make(directory: Path, scale: int) -> None:
    """Make what is not there yet."""
    made: tuple[tuple[str, Callable[[Path, int], None]], ...] = (
        ("sparse.img", _make_sparse),
        ("sparse.qcow2", _make_qcow2),
        ("full.img", _make_full),
        ("changed.img", _make_changed),
        ("solid.img", _make_solid),
        ("huge.img", lambda path, scale: _spread(path, scale, HUGE // scale, GIB)),
        ("huge-same.img", lambda path, scale: _spread(path, scale, SIZE // scale, 4 * MIB)),
        ("noise.img", _make_noise),
        ("many", _make_many),
    )
    inputs = {name for name, _ in made}
    for path in directory.iterdir():  # what an interrupted run left
        if path.name not in inputs:
            _remove(path)
    for name, maker in made:
        if not (directory / name).exists():
            _make_one(directory, name, maker, scale)
    os.sync()


def different_blocks(scale: int) -> list[int]:
    """The offsets at which full.img and changed.img differ."""
    blocks = SIZE // scale // BLOCK
    return [n * BLOCK for n in random.Random(_SEED).sample(range(blocks), blocks // ONE_IN)]


def take_blocks(source: Path, target: Path, scale: int) -> None:
    """Give `target`, which is one of full.img and changed.img, the contents of the other."""
    with source.open("rb") as read, target.open("r+b") as written:
        for offset in different_blocks(scale):
            os.pwrite(written.fileno(), os.pread(read.fileno(), BLOCK, offset), offset)
        os.fsync(written.fileno())


def _make_one(directory: Path, name: str, maker: Callable[[Path, int], None], scale: int) -> None:
    """Under another name until it is whole: this may be interrupted and begun again."""
    print(f"Making {name} …", flush=True)
    draft = directory / f"unfinished-{name}"
    _remove(draft)
    try:
        maker(draft, scale)
        draft.rename(directory / name)
    finally:
        _remove(draft)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _make_sparse(path: Path, scale: int) -> None:
    files = path.with_name("unfinished-files")
    _remove(files)
    try:
        _collect(files, FILES // scale)
        mke2fs = find("mke2fs")
        assert mke2fs
        size = f"{SIZE // scale >> 10}k"
        argv = [mke2fs, "-q", "-t", "ext4", "-L", "bench", "-d", str(files), str(path), size]
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    finally:
        _remove(files)


def _collect(directory: Path, wanted: int) -> None:
    """This machine's own files, as links where they are on the same file system."""
    total = 0
    for source in files_of_this_machine():
        size = source.stat().st_size
        target = directory / str(source).lstrip("/")
        if total + size > wanted or target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, target)
        total += size
        if total > wanted - MIB:
            break


def _make_qcow2(path: Path, scale: int) -> None:
    raw = path.with_name("sparse.img")
    argv = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(path)]
    subprocess.run(argv, check=True)


def _make_full(path: Path, scale: int) -> None:
    argv = ["cp", "--sparse=never", str(path.with_name("sparse.img")), str(path)]
    subprocess.run(argv, check=True)


def _make_changed(path: Path, scale: int) -> None:
    shutil.copyfile(path.with_name("full.img"), path)
    noise = random.Random(_SEED + 1)
    with path.open("r+b") as file:
        for offset in different_blocks(scale):
            os.pwrite(file.fileno(), noise.randbytes(BLOCK), offset)


def _make_solid(path: Path, scale: int) -> None:
    pieces = _over_and_over(path.with_name("sparse.img"))
    with path.open("wb") as file:
        for _ in range(SOLID // scale // MIB):
            file.write(next(pieces))


def _spread(path: Path, scale: int, size: int, distance: int) -> None:
    """1 MiB of data in every `distance`, not on a boundary of chunks, but the same in both."""
    pieces = _over_and_over(path.with_name("sparse.img"))
    where = random.Random(_SEED)
    with path.open("wb") as file:
        file.truncate(size)
        for number in range(size // distance):
            file.seek(number * distance + where.randrange(48) * (64 << 10))
            file.write(next(pieces))


def _make_noise(path: Path, scale: int) -> None:
    noise = random.Random(_SEED)
    with path.open("wb") as file:
        for _ in range(NOISE // scale // MIB):
            file.write(noise.randbytes(MIB))


def _make_many(path: Path, scale: int) -> None:
    path.mkdir()
    kinds = [*_small_images(path), next(_over_and_over(path.with_name("sparse.img")))[:SMALL_IMAGE]]
    for number in range(MANY // scale):
        # One in ten has a file system, one in ten is swap space.
        (path / f"{number:05}.img").write_bytes(kinds[min(number % 10, 2)])


def _small_images(directory: Path) -> Iterator[bytes]:
    for argv in (["mke2fs", "-q", "-t", "ext2", "-N", "16", "-m", "0"], ["mkswap", "-q"]):
        image = directory / "template"
        image.write_bytes(bytes(SMALL_IMAGE))
        argv[0] = find(argv[0]) or argv[0]
        subprocess.run([*argv, str(image)], check=True)
        yield image.read_bytes()
        image.unlink()


def data_of(image: Path) -> Iterator[bytes]:
    """The image's data in pieces of 1 MiB."""
    with image.open("rb") as file:
        yield from _pieces(file)


def _over_and_over(image: Path) -> Iterator[bytes]:
    while True:
        yield from data_of(image)


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    end = 0
    with suppress(OSError):  # ENXIO: no more data, lseek(2)
        while True:
            start = os.lseek(file.fileno(), end, os.SEEK_DATA)
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            for offset in range(start, end - MIB + 1, MIB):
                yield os.pread(file.fileno(), MIB, offset)
