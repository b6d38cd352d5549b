"""What a kind of place is to the rest of virtstore: its table in the configuration, as a value.

A `Root` is one such table: one place that the host's administrator allowed. It says which paths
lie in it, opens the store that holds them, and describes itself for `storage-info`. Adding a kind
is a file with a subclass and its store, and a line in kinds.py; nobody asks which kind a root is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import ClassVar, Self

import msgspec

from virtstore.backends.base import Store
from virtstore.findings import ok
from virtstore.location import plain_path, within
from virtstore.model import Access, EntryType, Finding, RootInfo


class WrongValue(Exception):
    """The value of `key` in a table of the configuration makes no sense, and `message` says why."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key, self.message = key, message


class Root(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """One table of the configuration. Its fields are the table's keys; what is to be made of a
    text (a number, a user) is made of it once (`cached_property`), and by `check` at the latest.

    `section`: what the table is called. `listed`: its type in a listing. `what`: what it is, in a
    sentence. `spelled`: what a path of one of its images looks like. `tools`: the programs of the
    host without which nothing in it can be reached. `is_image`: it holds no images, but is one.
    `makes_directories`: a directory in it is there with the first image in it."""

    section: ClassVar[str]
    listed: ClassVar[EntryType]
    what: ClassVar[str]
    spelled: ClassVar[str]
    tools: ClassVar[tuple[str, ...]] = ()
    is_image: ClassVar[bool] = False
    makes_directories: ClassVar[bool] = False

    @property
    def path(self) -> str:
        """The path of the place, as it was configured."""
        raise NotImplementedError

    @property
    def access(self) -> Access:
        raise NotImplementedError

    @classmethod
    def claims(cls, path: str, tree: str, access: Access) -> Self | None:
        """The root that would allow `path`, which lies in `tree` (or is that); None where no path
        of this kind looks so."""
        raise NotImplementedError

    def unfit(self) -> str | None:
        """Why there can be no such root, as far as its path tells; None where there can."""
        return None

    def how_to_make(self) -> str:
        """The command that makes the place; "" where it is there, or where no command can tell."""
        return ""

    def check(self) -> None:
        """Raises `WrongValue` where a value in the table makes no sense."""

    def below(self, path: str) -> str | None:
        """What a canonical path names in this place: the path below it, "" for the place itself;
        None for a path that lies elsewhere."""
        here = plain_path(self.path)
        return path.removeprefix(here).strip("/") if within(path, here) else None

    def address(self, inside: str) -> str:
        """The path that is shown for what `below` gave."""
        return plain_path(f"{self.path}/{inside}")

    def part(self, path: str) -> Self:
        """The part of the place that a session may see which is restricted to `path`, a path in
        it."""
        return self

    def anchor(self, file: str) -> int:
        """A descriptor that a session keeps, from which everything in this place is reached; -1
        where nothing of the kind is needed. Raises `NotFound`, and `Denied` where the place may be
        no root; `file` is where an administrator would mend that."""
        return -1

    def refuse_overlap(self, others: Iterable[Root]) -> None:
        """Raises `Denied` where another root has bytes of this one by another name: lock and access
        of the one would not count for the other."""

    def open(self, anchor: int, inside: str, name: str = "") -> Store:
        """The store that holds what lies directly below `inside`, of which `name` is wanted; all of
        it where that is empty. Raises `NotFound`."""
        raise NotImplementedError

    def describe(self, store: Store, access: Access) -> tuple[RootInfo, str]:
        """What `storage-info` tells of the place, of which `store` was opened, and what the place
        lacks ("": nothing)."""
        raise NotImplementedError

    def examine(self, store: Store, access: Access) -> Iterator[Finding]:
        """What could go wrong in the place, of which `store` was opened: for `doctor`."""
        yield ok(f"{self.path}: {self.what} that can be used (access {access})")

    def lines(self) -> str:
        """The lines of configuration that make this root, of which its first key is the name."""
        name, *_ = self.__struct_fields__
        said = f"{name} = {_quoted(getattr(self, name))}"
        return f'[[{self.section}]]\n{said}\naccess = "{self.access}"\n'


def _quoted(text: str) -> str:
    """A TOML string: JSON's escapes are all TOML's too, which has one more."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
