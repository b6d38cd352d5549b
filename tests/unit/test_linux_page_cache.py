"""What of a file is in the page cache: told by two calls of the kernel, which must agree."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtstore import linux

_SIZE = 4 << 20


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "image"
    path.write_bytes(os.urandom(_SIZE))
    fd = os.open(path, os.O_RDWR)
    os.fsync(fd)
    yield fd
    os.close(fd)


def _let_go(fd: int, offset: int = 0, length: int = 0) -> None:
    os.posix_fadvise(fd, offset, length, os.POSIX_FADV_DONTNEED)


@pytest.mark.parametrize("missing", [None, (0, 0), (1 << 20, 1 << 20)])
def test_what_is_not_cached_is_the_same_however_the_kernel_tells_it(
    file: int, missing: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing is not None:
        _let_go(file, *missing)
    told = linux.not_cached(file, 1000, _SIZE - 1000)
    monkeypatch.setattr(linux, "_cached_pages", lambda *_: None)
    assert told == linux.not_cached(file, 1000, _SIZE - 1000)


def test_a_range_that_is_wholly_cached_or_wholly_not_needs_no_look_at_its_pages(
    file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if linux._cached_pages(file, 0, _SIZE) is None:
        pytest.skip("this kernel has no cachestat")
    monkeypatch.delattr(linux, "_absent")
    assert linux.not_cached(file, 0, _SIZE) == []
    _let_go(file)
    if linux._cached_pages(file, 0, _SIZE) == 0:  # not on a file system in memory
        assert linux.not_cached(file, 0, _SIZE) == [(0, _SIZE)]
