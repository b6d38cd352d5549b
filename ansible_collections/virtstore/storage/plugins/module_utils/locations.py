"""Locations, as virtstore takes them: `/path`, `HOST:/path` or `ssh://HOST:PORT/path`.

Only their spelling is known here. What is at them virtstore knows.
"""

from __future__ import annotations

from ansible_collections.virtstore.storage.plugins.module_utils.failure import Failure

_RBD = "/dev/rbd/"


def check(*words: str) -> None:
    """Raises Failure for a word that virtstore would take for an option or for a pipe."""
    for word in words:
        if not word or word.startswith("-"):
            raise Failure("usage", f"{word!r} is no location: write HOST:/path, or /path")


def check_name(name: str) -> None:
    """Raises Failure for what is no name within a directory or volume group."""
    if "/" in name or name in ("", ".", "..") or name.startswith("-"):
        raise Failure("usage", f"{name!r} is no name: a snapshot lies beside its image")


def snapshot_of(location: str, name: str) -> str:
    """Where the snapshot of that name lies: beside its image, or, in an RBD pool, behind an @."""
    if _RBD in location:
        return f"{location}@{name}"
    return f"{location.rstrip('/').rpartition('/')[0]}/{name}"
