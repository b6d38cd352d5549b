"""libvirt's pools that virtstore may not touch, because no root has them.

libvirt itself is not asked: it keeps a file for each pool. Source: libvirt's "Storage pool and
volume XML format".
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from virtstore.agent import hints
from virtstore.agent.policy import Policy
from virtstore.findings import note, ok
from virtstore.location import plain_path
from virtstore.model import Finding

POOLS: Final = "/etc/libvirt/storage"
#: Where libvirt puts images if nobody says otherwise.
DEFAULT: Final = "/var/lib/libvirt/images"


def pools(policy: Policy) -> Iterator[Finding]:
    if policy.is_restricted:
        return
    found = dict(_pools())
    for path, name in found.items():
        if not _covered(policy, path):
            yield note(
                f"libvirt's pool {name} ({path}) lies in no root, so virtstore does not manage it",
                _remedy(path, policy.config.file_to_write),
            )
        else:
            yield ok(f"libvirt's pool {name} ({path}) lies in a root")


def _pools() -> Iterator[tuple[str, str]]:
    """The path of each pool of files or volumes, and its name."""
    with suppress(OSError):
        if os.listdir(DEFAULT):
            yield DEFAULT, "default"
    with suppress(OSError):
        for file in sorted(Path(POOLS).glob("*.xml")):
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
