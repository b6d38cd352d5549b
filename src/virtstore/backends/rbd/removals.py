"""Removals of images that were begun: what `rbd rm` leaves in a pool's trash if it is cut short.

`rbd rm` makes an entry in the trash, takes the image's name away, removes contents and header, and
then the entry. As long as that is there, `rbd ls` lists the name, and `rbd ls -l` cannot open it.
`rbd trash ls` shows no such entries, only those of `rbd trash mv`, which are somebody's. So the
object that has all of them is read.

An image is removed once it cannot be opened by its name, and whoever comes next finishes that: by
the image's id where Ceph does so, since another image may have the name by then.

Sources: librbd's Trash, Image and RemoveRequest; cls_rbd's TrashImageSpec; rados(8). Host tools
needed: rados.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from virtstore.backends.rbd.cluster import Cluster

_TRASH: Final = "rbd_trash"
#: Of `rados listomapvals`: a key, and its value in lines of an offset, 16 bytes, and these as text.
_ENTRY: Final = re.compile(rb"^id_(\w+)\nvalue \(\d+ bytes\) :\n((?:[0-9a-f]{8}  .*\n)+)", re.M)
_BYTES: Final = slice(8, 59)
#: Where an entry says who made it, and the number of `rbd rm`. The name follows; at the end is the
#: state, and the number of an entry of which the image still has its name, or some of it.
_SOURCE: Final = 6
_REMOVING: Final = 3
_MOVING: Final = 1


class Removal(NamedTuple):
    """An image that somebody removes, or began to: its id, and the name that it had. `has_name`:
    that may not be taken away everywhere, and Ceph goes on by this name only."""

    id: str
    name: str
    has_name: bool


def begun(cluster: Cluster) -> tuple[Removal, ...]:
    """The removals that have not ended."""
    return tuple(entries(cluster.objects("listomapvals", _TRASH).stdout))


def is_watched(cluster: Cluster, removal: Removal) -> bool:
    """Whether somebody is at it, or was until half a minute ago."""
    return bool(cluster.objects("listwatchers", f"rbd_header.{removal.id}").stdout.strip())


def entries(said: bytes) -> Iterator[Removal]:
    """The removals that `rados listomapvals` shows."""
    for id, lines in _ENTRY.findall(said):
        hex = "".join(line[_BYTES].decode("ascii") for line in lines.splitlines())
        entry = bytes.fromhex(hex)
        if entry[_SOURCE] == _REMOVING:
            start = _SOURCE + 5
            length = int.from_bytes(entry[_SOURCE + 1 : start], "little")
            name = entry[start : start + length].decode("utf-8", "replace")
            yield Removal(id.decode(), name, entry[-1] == _MOVING)
