"""The names of hosts that a user may mean: those of hosts.toml, of ssh's configuration, and of
the files in which ssh keeps the keys of hosts that it knows (ssh_config(5), sshd(8))."""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from virtstore.client import hosts_file, ssh
from virtstore.errors import LOCAL_NAME, UsageError

_CONFIGURATIONS: Final = ("~/.ssh/config", "/etc/ssh/ssh_config")
_KNOWN: Final = ("~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts")
#: How deep ssh follows Include.
_DEPTH: Final = 16


def names() -> list[str]:
    """All of them, sorted. Files that cannot be read have none."""
    found: set[str] = set()
    with suppress(UsageError, OSError):
        found |= hosts_file.read(ssh.hosts_file()).keys()
    named = ssh.configuration_file()
    for file in (named,) if named else _CONFIGURATIONS:
        found |= {*_configured(os.path.expanduser(file))}
    for file in _KNOWN:
        found |= {*_known(os.path.expanduser(file))}
    return sorted(name for name in found - {LOCAL_NAME} if re.fullmatch(r"[\w.-]+", name))


def _configured(file: str, depth: int = _DEPTH) -> Iterator[str]:
    for line in _lines(file):
        key, *words = _words(line)
        if key == "host":
            yield from (word for word in words if not re.search(r"[*?!]", word))
        elif key == "include" and depth:
            base = "/etc/ssh" if file.startswith("/etc/") else os.path.expanduser("~/.ssh")
            for pattern in words:
                for each in sorted(glob.glob(os.path.join(base, os.path.expanduser(pattern)))):
                    yield from _configured(each, depth - 1)


def _words(line: str) -> list[str]:
    """The key of a line, in small letters, and its values."""
    key, _, values = re.sub(r"^\s*(\w+)\s*=?\s*", r"\1 ", line).partition(" ")
    with suppress(ValueError):
        return [key.lower(), *shlex.split(values, comments=True)]
    return [""]


def _known(file: str) -> Iterator[str]:
    """The names in a file of keys; hashed ones nobody can read, and markers are no names."""
    for line in _lines(file):
        field = line.split(maxsplit=1)[0] if line.strip() else "#"
        if field[0] in "#@|":
            continue
        for name in field.split(","):
            plain = re.sub(r"^\[(.*)\]:\d+$", r"\1", name)
            if not re.search(r"[*?!:]", plain):
                yield plain


def _lines(file: str) -> list[str]:
    with suppress(OSError), open(file, errors="replace") as stream:
        return stream.read().splitlines()
    return []
