"""The bundle that is put on a host: virtstore and all it needs but Python and the host's tools.

    agent/    the package, and what the agent imports
    client/   what only the command line imports
    bin/      `virtstore` and `virtstore-agent`, which find both beside them

What runs from a bundle has one: its own tree. Anything else, such as a checkout or what pipx
made, makes one of what is installed beside it. A third may be named.

Its native modules are of one version of Python and one kind of machine; their names say which.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import re
import tarfile
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from virtstore.errors import Error, UsageError, from_os_error

#: Distributions that the agent imports, beside virtstore itself. All others are the client's.
OF_THE_AGENT: Final = frozenset({"blake3", "isal", "lz4", "msgspec", "zstandard"})

#: What nothing of ours imports: another backend, sources, documents in another markup, scripts,
#: types; and what Python compiled.
_UNUSED: Final = (
    "zstandard/_cffi*",
    "isal/isa-l/*",
    "rich_rst*",
    "bin/*",
    "*.pyi",
    "*/py.typed",
    "*.pyx",
    "__pycache__/*",
    "*/__pycache__/*",
)
#: Of pygments' lexers, those that rich imports.
_LEXERS: Final = frozenset({"pygments/lexers/__init__.py", "pygments/lexers/_mapping.py"})

_LAUNCHER: Final = """#!/usr/bin/python3 -IS
import os
import sys

tree = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path[:0] = [os.path.join(tree, "agent"), os.path.join(tree, "client")]
from {module} import main

sys.exit(main())
"""

#: The commands in `bin`, by name.
LAUNCHERS: Final[Mapping[str, str]] = {
    "virtstore": _LAUNCHER.format(module="virtstore.cli.start"),
    "virtstore-agent": _LAUNCHER.format(module="virtstore.agent.__main__"),
}

_NATIVE: Final = re.compile(r"\.cpython-(\d)(\d+)-(\w+)-linux-gnu\.so$")
_VERSION: Final = re.compile(rb'^__version__ = "([\w.+-]{1,40})"', re.MULTILINE)
#: Bytes that no bundle has.
_MOST: Final = 256 << 20
_DIGEST: Final = 32


def is_unused(name: str) -> bool:
    """Whether a bundle does without a file of a distribution. `name`: from its site-packages."""
    if name.startswith("pygments/lexers/"):
        return name not in _LEXERS
    return any(fnmatch(name, pattern) for pattern in _UNUSED)


class Target(NamedTuple):
    """What native modules are made for."""

    python: tuple[int, int]
    machine: str

    def __str__(self) -> str:
        return f"Python {'.'.join(map(str, self.python))} on {self.machine}"


class Bundle(msgspec.Struct, frozen=True, dict=True):
    """The files of a bundle by their names in it."""

    files: dict[str, bytes]

    @cached_property
    def tar(self) -> bytes:
        """The same bytes for the same files."""
        written = io.BytesIO()
        with tarfile.open(fileobj=written, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name in sorted(self.files):
                facts = tarfile.TarInfo(name)
                facts.size = len(self.files[name])
                facts.mode = 0o755 if name.startswith("bin/") else 0o644
                archive.addfile(facts, io.BytesIO(self.files[name]))
        return written.getvalue()

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.tar).hexdigest()[:_DIGEST]

    @cached_property
    def version(self) -> str:
        found = _VERSION.search(self.files.get("agent/virtstore/version.py", b""))
        return found[1].decode() if found else ""

    @cached_property
    def targets(self) -> frozenset[Target]:
        """What its native modules are made for: one, in a bundle that can run."""
        found = filter(None, map(_NATIVE.search, self.files))
        return frozenset(Target((int(m[1]), int(m[2])), m[3]) for m in found)

    def packed(self) -> bytes:
        """The tar, compressed by what every Python can unpack."""
        return lzma.compress(self.tar, preset=3)


def read(path: str) -> Bundle:
    """The bundle in a directory or a tar. Raises `UsageError`."""
    try:
        found = of_directory(path) if os.path.isdir(path) else _of_tar(path)
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise UsageError(f"{path} is no tar of a bundle: {error}") from None
    except OSError as error:
        raise from_os_error(error, path=path) from None
    missing = [f"bin/{name}" for name in LAUNCHERS if f"bin/{name}" not in found.files]
    if missing or not found.version or len(found.targets) != 1:
        raise UsageError(
            f"{path} is no bundle of virtstore; 'make bundle' makes one, with agent, client and bin"
            " in it"
        )
    return found


def of_directory(directory: str) -> Bundle:
    """The bundle in a directory, unchecked."""
    root = Path(directory)
    files = (p for part in ("agent", "client", "bin") for p in root.joinpath(part).rglob("*"))
    named = ((str(path.relative_to(root)), path) for path in files if path.is_file())
    return _bundle((name, path.read_bytes()) for name, path in named)


def _of_tar(path: str) -> Bundle:
    with tarfile.open(path) as archive:
        streams = (
            (_plain(member.name), archive.extractfile(member))
            for member in archive
            if member.isreg()
        )
        return _bundle((name, stream.read()) for name, stream in streams if stream)


def _plain(name: str) -> str:
    """A name in a tar; `tar c DIRECTORY` and `tar c .` put something in front."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if parts and parts[0] not in ("agent", "client", "bin"):
        parts = parts[1:]
    return "/".join(parts)


def _bundle(named: Iterable[tuple[str, bytes]]) -> Bundle:
    files: dict[str, bytes] = {}
    size = 0
    for name, data in named:
        if ".." in name.split("/"):
            raise UsageError(f"a bundle has no {name!r}")
        if "__pycache__" not in name:
            files[name] = data
            size += len(data)
        if size > _MOST:
            raise Error("that is too much for a bundle of virtstore")
    return Bundle(files)
