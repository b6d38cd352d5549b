"""The first configuration of a host, from what a user says it may be used for."""

from __future__ import annotations

import json
import posixpath
import tomllib
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from virtstore.errors import UsageError

_LEVELS: Final = ("read", "append", "write")


class Wanted(NamedTuple):
    """A root: the configuration's table, the path of a directory or the name of a volume group,
    and what may be done there."""

    section: str
    name: str
    access: str

    @property
    def text(self) -> str:
        key = "path" if self.section == "directory" else "name"
        name = json.dumps(self.name, ensure_ascii=False).replace("\x7f", "\\u007f")
        return f'[[{self.section}]]\n{key} = {name}\naccess = "{self.access}"\n'


def wanted(directories: Iterable[str], volume_groups: Iterable[str]) -> tuple[Wanted, ...]:
    """The roots that are written `PATH[:ACCESS]` and `VG[:ACCESS]`. Raises `UsageError`."""
    found = [_directory(text) for text in directories] + [_group(text) for text in volume_groups]
    for number, root in enumerate(found):
        if any(root[:2] == other[:2] for other in found[:number]):
            raise UsageError(f"{root.name} is named twice")
    return tuple(found)


def _directory(text: str) -> Wanted:
    path, access = _split(text, "PATH")
    if not path.startswith("/"):
        raise UsageError(f"{path!r} is no whole path; write one that begins with /")
    return Wanted("directory", posixpath.normpath(path), access)


def _group(text: str) -> Wanted:
    name, access = _split(text, "VG")
    name = name.removeprefix("/dev/")
    if not name or "/" in name:
        raise UsageError(f"{name!r} is no volume group's name")
    return Wanted("volume_group", name, access)


def _split(text: str, what: str) -> tuple[str, str]:
    if not text.isprintable():
        raise UsageError(f"{text!r} has what cannot be printed in it")
    name, colon, access = text.rpartition(":")
    if not colon:
        return text, "write"
    if access not in _LEVELS:
        raise UsageError(
            f"{text!r}: {access!r} is no access; it is one of {', '.join(_LEVELS)}"
            f" ({what}:ACCESS, also where there is a colon in {what})"
        )
    return name, access


def text_of(roots: Sequence[Wanted]) -> str:
    """The lines of a configuration that allow these."""
    text = "\n".join(root.text for root in roots)
    tomllib.loads(text)
    return text


def not_allowed_yet(roots: Iterable[Wanted], there: Iterable[Sequence[str]]) -> tuple[Wanted, ...]:
    """Those of the roots that are not among the tables of a configuration."""
    known = {tuple(table) for table in there}
    return tuple(root for root in roots if tuple(root) not in known)
