"""`hosts.toml`: how the agents of some hosts are reached.

It is read before ssh is started, so it is checked by hand: what checks messages takes longer
to import than all of this.
"""

from __future__ import annotations

import tomllib
from typing import Any, NamedTuple

from virtstore.errors import UsageError


class HostEntry(NamedTuple):
    """One `[hosts.NAME]`."""

    address: str | None = None
    agent: str | None = None


def read(file: str) -> dict[str, HostEntry]:
    """What `file` says, by the hosts' names. Raises `UsageError`."""
    try:
        with open(file, "rb") as stream:
            said = tomllib.load(stream)
        return _entries(said)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, _Odd) as error:
        raise UsageError(f"{file} cannot be used: {error}") from None


class _Odd(Exception):
    """What the file says makes no sense."""


def _entries(said: dict[str, Any]) -> dict[str, HostEntry]:
    hosts = said.pop("hosts", {})
    if said or not isinstance(hosts, dict):
        raise _Odd("it may hold [hosts.NAME] and nothing else")
    for name, entry in hosts.items():
        if not isinstance(entry, dict) or not entry.keys() <= set(HostEntry._fields):
            raise _Odd(
                f"[hosts.{name}] may hold {' and '.join(HostEntry._fields)} and nothing else"
            )
        if not all(isinstance(text, str) for text in entry.values()):
            raise _Odd(f"what [hosts.{name}] holds must be text, in quotes")
    return {name: HostEntry(**entry) for name, entry in hosts.items()}
