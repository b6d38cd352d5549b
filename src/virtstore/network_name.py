"""What programs call an image that they reach over the network, and by no path of a host."""

from __future__ import annotations

import ipaddress
from contextlib import suppress

import msgspec


class NetworkName(msgspec.Struct, frozen=True):
    """`protocol`: `rbd`. `name`: `POOL/IMAGE`, with a namespace `POOL/NAMESPACE/IMAGE`, of a
    snapshot with `@SNAPSHOT`. `hosts`: names and addresses of those who are asked for it; empty
    where that is not known."""

    protocol: str
    name: str
    hosts: frozenset[str] = frozenset()

    def may_be(self, other: NetworkName) -> bool:
        """Whether both may name one image. They do not where each is asked for at addresses, and
        these have none in common. Whose address a host's name is, nobody knows here."""
        if (self.protocol, self.name) != (other.protocol, other.name):
            return False
        ours, theirs = _addresses(self.hosts), _addresses(other.hosts)
        return ours is None or theirs is None or bool(ours & theirs)


def _addresses(hosts: frozenset[str]) -> frozenset[str] | None:
    """The addresses in one spelling; None where there is none, or a name among them."""
    with suppress(ValueError):
        return frozenset(str(ipaddress.ip_address(each)) for each in hosts) or None
    return None
