"""A host on this machine that has the cluster's pool and a directory, and images in both."""

from __future__ import annotations

import random
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .cluster import POOL, Cluster

MIB: Final = 1 << 20
#: The place of the pool's images, as users name it.
VMS: Final = f"/dev/rbd/{POOL}"

#: A host of its own, as far as agents can tell: those of two hosts have no locks in common.
_ALONE: Final = 'mkdir -p /run/virtstore && mount -t tmpfs none /run/virtstore && exec "$@"'


@dataclass(frozen=True)
class Place:
    """What a test works with. `root`: a directory for files, `config`: allows that and the
    pool."""

    cluster: Cluster
    root: Path
    config: Path

    def file(self, name: str, contents: bytes) -> Path:
        """An image in the directory."""
        path = self.root / name
        path.write_bytes(contents)
        return path

    def image(self, name: str, contents: bytes) -> str:
        """An image in the pool, that Ceph's own tool made; its path."""
        with tempfile.NamedTemporaryFile(dir=self.root, suffix=".import") as file:
            file.write(contents)
            file.flush()
            self.cluster.rbd("import", "--no-progress", file.name, f"{POOL}/{name}")
        return f"{VMS}/{name}"

    def contents(self, name: str) -> bytes:
        """What Ceph's own tool reads of an image, or of a snapshot (`NAME@SNAP`)."""
        return exported(self.cluster, f"{POOL}/{name}")

    def names(self) -> list[str]:
        """The pool's images, as Ceph has them."""
        found: list[str] = self.cluster.json("rbd", "ls", POOL)
        return sorted(found)

    def snapshots(self, name: str) -> list[str]:
        """Those of an image, as Ceph has them."""
        found: list[dict[str, Any]] = self.cluster.json("rbd", "snap", "ls", f"{POOL}/{name}")
        return sorted(each["name"] for each in found)

    def marks(self, name: str) -> dict[str, str]:
        """The metadata of an image that are not its configuration."""
        found = self.cluster.json("rbd", "image-meta", "ls", f"{POOL}/{name}") or {}
        return {key: value for key, value in found.items() if not key.startswith("conf_")}


def exported(cluster: Cluster, image: str) -> bytes:
    with tempfile.TemporaryDirectory(dir=cluster.directory) as directory:
        path = Path(directory) / "image"
        cluster.rbd("export", "--no-progress", image, path)
        return path.read_bytes()


@contextmanager
def on(cluster: Cluster, directory: Path, *tables: str) -> Iterator[Place]:
    """A place in a new directory within `directory`. `tables`: of the configuration, in place of
    the pool's as the user `vms` has it."""
    root = Path(tempfile.mkdtemp(dir=directory)) / "images"
    root.mkdir(mode=0o700)
    config = root.with_name("config.toml")
    kept = f'[[directory]]\npath = "{root}"\naccess = "write"\nvolatile = true\n'
    config.write_text(kept + "".join(tables or [cluster.user().table()]))
    config.chmod(0o600)
    yield Place(cluster, root, config)
    shutil.rmtree(root.parent)


def noise(size: int, seed: int) -> bytes:
    """Bytes that nothing compresses, the same each time."""
    return random.Random(seed).randbytes(size)


def agent_of_another_host(config: Path) -> str:
    """A value for VIRTSTORE_AGENT: an agent that has no lock in common with others. Needs root."""
    own = [sys.executable, "-P", "-m", "virtstore.agent", "--config", str(config)]
    return shlex.join(["unshare", "-m", "sh", "-c", _ALONE, "sh", *own])
