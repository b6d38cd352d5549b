"""Places that begin with what somebody has typed: paths here, hosts, and paths on these.

A host is asked by its agent, over a connection that stays for a while. It is never asked for more
than ssh does without a word to the user.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from virtstore.client import host_names, ssh
from virtstore.client.api import Host
from virtstore.errors import LOCAL_NAME, Error
from virtstore.location import LOCAL, HostAddress, parse_host

#: `HOST:` or `ssh://HOST` and a path, which may be empty behind a colon.
_REMOTE: Final = re.compile(
    r"(ssh://[^/]+(?=/)|(?:[^/:\[\]]*@)?(?:\[[^/\]]*\]|[^/:]+):(?!//))(.*)", re.I
)
_HOLDING: Final = ("directory", "volume-group", "rbd-pool", "bucket")


def locations(begun: str) -> Iterator[str]:
    """Locations; those of directories end with a slash, those of hosts as a whole with a colon."""
    remote = _REMOTE.fullmatch(begun)
    if not remote:
        yield from local_paths(begun)
        if "/" not in begun or begun.startswith("ssh://"):
            yield from hosts(begun)
    elif remote[1] == f"{LOCAL_NAME}:":
        yield from (f"local:{path}" for path in local_paths(remote[2]))
    else:
        yield from _on_host(*remote.groups())


def hosts(begun: str) -> Iterator[str]:
    """Hosts as a whole, with the user that was typed."""
    if begun.startswith("ssh://"):
        user = begun.removeprefix("ssh://").rpartition("@")
        yield from (f"ssh://{user[0]}{user[1]}{name}/" for name in host_names.names())
        return
    user = begun.rpartition("@")
    yield from (f"{user[0]}{user[1]}{name}:" for name in host_names.names())
    yield f"{LOCAL_NAME}:"


def local_paths(begun: str) -> Iterator[str]:
    """Paths on this machine, spelled as they were begun."""
    parent, slash, name = begun.rpartition("/")
    with suppress(OSError), os.scandir(os.path.expanduser(parent + slash) or ".") as found:
        for entry in found:
            hidden = entry.name.startswith(".") and not name.startswith(".")
            if entry.name.startswith(name) and not hidden:
                yield f"{parent}{slash}{entry.name}{'/' if entry.is_dir() else ''}"


def _on_host(host: str, path: str) -> Iterator[str]:
    url = "://" in host
    with suppress(Error):
        address = parse_host(host)
        for found in _listed(address, path.replace("%25", "%") if url else path):
            yield host + (found.replace("%", "%25") if url else found)


def _listed(address: HostAddress, path: str) -> list[str]:
    """The paths in the directory on a host that `path` is in; its roots, where it is in none."""
    if address == LOCAL:
        return []
    parent = path.rpartition("/")[0]
    host = Host(address, ssh_options=ssh.options_without_questions(address))
    try:
        entries = host.list(parent or None)
    except Error:
        entries = host.list() if parent else []
    return [f"{e.path}/" if e.type in _HOLDING else e.path for e in entries]
