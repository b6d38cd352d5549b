"""What a copy leaves in the page cache, as `fincore` sees it: what was there before."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import cast

import pytest
from tests.ours import writer_of

from virtstore import formats
from virtstore.backends.files.container_directory import ContainerDirectory
from virtstore.backends.files.directory import Directory
from virtstore.digest import CHUNK
from virtstore.formats.base import Sink
from virtstore.model import Compression
from virtstore.protocol import Sent
from virtstore.transfer.hashing import check, fingerprints, survey
from virtstore.transfer.pieces import Source
from virtstore.transfer.receive import Target, receive
from virtstore.transfer.send import Encoding, send
from virtstore.transfer.sources import open_source
from virtstore.transfer.writers import FrameTarget, ImageTarget

#: More than what is let go of with a delay.
SIZE = 48 * CHUNK
#: What may be left: pages at which two reads meet.
LITTLE = SIZE // 50
#: What a target keeps: the windows that were on their way to the disk at the end.
WINDOWS = 128 << 20

CONTENTS = random.Random(1).randbytes(SIZE)
KEPT = Encoding(whole_frames=True)


@pytest.fixture
def directory() -> Iterator[Path]:
    """On a disk: what is in a tmpfs is nowhere else."""
    path = Path(tempfile.mkdtemp(prefix="virtstore-test-", dir="/var/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def store(directory: Path) -> Iterator[Directory]:
    store = Directory(os.open(directory, os.O_RDONLY | os.O_DIRECTORY))
    yield store
    store.close()


def cached(path: Path) -> int:
    """Bytes."""
    argv = ["fincore", "--bytes", "--noheadings", "--output", "RES", str(path)]
    return int(subprocess.run(argv, check=True, capture_output=True).stdout)


def evict(path: Path, offset: int = 0, length: int = 0) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), offset, length, os.POSIX_FADV_DONTNEED)


def stored(directory: Path, compression: Compression | None) -> Path:
    path = directory / "x"
    if compression is None:
        path.write_bytes(CONTENTS)
        return path
    with path.open("wb") as file:
        form = formats.by_name(compression)
        writer = writer_of(form, cast(Sink, file.write))
        for start in range(0, SIZE, CHUNK):
            writer.write(CONTENTS[start : start + CHUNK])
        writer.finish()
    return path


Walk = Callable[[Source], Iterable[object]]


def _send(source: Source) -> Iterable[object]:
    return send(source, Encoding(), None)


def read_through(store: Directory, walk: Walk = _send) -> None:
    with store.open("x") as image:
        source = open_source(image)
        for _ in walk(source):
            pass


def _checked(walk: Walk) -> Walk:
    """With what its callers do at its end, and `send` does itself."""

    def checked(source: Source) -> Iterator[object]:
        yield from walk(source)
        source.check()

    return checked


@pytest.mark.parametrize(
    "walk",
    [_send, _checked(survey), _checked(partial(fingerprints, blocks=True))],
    ids=["send", "survey", "fingerprints"],
)
def test_an_image_that_was_not_cached_is_not_afterwards(
    store: Directory, directory: Path, walk: Walk
) -> None:
    path = stored(directory, None)
    evict(path)
    assert cached(path) == 0
    read_through(store, walk)
    assert cached(path) <= LITTLE


def _cache_here_and_there(path: Path) -> None:
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for number in range(0, SIZE // CHUNK, 3):  # one page in the middle of a chunk
            os.pread(file.fileno(), 4096, number * CHUNK + CHUNK // 2)
        os.pread(file.fileno(), 4 * CHUNK, SIZE // 2)


def _cache_all(path: Path) -> None:
    path.read_bytes()


@pytest.mark.parametrize("cache", [_cache_here_and_there, _cache_all])
def test_what_was_cached_of_an_image_still_is(
    store: Directory, directory: Path, cache: Callable[[Path], None]
) -> None:
    """Some kernels (with DAMON_RECLAIM) take pages back by themselves, now and then: not each
    time, which is what we would do."""
    path = stored(directory, None)

    def is_kept() -> bool:
        evict(path)
        cache(path)
        before = cached(path)
        assert before
        read_through(store)
        return before <= cached(path) <= before + LITTLE

    assert any(is_kept() for _ in range(5))


@pytest.mark.parametrize("compression", ["gzip", "lz4"])
def test_an_archive_that_was_not_cached_is_not_afterwards(
    store: Directory, directory: Path, compression: Compression
) -> None:
    path = stored(directory, compression)
    evict(path)
    read_through(store)
    assert cached(path) <= LITTLE


def test_an_archive_of_ours_that_was_not_cached_is_not_afterwards(
    store: Directory, directory: Path
) -> None:
    _copy(store, stored(directory, None), "y.zst")
    for work in (_pass_on, _check):
        evict(directory / "y.zst")
        work(store)
        assert cached(directory / "y.zst") <= LITTLE


def _pass_on(store: Directory) -> None:
    with store.open("y.zst") as image:
        sent = send(open_source(image), KEPT, None)
        assert sum(len(payload) for _, payload in sent) >= SIZE


def _check(store: Directory) -> None:
    with store.open("y.zst") as image:
        check(open_source(image), lambda done, total: None)


@pytest.mark.parametrize("name", ["y", "y.zst"])
def test_of_what_was_written_little_stays_cached(
    store: Directory, directory: Path, name: str
) -> None:
    path = stored(directory, None)
    with path.open("r+b") as file:
        for start in range(0, 5 * SIZE, SIZE):
            os.pwrite(file.fileno(), CONTENTS, start)
    _copy(store, path, name)
    size = (directory / name).stat().st_size
    assert size >= 5 * SIZE
    assert cached(directory / name) <= WINDOWS + LITTLE


def _copy(store: Directory, path: Path, name: str) -> None:
    size = path.stat().st_size
    with store.open(path.name) as image:
        source = open_source(image)
        if name.endswith(".zst"):
            with store.archive(name) as archive:
                _receive(send(source, KEPT, None), size, FrameTarget(archive))
                archive.publish(overwrite=False)
            return
        with store.draft(name, size) as draft:
            _receive(send(source, Encoding(), None), size, ImageTarget(draft, size, None))
            draft.publish(overwrite=False)


def _receive(sent: Iterator[Sent], size: int, target: Target) -> None:
    assert receive(sent, size, target).written >= size


def test_a_copy_of_a_qcow2_leaves_of_its_file_what_was_cached_before(directory: Path) -> None:
    raw, path = stored(directory, None), directory / "x.qcow2"
    argv = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(path)]
    subprocess.run(argv, check=True)
    with closing(ContainerDirectory(os.open(directory, os.O_RDONLY | os.O_DIRECTORY))) as store:
        for before in (0, SIZE // 2):
            evict(path, before)
            with store.open(path.name) as image:
                source = open_source(image)
                for _ in send(source, KEPT, None):
                    pass
            assert cached(path) <= before + SIZE // 4
            assert cached(path) >= before // 2
            path.read_bytes()
