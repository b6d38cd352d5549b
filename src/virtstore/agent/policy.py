"""What a session may touch: an untrusted path becomes an opened place, or an error.

Which paths lie in a root, and how they are reached so that a path that was allowed cannot be made
to mean something else later, each kind of root knows (backends/kinds.py). What a session keeps
open of a root is opened once, when it is first needed. Nothing else in the agent takes a path from
a client; nothing here does anything to an image.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple, NoReturn

from virtstore import programs
from virtstore.agent import hints
from virtstore.agent.config import Config
from virtstore.backends.base import Elsewhere, Store
from virtstore.backends.kinds import RESERVED_SUFFIXES, Root
from virtstore.errors import Denied, Exists, NotFound, no_image_but
from virtstore.location import canonical, plain_path, unclear, within
from virtstore.model import Access
from virtstore.units import format_apart

#: What an access includes: all that a lower one does.
LEVELS: Final[dict[Access, int]] = {"read": 0, "append": 1, "write": 2}
#: So many roots are named to somebody who asks for what is in none.
_SHOWN: Final = 8


class Place(NamedTuple):
    """An allowed name in an opened store; `path` is for people and JSON, `lock` the
    descriptor of its lock, once held, for a tool to inherit."""

    store: Store
    name: str
    path: str
    lock: int = -1


class Policy:
    """A configuration, narrowed by the agent's own command line. Raises `Denied` for a restriction
    that does not say clearly to what."""

    def __init__(
        self, configuration: Config, restrict_to: Iterable[str] = (), access: Access = "write"
    ) -> None:
        self.config = configuration
        self._restrict_to = tuple(_restriction(path) for path in restrict_to)
        self._access = access
        self._anchors: dict[str, int] = {}
        weakref.finalize(self, _close_all, self._anchors)

    def roots(self) -> Iterator[tuple[Root, Access]]:
        """The roots that this session can see, cut to what it may see of each, and its access
        there."""
        for root in self.config.roots:
            access, path = self._narrowed(root.access), plain_path(root.path)
            parts = [root]
            if self._restrict_to and not any(within(path, r) for r in self._restrict_to):
                parts = [root.part(r) for r in self._restrict_to if self._lies_in(r, root)]
            for part in dict.fromkeys(parts):
                yield part, access

    @property
    def leaves_nothing(self) -> bool:
        """Whether `--restrict-to` names nothing that lies in a root."""
        return bool(self._restrict_to) and not any(self.roots())

    @property
    def is_restricted(self) -> bool:
        """Whether this session may see only a part of what is configured."""
        return bool(self._restrict_to)

    @property
    def restricted(self) -> str:
        """The sentence that `--restrict-to` narrows this session, and whether it leaves
        anything."""
        told = f"this connection is restricted to {', '.join(self._restrict_to)}"
        return told + (f", and the configuration {hints.NOTHING}" if self.leaves_nothing else "")

    @property
    def how_to_allow(self) -> str:
        """What is to be done where the configuration allows nothing of that."""
        return hints.to_allow(self._restrict_to, self._access, self.config.file_to_write)

    @contextmanager
    def image(self, path: str, need: Access) -> Iterator[Place]:
        """The place of an image, which need not exist; its directory must."""
        root, inside = self._allowed(path, need)
        parent, _, name = inside.rpartition("/")
        if not name:
            with self._open(root, "") as store:
                store.free()  # where it is missing, that is said
                raise no_image_but(root.what, path=canonical(path))
        if path.endswith("/"):
            with self._open(root, inside):  # which raises what is there instead
                raise no_image_but("a directory", path=canonical(path))
        with self._open(root, parent, name) as store:
            yield Place(store, name, canonical(path))

    @contextmanager
    def store(self, path: str, need: Access) -> Iterator[Store]:
        """An existing directory or volume group, opened."""
        root, inside = self._allowed(path, need, directory=True)
        with self._open(root, inside) as store:
            yield store

    @contextmanager
    def opened(self, shown: Root) -> Iterator[Store]:
        """A root that `roots` gave, opened as far as the session may see it."""
        root, inside = self._found(plain_path(shown.path)) or (shown, "")
        parent, _, name = inside.rpartition("/") if root.is_image else (inside, "", "")
        with self._open(root, parent, name) as store:
            yield store

    def is_store(self, path: str) -> bool:
        """Whether `path` is an existing directory, or a VG, that this session may see; or is
        written as one (with a `/`) where nobody makes directories."""
        found = self._found(canonical(path))
        if path.endswith("/") and found and found[0].makes_directories:
            return True
        with suppress(NotFound), self.store(path, "read"):
            return True
        return False

    def makes_directories(self, path: str) -> bool:
        """Whether a directory there, which must be allowed, comes with the first image in it."""
        return self._allowed(path, "read", directory=True)[0].makes_directories

    def require(self, path: str, need: Access, *, directory: bool = False) -> None:
        """Raises `Denied` unless `need` is allowed at `path`, which is a `directory` or VG if it
        is not an image."""
        self._allowed(path, need, directory=directory)

    def refuse_root(self, path: str) -> None:
        """Raises `Exists` for a configured directory or VG, which is no place for an image."""
        root, inside = self._allowed(path, "append")
        if not inside:
            with self._open(root, "") as store:
                store.free()
                raise Exists(
                    f"it is {root.what} that is there already; name the image as well:"
                    f" {canonical(path)}/NAME",
                    path=canonical(path),
                )

    def address(self, path: str) -> str:
        """The path by which an image is told, whatever it was called; it need not be allowed."""
        found = self._found(canonical(path)) or self._found(plain_path(path))
        return found[0].address(found[1]) if found else canonical(path)

    def check_size(self, size: int) -> None:
        """Raises `Denied` for an image larger than the host's configuration allows."""
        largest = self.config.limits.largest
        if largest is not None and size > largest:
            asked, allowed = format_apart(size, largest)
            raise Denied(
                f"{asked} is more than this host allows for an image"
                f" (max_image_size = {allowed} under [limits])"
            )

    @property
    def may_mount(self) -> bool:
        """Whether a guest's file system may be mounted in this host's kernel."""
        return self.config.limits.mount_guest_filesystems

    def require_mounting(self, kind: str) -> None:
        """Raises `Denied` where a file system may not be mounted."""
        if not self.may_mount:
            raise Denied(
                f"{kind} can only be resized while it is mounted in this host's kernel, which reads"
                " what a guest wrote. To allow that, its administrator writes to"
                f" {self.config.file_to_write} (where there is a [limits], the second line only, in"
                " place of one that says false):"
                f"\n\n{hints.MOUNTING}"
            )

    def may(self, path: str, need: Access) -> bool:
        """Whether `need` is allowed at `path`, which is itself allowed."""
        with suppress(Denied):
            self._allowed(path, need)
            return True
        return False

    def _narrowed(self, access: Access) -> Access:
        return min(access, self._access, key=LEVELS.__getitem__)

    def _allowed(self, path: str, need: Access, *, directory: bool = False) -> tuple[Root, str]:
        """The root of a path, and the path below it. `directory`: it names one, or a VG."""
        refuse_odd(path)
        wanted = canonical(path)
        found = self._found(wanted) or self._found(plain_path(path))
        names = (wanted, found[0].address(found[1])) if found else (wanted,)
        if self._restrict_to and not any(within(n, r) for n in names for r in self._restrict_to):
            self._refuse_restricted(wanted, need)
        if found is None:
            self._refuse_unconfigured(wanted, need, directory or path.endswith("/"))
        root, inside = found
        if LEVELS[need] > LEVELS[self._narrowed(root.access)]:
            self._refuse_access(root, wanted, need)
        return root, inside

    def _found(self, path: str) -> tuple[Root, str] | None:
        """The innermost root that a path lies in, and what the path names there."""
        found = [(r, inside) for r in self.config.roots if (inside := r.below(path)) is not None]
        return max(found, key=lambda each: len(plain_path(each[0].path)), default=None)

    def _lies_in(self, path: str, root: Root) -> bool:
        found = self._found(path)
        return found is not None and found[0] is root

    def _refuse_restricted(self, path: str, need: Access) -> NoReturn:
        """What the configuration has at `path` is not told: that may lie elsewhere."""
        more = f". {self.how_to_allow}" if self.leaves_nothing else ""
        raise Denied(f"{self.restricted}{self._besides(need)}{more}", path=path)

    def _besides(self, need: Access) -> str:
        """That `--access` is too narrow as well: who mends the rest only would be refused again."""
        narrow = LEVELS[need] > LEVELS[self._access]
        return f"; besides, {self._started}, and {hints.needs(need)}" if narrow else ""

    @property
    def _started(self) -> str:
        return f"this connection was started with --access {self._access}"

    def _refuse_unconfigured(self, path: str, need: Access, directory: bool) -> NoReturn:
        if self.leaves_nothing:
            self._refuse_restricted(path, need)
        read = " and ".join(self.config.sources) or "no configuration was found"
        read += f"; {self.config.ignored}" if self.config.ignored else ""
        refused = f"this host's configuration ({read}) allows nothing here{self._allowances()}"
        refused += self._besides(need)
        tree = path if directory else os.path.dirname(path)
        root = hints.root_to_write(path, tree, need)
        if isinstance(root, str):
            raise Denied(f"{refused}. {root}", path=path)
        raise Denied(
            f"{refused}. To allow it, its administrator writes to {self.config.file_to_write}:"
            f"\n\n{root.lines()}",
            path=path,
        )

    def _allowances(self) -> str:
        """What this session may see instead, where somebody mistook its name."""
        seen = [f"{root.path} ({access})" for root, access in self.roots()]
        more = [f"{len(seen) - _SHOWN} more"] if len(seen) > _SHOWN else []
        return f"; what it allows is {', '.join(seen[:_SHOWN] + more)}" if seen else ""

    def _refuse_access(self, root: Root, path: str, need: Access) -> NoReturn:
        configured = f'the configuration has access = "{root.access}" for {root.path}'
        said = ((root.access, configured), (self._access, self._started))
        narrow = [how for access, how in said if LEVELS[need] > LEVELS[access]]
        raise Denied(f"{', and '.join(narrow)}; {hints.needs(need)}", path=path)

    @contextmanager
    def _open(self, root: Root, inside: str, name: str = "") -> Iterator[Store]:
        store = root.open(self._anchor(root), inside, name)
        store.elsewhere = Elsewhere(root.address(inside), self._read)
        try:
            yield store
        finally:
            store.close()

    @contextmanager
    def _read(self, path: str) -> Iterator[tuple[Store, str]]:
        with self.image(path, "read") as place:
            yield place.store, place.name

    def _anchor(self, root: Root) -> int:
        if root.path not in self._anchors:
            for tool in root.tools:
                programs.require(tool)
            root.refuse_overlap(other for other in self.config.roots if other is not root)
            self._anchors[root.path] = root.anchor(self.config.file_to_write)
        return self._anchors[root.path]


def _restriction(path: str) -> str:
    """What `--restrict-to` names, as it is compared with."""
    if why := unclear(path):
        raise Denied(
            f"this connection may do nothing: its agent was started with --restrict-to {path!r},"
            f" and {why}. Whoever wrote that (the command= of the key, as a rule) has to name an"
            " absolute path"
        )
    return canonical(path)


def _close_all(anchors: dict[str, int]) -> None:
    for fd in anchors.values():
        if fd >= 0:
            os.close(fd)


def refuse_odd(path: str) -> None:
    """Raises `Denied` for what no image or directory of ours may be called."""
    if not path.startswith("/") or "\0" in path or "\n" in path or "\r" in path:
        raise Denied("not an absolute path of one line", path=path)
    parts = path.split("/")
    if ".." in parts:
        raise Denied("a path with '..' is refused; write where it leads", path=path)
    for suffix in RESERVED_SUFFIXES:
        if any(part.endswith(suffix) for part in parts):
            raise Denied(
                f"{suffix} marks what an interrupted operation left; name the image without"
                " it, or remove it with 'virtstore clean'",
                path=path,
            )
