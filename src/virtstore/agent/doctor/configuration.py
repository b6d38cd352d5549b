"""What is configured: whether that is anything, whether each root can be used, and the log."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress

from virtstore.agent import journal
from virtstore.agent.policy import Policy
from virtstore.backends.kinds import Root
from virtstore.errors import Error
from virtstore.findings import note, ok, problem, warning
from virtstore.model import Access, Finding


def anything(policy: Policy) -> Iterator[Finding]:
    if policy.leaves_nothing:
        yield problem(
            policy.restricted,
            "change --restrict-to in the command= of that key where it is mistaken."
            f" {policy.how_to_allow}",
        )
    elif not policy.config.roots:
        ignored = f" ({policy.config.ignored})" if policy.config.ignored else ""
        yield warning(
            f"nothing is configured, so nothing is allowed{ignored}",
            f"write to {policy.config.file_to_write}, with a directory of images:\n[[directory]]\n"
            'path = "/srv/images"\naccess = "write"',
        )
    elif not policy.is_restricted:
        yield ok(f"configured by {' and '.join(policy.config.sources)}")


def roots(policy: Policy) -> Iterator[Finding]:
    for root, access in policy.roots():
        yield from _root(policy, root, access)


def _root(policy: Policy, root: Root, access: Access) -> list[Finding]:
    try:
        if policy.is_restricted and not policy.is_store(root.path):
            return _image(policy, root.path)
        with policy.opened(root) as store:
            store.free()  # where it is missing, that is said
            return list(root.examine(store, access))
    except (Error, OSError) as error:  # one bad root does not hide the others
        told = error.message if isinstance(error, Error) else str(error)
        file = "the configuration" if policy.is_restricted else policy.config.file_to_write
        return [problem(f"{root.path}: {told}", f"mend that, or take it out of {file}")]


def _image(policy: Policy, path: str) -> list[Finding]:
    """Of an image to which a session is restricted."""
    with policy.image(path, "read") as place:
        there = place.store.find(place.name)
    return [ok(f"{path}: an image that can be reached" if there else f"{path} can be made")]


def log(policy: Policy) -> Iterator[Finding]:
    """Whether requests can be written down. Nothing is written for it."""
    where = policy.config.log
    if policy.is_restricted or where == "none":
        return
    if where.startswith("/"):
        why = _unwritable(where)
        if why:
            yield warning(
                f"what is done here is not written down: {where} {why}",
                "mend that, or give log another file in the configuration",
            )
            return
    elif not (where == "journal" and os.path.exists(journal.SOCKET)) and not _has_syslog():
        yield note(
            "what is done here is not written down: no journal and no syslog runs on this host",
            'configure a file, with log = "/var/log/virtstore.log" above all tables, or log ='
            ' "none"',
        )
        return
    yield ok(f"what is done is written to {where}")


def _unwritable(file: str) -> str:
    """Why a file cannot be appended to, as far as can be seen without making it; else ""."""
    with suppress(FileNotFoundError):
        mode = os.lstat(file).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode) and not stat.S_ISCHR(mode):
            return "is no plain file"
        return "" if os.access(file, os.W_OK, effective_ids=True) else "may not be written to"
    parent = os.path.dirname(file)
    if not os.path.isdir(parent):
        return "cannot be made, as there is no such directory"
    return "" if os.access(parent, os.W_OK, effective_ids=True) else "may not be made there"


def _has_syslog() -> bool:
    return os.path.exists("/dev/log")
