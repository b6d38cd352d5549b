"""`hosts.toml`: how the agents of some hosts are reached.

It is read before ssh is started, so it is checked by hand: what checks messages takes longer
to import than all of this.
"""

from __future__ import annotations

import json
import os
import tempfile
import tomllib
from typing import Any, NamedTuple

from virtstore.errors import UsageError, from_os_error


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
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError, _Odd) as error:  # ValueError: no TOML, no UTF-8
        raise UsageError(f"{file} cannot be used: {error}") from None


def lines(name: str, agent: str) -> str:
    """What says how the agent of a host is started."""
    quoted = json.dumps(name, ensure_ascii=False)
    return f"[hosts.{quoted}]\nagent = {json.dumps(agent)}\n"


def remember(file: str, name: str, agent: str) -> bool:
    """Have `file` say how the agent of a host is started. Returns whether it did not yet. Raises
    `UsageError` where it has an entry of that host that says otherwise."""
    entry = read(file).get(name) if os.path.exists(file) else None
    if entry and entry.agent == agent:
        return False
    if entry:
        raise UsageError(
            f"{file} has an entry of {name} already; write into that: agent = {json.dumps(agent)}"
        )
    try:
        _add(os.path.realpath(file), lines(name, agent))
    except OSError as error:
        raise from_os_error(error, path=file) from None
    return True


def _add(file: str, text: str) -> None:
    os.makedirs(os.path.dirname(file), exist_ok=True)
    before = ""
    if os.path.exists(file):
        with open(file, encoding="utf-8") as stream:
            before = stream.read().rstrip("\n") + "\n\n"
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=os.path.dirname(file), delete=False
    ) as new:
        new.write(before + text)
        new.flush()
        os.fchmod(new.fileno(), os.stat(file).st_mode & 0o777 if before else 0o644)
        os.fsync(new.fileno())
    os.replace(new.name, file)


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
