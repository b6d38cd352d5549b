"""What there is on this host that matters to an installation. It changes nothing."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import sys
import tomllib
from contextlib import suppress
from glob import glob
from typing import Any, Final

from virtstore.bare_host.places import (
    COMMANDS,
    Places,
    digest_in_use,
    digests,
    is_linked,
    left_over,
)

#: Where the Debian package has its bundle.
_PACKAGED: Final = "/usr/lib/virtstore/bin/virtstore-agent"
_SBIN: Final = "/usr/local/sbin:/usr/sbin:/sbin"

_VERSION: Final = re.compile(r'^__version__ = "([\w.+-]{1,40})"', re.MULTILINE)


def survey(
    places: Places, scope: str, searched: str, tools: list[str], directories: list[str]
) -> dict[str, object]:
    """The facts, as `Facts` of the client has them. `searched`: the PATH of a session there.
    `tools`, `directories`: those that are asked about."""
    foreign = [
        path
        for name in COMMANDS
        if os.path.lexists(path := places.command(name)) and not is_linked(places, name)
    ]
    path = f"{searched}:{_SBIN}"
    return {
        "scope": scope,
        "user": pwd.getpwuid(os.geteuid()).pw_name,
        "python": list(sys.version_info[:2]),
        "machine": os.uname().machine,
        "library": places.library,
        "commands": places.commands,
        "digest": digest_in_use(places),
        "digests": digests(places),
        "version": _version(places),
        "linked": all(is_linked(places, name) for name in COMMANDS),
        "left_over": bool(left_over(places.library) + left_over(places.commands)),
        "foreign": foreign,
        "packaged": os.path.exists(_PACKAGED),
        "searched": places.commands in searched.split(":"),
        "configuration": places.configuration,
        "configured": _configured(places),
        "missing_tools": [tool for tool in tools if shutil.which(tool, path=path) is None],
        "missing_directories": [each for each in directories if not os.path.isdir(each)],
    }


def _version(places: Places) -> str:
    with suppress(OSError), open(f"{places.current}/agent/virtstore/version.py") as stream:
        if found := _VERSION.search(stream.read(1 << 10)):
            return found[1]
    return ""


def _configured(places: Places) -> list[list[str]] | None:
    """The tables of the configuration, each with its path or name and its access; None where
    there is no configuration."""
    files = [places.configuration] if os.path.lexists(places.configuration) else []
    files += sorted(glob(f"{places.more}/*.toml")) if places.more else []
    tables = [table for file in files for table in _tables(file)]
    return tables if files else None


def _tables(file: str) -> list[list[str]]:
    said: dict[str, Any] = {}
    with suppress(OSError, ValueError, RecursionError), open(file, "rb") as stream:
        said = tomllib.load(stream)
    return [
        [section, str(table.get("path", table.get("name"))), str(table.get("access", ""))]
        for section, tables in said.items()
        if isinstance(tables, list)
        for table in tables
        if isinstance(table, dict)
    ]
