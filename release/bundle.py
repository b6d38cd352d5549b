"""The bundle: virtstore and all that it needs but Python and the host's tools, in one directory.

    python -m release.bundle [--arch amd64|arm64] DIRECTORY

    DIRECTORY/agent    the package, and what the agent imports
    DIRECTORY/client   what only the command line imports
    DIRECTORY/bin      `virtstore` and `virtstore-agent`, which find both beside them

It is started by `/usr/bin/python3 -I -S`: nothing of the system's Python packages, of the user's or
of the environment counts. Native modules are of Python 3.11, which is Debian 12's. They are
stripped of their symbols, and what nothing here imports is left out.

Needs: pip in this environment, `strip` (Debian: binutils; for another architecture than this
machine's, its cross binutils).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from virtstore.client.bundle import LAUNCHERS, OF_THE_AGENT, is_unused

ROOT: Final = Path(__file__).parents[1]


class Architecture(NamedTuple):
    """`wheels`: the platforms whose wheels pip takes; `strip`: the program for its files."""

    wheels: tuple[str, ...]
    strip: str


def _architecture(machine: str) -> Architecture:
    newest = tuple(
        f"manylinux_2_{minor}_{machine}" for minor in (36, 35, 34, 31, 28, 27, 26, 24, 17)
    )
    strip = "strip" if os.uname().machine == machine else f"{machine}-linux-gnu-strip"
    return Architecture((*newest, f"manylinux2014_{machine}"), strip)


#: By Debian's names.
ARCHITECTURES: Final = {"amd64": "x86_64", "arm64": "aarch64"}


def make(target: Path, arch: str) -> None:
    """Make the bundle in `target`, which is replaced once it is whole."""
    how = _architecture(ARCHITECTURES[arch])
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        everything, new = Path(work, "all"), Path(work, "new")
        _install(everything, Path(work, "wheels"), how)
        _prune(everything)
        _strip(everything, how.strip)
        _divide(everything, new)
        _launchers(new / "bin")
        new.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        new.rename(target)


def _install(target: Path, wheels: Path, how: Architecture) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", wheels, ROOT], check=True)
    [own] = wheels.glob("virtstore-*.whl")
    platforms = [word for each in how.wheels for word in ("--platform", each)]
    python = ["--python-version", "311", "--implementation", "cp", "--only-binary", ":all:"]
    subprocess.run(
        [*pip, "install", "--no-compile", "--target", target, *platforms, *python, own], check=True
    )


def _prune(tree: Path) -> None:
    for path in [*tree.rglob("*")]:
        if path.is_file() and is_unused(str(path.relative_to(tree))):
            path.unlink()
    for directory in sorted(tree.rglob("*"), reverse=True):  # what is in one comes before it
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()


def _strip(tree: Path, strip: str) -> None:
    libraries = sorted(tree.rglob("*.so*"))
    subprocess.run([strip, "--strip-unneeded", *libraries], check=True)


def _divide(everything: Path, target: Path) -> None:
    """Move what the agent imports to `agent`, and the rest to `client`."""
    for side in ("agent", "client"):
        (target / side).mkdir(parents=True)
    for facts in sorted(everything.glob("*.dist-info")):
        name = facts.name.partition("-")[0].lower()
        side = "agent" if name in {*OF_THE_AGENT, "virtstore"} else "client"
        for path in [*_tops(facts), facts]:
            if path.exists():
                path.rename(target / side / path.name)
    left = [path.name for path in everything.iterdir()]
    if left:
        raise SystemExit(f"no distribution says that it has these: {', '.join(left)}")


def _tops(facts: Path) -> Iterator[Path]:
    """The files and directories that a distribution has installed, by its RECORD."""
    lines = (facts / "RECORD").read_text().splitlines()
    for top in sorted({line.partition("/")[0].partition(",")[0] for line in lines}):
        if top not in ("..", facts.name):
            yield facts.parent / top


def _launchers(directory: Path) -> None:
    directory.mkdir()
    for name, text in LAUNCHERS.items():
        path = directory / name
        path.write_text(text)
        path.chmod(0o755)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", choices=tuple(ARCHITECTURES), default=own_architecture())
    parser.add_argument("directory", type=Path)
    arguments = parser.parse_args()
    make(arguments.directory, arguments.arch)
    print(arguments.directory)


def own_architecture() -> str:
    return next(a for a, machine in ARCHITECTURES.items() if machine == os.uname().machine)


if __name__ == "__main__":
    main()
