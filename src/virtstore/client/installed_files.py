"""The files of a bundle, from what is installed beside the virtstore that runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from virtstore.client.bundle import LAUNCHERS, OF_THE_AGENT, is_unused
from virtstore.errors import Unsupported

#: What says how a distribution came here, which is another story on each machine.
_OF_THIS_MACHINE: Final = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"})


def collect() -> dict[str, bytes]:
    """The files by their names in a bundle. Native modules are stripped where `strip` is there.
    Raises `Unsupported` where it is not known which files are meant."""
    found = {f"bin/{name}": text.encode() for name, text in LAUNCHERS.items()}
    package = Path(__file__).parents[1]
    for path in package.rglob("*"):
        name = f"virtstore/{path.relative_to(package)}"
        if path.is_file() and not is_unused(name):
            found[f"agent/{name}"] = path.read_bytes()
    with tempfile.TemporaryDirectory() as work:
        for each in _needed():
            side = "agent" if _plain(each.name) in OF_THE_AGENT else "client"
            for name, path in _files(each):
                data = _stripped(path, work) if name.endswith(".so") else path.read_bytes()
                found[f"{side}/{name}"] = data
    return found


def _needed() -> list[Distribution]:
    """What virtstore requires, and what that does."""
    found: dict[str, Distribution] = {}
    waiting = [*_requirements(_distribution("virtstore", "virtstore"))]
    while waiting:
        name, by, always = waiting.pop()
        if name in found:
            continue
        try:
            found[name] = _distribution(name, by)
        except Unsupported:
            if always:
                raise
            continue  # it is for another Python
        waiting += _requirements(found[name])
    return [found[name] for name in sorted(found)]


def _distribution(name: str, by: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError:
        raise Unsupported(
            f"{name}, which {by} needs, is not installed as a package of Python here, so no bundle"
            " can be made of it; name one with --bundle ('make bundle' makes one)"
        ) from None


def _requirements(of: Distribution) -> Iterator[tuple[str, str, bool]]:
    """Each with who requires it, and whether that is so on every system."""
    for text in of.requires or ():
        what, _, marker = text.partition(";")
        if "extra" not in marker and (name := re.match(r"[\w.-]+", what)):
            yield _plain(name[0]), of.name, not marker.strip()


def _plain(name: str) -> str:
    """A distribution's name, as its specification compares them."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _files(of: Distribution) -> Iterator[tuple[str, Path]]:
    if of.files is None:
        raise Unsupported(
            f"{of.name} does not say which files are its own here, so no bundle can be made of it;"
            " name one with --bundle ('make bundle' makes one)"
        )
    for each in of.files:
        name = str(each)
        if name.startswith("..") or each.name in _OF_THIS_MACHINE or is_unused(name):
            continue
        yield name, Path(str(each.locate()))


def _stripped(library: Path, work: str) -> bytes:
    """A native module without symbols: these are most of it."""
    if strip := shutil.which("strip"):
        made = os.path.join(work, "stripped")
        done = subprocess.run(
            [strip, "--strip-unneeded", "-o", made, str(library)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
        if done.returncode == 0:
            return Path(made).read_bytes()
    return library.read_bytes()
