"""libvirt's pools that virtstore may not touch, because no root has them.

libvirt itself is not asked: it keeps a file for each pool. Source: libvirt's "Storage pool and
volume XML format".
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from virtstore.agent import hints
from virtstore.agent.policy import Policy
from virtstore.location import plain_path
from virtstore.text import printable

POOLS: Final = "/etc/libvirt/storage"
#: Where libvirt puts images if nobody says otherwise.
DEFAULT: Final = "/var/lib/libvirt/images"
#: A message has an end; no host has so many.
_MOST: Final = 100


class Pool(NamedTuple):
    """A pool of files or volumes. `remedy`: what to do so that a root has it; "" where one has."""

    name: str
    path: str
    remedy: str


def pools(policy: Policy) -> Iterator[Pool]:
    """libvirt's pools; none for who is restricted to something."""
    if policy.is_restricted:
        return
    for path, name in list(dict(_pools()).items())[:_MOST]:
        remedy = "" if _covered(policy, path) else _remedy(path, policy.config.file_to_write)
        yield Pool(printable(name), path, remedy)


def _pools() -> Iterator[tuple[str, str]]:
    """The path of each pool of files or volumes, and its name."""
    with suppress(OSError):
        if os.listdir(DEFAULT):
            yield DEFAULT, "default"
    with suppress(OSError):
        for file in sorted(Path(POOLS).glob("*.xml")):
            yield from _pool(file)


def _pool(file: Path) -> Iterator[tuple[str, str]]:
    from xml.etree import ElementTree  # only where there is one

    with suppress(OSError, ElementTree.ParseError):
        pool = ElementTree.parse(file).getroot()
        path = pool.findtext("target/path", "").strip()
        if pool.get("type") in ("dir", "fs", "netfs", "logical") and path.startswith("/"):
            yield plain_path(path), pool.findtext("name", "").strip() or file.stem


def _covered(policy: Policy, path: str) -> bool:
    names = {path, os.path.realpath(path)}
    return any(root.below(name) is not None for root in policy.config.roots for name in names)


def _remedy(path: str, file: str) -> str:
    root = hints.root_to_write(f"{path}/x", path, "write")
    if isinstance(root, str):
        return root
    return f"if it should, write to {file}:\n{root.lines().rstrip()}"
