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
    """The entries of `file`, by the hosts' names. Raises `UsageError`."""
    try:
        with open(file, "rb") as stream:
            said = tomllib.load(stream)
        return _entries(said)
    except (OSError, ValueError, RecursionError, _Odd) as error:  # ValueError: no TOML, no UTF-8
        raise UsageError(f"{file} cannot be used: {error}") from None


class _Odd(Exception):
    """An entry of the file that makes no sense."""


def _entries(said: dict[str, Any]) -> dict[str, HostEntry]:
    _refuse_others(said, ("hosts",), "it")
    hosts = said.get("hosts", {})
    if not isinstance(hosts, dict):
        raise _Odd("hosts is no table; write [hosts.NAME]")
    for name, entry in hosts.items():
        if not isinstance(entry, dict):
            raise _Odd(f"hosts.{name} is no table; write [hosts.{name}]")
        _refuse_others(entry, HostEntry._fields, f"[hosts.{name}]")
        for field, text in entry.items():
            if not isinstance(text, str):
                raise _Odd(f"{field} of [hosts.{name}] is no text; write it in quotes")
    return {name: HostEntry(**entry) for name, entry in hosts.items()}


def _refuse_others(table: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    if others := [key for key in table if key not in known]:
        raise _Odd(f"{where} has {others[0]!r}; it may have {' and '.join(known)} only")
