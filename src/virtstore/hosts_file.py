"""`hosts.toml`: how the agents of some hosts are reached."""

from __future__ import annotations

import tomllib

import msgspec

from virtstore.errors import UsageError


class HostEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[hosts.NAME]`."""

    address: str | None = None
    agent: str | None = None


class _HostsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    hosts: dict[str, HostEntry] = {}


def read(file: str) -> dict[str, HostEntry]:
    """What `file` says, by the hosts' names. Raises `UsageError`."""
    try:
        with open(file, "rb") as stream:
            return msgspec.convert(tomllib.load(stream), _HostsFile).hosts
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise UsageError(f"{file} cannot be used: {error}") from None
