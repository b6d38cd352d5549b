"""Puts a bundle on this host, and makes it the one that counts.

Whatever step it is cut off at, the commands lead to the old bundle or to the new one, each
whole: a bundle gets the name of its digest once all of it is on disk and its agent has answered,
and one rename makes it count. The next run removes what is left over.
"""

from __future__ import annotations

import compileall
import ctypes
import hashlib
import io
import lzma
import os
import shutil
import subprocess
import tarfile
from contextlib import suppress
from typing import NamedTuple

from virtstore.bare_host.places import (
    COMMANDS,
    Places,
    Refused,
    digest_in_use,
    digests,
    exclusive,
    is_linked,
    left_over,
    new_name,
    place_link,
    sync_directory,
    write_beside,
)


class Done(NamedTuple):
    """What an installation changed: bundles and commands, and whether it wrote a configuration."""

    changed: bool
    configured: bool


def install(places: Places, digest: str, archive: bytes, configuration: str | None) -> Done:
    """Have the bundle `digest` count here. `archive`: its tar by xz, empty where the bundle is here
    already. `configuration`: the text of a first configuration. Raises `Refused`."""
    with exclusive(places):
        left = [*left_over(places.library), *left_over(places.commands)]
        for path in left:
            _remove(path)
        missing = digest not in digests(places)
        if missing:
            _unpack(places, digest, archive)
        changed = _switch(places, digest) or missing or bool(left)
        configured = configuration is not None and _configure(places, configuration)
        for other in digests(places):
            if other != digest and not running_from(places.tree(other)):
                retire(places.tree(other))
                changed = True
        return Done(changed, configured)


def _unpack(places: Places, digest: str, archive: bytes) -> None:
    tar = _checked(archive, digest)
    new = new_name(places.tree(digest))
    os.mkdir(new, 0o755)
    try:
        with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as opened:
            for member in opened:
                _unpack_member(opened, member, new)
        # Python keeps what it compiles beside a module, where not everybody may write.
        compileall.compile_dir(new, quiet=2, stripdir=new, prependdir=places.tree(digest))
        _try(f"{new}/bin/virtstore-agent")
        _flush(new)
        os.rename(new, places.tree(digest))
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    sync_directory(places.library)


def _checked(archive: bytes, digest: str) -> bytes:
    with suppress(lzma.LZMAError):
        tar = lzma.decompress(archive)
        if hashlib.sha256(tar).hexdigest()[: len(digest)] == digest:
            return tar
    raise Refused("corrupt", "what arrived is not what was sent; try again")


def _unpack_member(opened: tarfile.TarFile, member: tarfile.TarInfo, new: str) -> None:
    """Only plain files, below `new`: nothing else is in a bundle."""
    parts = member.name.split("/")
    data = opened.extractfile(member) if member.isreg() else None
    if data is None or not all(parts) or {".", ".."} & set(parts):
        raise Refused("corrupt", f"a bundle has no {member.name!r}; nothing was installed")
    path = f"{new}/{member.name}"
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    mode = 0o755 if member.mode & 0o100 else 0o644
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with open(fd, "wb") as stream:
        stream.write(data.read())


def _try(agent: str) -> None:
    """Raises `Refused` where the agent cannot run here, such as for another C library."""
    try:
        said = subprocess.run(
            [agent, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=120
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Refused("unsupported", f"its agent does not run there: {error}") from None
    if said.returncode:
        lines = said.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise Refused("unsupported", f"its agent does not run there: {lines[-1]}")


def _flush(tree: str) -> None:
    """Write to disk what is of this tree, and of its whole file system (syncfs(2)): to flush each
    of hundreds of files takes many times as long."""
    fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(fd):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), tree)
    finally:
        os.close(fd)


def _switch(places: Places, digest: str) -> bool:
    """Returns whether anything else counted before."""
    for name in COMMANDS:
        path = places.command(name)
        if os.path.lexists(path) and not is_linked(places, name):
            raise Refused("exists", "something else is called so there; remove it first", path)
    unlinked = [name for name in COMMANDS if not is_linked(places, name)]
    if switched := digest_in_use(places) != digest:
        place_link(places.current, digest)
    for name in unlinked:
        place_link(places.command(name), places.leads_to(name))
    return switched or bool(unlinked)


def _configure(places: Places, text: str) -> bool:
    """Write a first configuration. Returns False where there is one by now."""
    directory = os.path.dirname(places.configuration)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    new = write_beside(places.configuration, text, 0o644)
    try:
        os.link(new, places.configuration)
    except FileExistsError:
        return False
    finally:
        os.unlink(new)
    sync_directory(directory)
    return True


def running_from(tree: str) -> list[int]:
    """The processes that have a file of a bundle mapped, such as an agent its native modules."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{name}/maps", errors="replace") as maps:
            if any(f" {tree}/" in line for line in maps):
                found.append(int(name))
    return found


def retire(tree: str) -> None:
    """Remove a bundle: first its name, so that what is left of it is never taken for whole."""
    os.rename(tree, old := new_name(tree))
    shutil.rmtree(old)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
