"""A host with a bucket and a directory, and images that are archived in a few parts."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from tests.s3 import Bucket

import virtstore

MIB: Final = 1 << 20
#: An archive of it is three parts, of which the last is a short one.
SIZE: Final = 18 * MIB


class BucketHost:
    """`config` allows the bucket as /s3/backups, and `images` as a directory."""

    def __init__(self, root: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bucket = bucket
        self.images = root / "images"
        self.images.mkdir(mode=0o700)
        self.config = root / "bucket.toml"
        self._monkeypatch = monkeypatch
        monkeypatch.setenv("HOME", str(root))
        self.allow()
        self.known_as(bucket)

    def allow(self, access: str = "write", by: Bucket | None = None, **more: str | int) -> None:
        directory = f'[[directory]]\npath = "{self.images}"\naccess = "write"\n'
        table = (by or self.bucket).table("backups", access, **more)
        self.config.write_text(directory + table)
        self.config.chmod(0o600)
        self._monkeypatch.setenv("VIRTSTORE_CONFIG", str(self.config))

    def known_as(self, bucket: Bucket) -> None:
        for name, value in bucket.environment.items():
            self._monkeypatch.setenv(name, value)

    def image(self, name: str = "web.img", size: int = SIZE, seed: int = 1) -> Path:
        """An image of bytes that nothing compresses."""
        path = self.images / name
        path.write_bytes(random.Random(seed).randbytes(size))
        return path

    @contextmanager
    def session(self) -> Iterator[virtstore.Host]:
        with virtstore.connect(config=str(self.config)) as host:
            yield host

    def archive(self, image: Path, key: str) -> virtstore.Copied:
        with self.session() as host:
            return host.image(str(image)).copy(host.image(f"/s3/backups/{key}"), archive=True)

    def back(self, key: str, name: str = "back.img") -> bytes:
        """What is in an archive, restored to an image."""
        with self.session() as host:
            made = host.image(f"/s3/backups/{key}").copy(host.image(str(self.images / name)))
        data = Path(made.path).read_bytes()
        os.unlink(made.path)
        return data
