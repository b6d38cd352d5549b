"""An image that is kept each night, and of which 1 % changed since the last: bytes over the wire,
time, and room on XFS, next to those of the first copy; ours, and what people use for it."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from bench import changing, xfs
from bench.commands import AES_B
from bench.inputs import GIB
from bench.model import Contender, Demand, Failed, Result
from bench.place import WIRE, Place
from bench.race import Command, shell, timed

_DISK = "{a}/disk.img"
#: What the next copy is based on.
_BASE = "--base b:{kept}/first.img.zst "
_ROUNDS = 3
_XFS = 12 * GIB
_WHAT = (
    f"{changing.WHAT} Room is what XFS has less of afterwards, and bytes over the wire are those"
    " that ssh sent and received. borg and restic begin with an empty repository, unencrypted where"
    " that can be had (restic always encrypts). What they keep on the client is not counted."
)


@dataclass(frozen=True)
class _Way:
    """One way to keep an image: how it is made ready, the `first` copy, the `next`, and what prints
    the image as the last copy has it."""

    name: str
    programs: tuple[str, ...]
    ready: str
    first: str
    next: str
    read: str


_CIPHER = "-c aes128-gcm@openssh.com"
_BORG = f"BORG_RSH='ssh {_CIPHER}' borg"
_RESTIC = f"restic -q -r sftp:b:{{kept}}/restic -o sftp.command='ssh {_CIPHER} b -s sftp'"
_RSYNC = (
    "rsync --inplace --ignore-times --fsync -z --zc=zstd --zl=1"
    f" -e 'ssh {_CIPHER}' {_DISK} b:{{kept}}/d.img"
)
_OURS = "virtstore copy --archive --json"
_WAYS = (
    _Way(
        "virtstore",
        ("zstd",),
        "true",
        f"{_OURS} {_DISK} b:{{kept}}/first.img.zst",
        f"{_OURS} {_BASE}{_DISK} b:{{kept}}/next.img.zst",
        "zstd -q -dc {kept}/next.img.zst",
    ),
    _Way(
        "borg create",
        ("borg",),
        f"rm -rf $BORG_BASE_DIR && {_BORG} init -e none ssh://b{{kept}}/borg",
        f"{_BORG} create -C zstd,1 ssh://b{{kept}}/borg::first {_DISK}",
        f"{_BORG} create -C zstd,1 ssh://b{{kept}}/borg::next {_DISK}",
        f"{_BORG} extract --stdout ssh://b{{kept}}/borg::next",
    ),
    _Way(
        "restic backup",
        ("restic",),
        f"rm -rf $RESTIC_CACHE_DIR && {_RESTIC} init",
        f"{_RESTIC} backup {_DISK} && {AES_B} sync -f {{kept}}",
        f"{_RESTIC} backup {_DISK} && {AES_B} sync -f {{kept}}",
        f"{_RESTIC} dump latest {_DISK}",
    ),
    _Way(
        "reflink, rsync --inplace",
        ("rsync",),
        "true",
        _RSYNC,
        f"{AES_B} cp --reflink=always {{kept}}/d.img {{kept}}/before.img && {_RSYNC}",
        "cat {kept}/d.img",
    ),
)


def measure_incremental(place: Place, runs: int) -> Result:
    if not xfs.possible():
        raise Failed("it takes root and mkfs.xfs")
    disk = place.path(_DISK)
    try:
        changing.make(place, disk)
        with xfs.mounted(place, "b", _XFS // place.scale) as kept:
            contenders = _measure(_placed(place, kept), min(runs, _ROUNDS))
    finally:
        disk.unlink(missing_ok=True)
    job = "copy an image of which 1 % changed since it was last copied, to another host"
    return Result("incremental", job, contenders, _demands(contenders), (_WHAT,))


def _placed(place: Place, kept: Path) -> Place:
    environment = {
        **place.environment,
        WIRE: str(place.scratch / "wire"),
        "BORG_BASE_DIR": str(place.scratch / "borg"),
        "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        "RESTIC_CACHE_DIR": str(place.scratch / "restic"),
        "RESTIC_PASSWORD": "bench",
    }
    return replace(place, environment=environment, names={**place.names, "kept": str(kept)})


def _measure(place: Place, rounds: int) -> tuple[Contender, ...]:
    """Each way in turns: the next copy of each, then the first of each."""
    made = [_entered(place, way) for way in _WAYS]
    for number in range(rounds):
        made = [
            _once(place, way, *pair, check=number == 0)
            for way, pair in zip(_WAYS, made, strict=True)
        ]
    return tuple(each for pair in zip(*made, strict=True) for each in pair)


def _entered(place: Place, way: _Way) -> tuple[Contender, Contender]:
    trouble = place.trouble(way.programs)
    return (
        Contender(f"{way.name}, 1 % changed", place.shown(way.next), trouble=trouble),
        Contender(f"{way.name}, the first", place.shown(way.first), trouble=trouble),
    )


def _once(
    place: Place, way: _Way, later: Contender, first: Contender, *, check: bool
) -> tuple[Contender, Contender]:
    """The first copy, then the next, on an empty file system with an image as it was."""
    shell("rm -rf {kept}/*")(place)
    changing.write(place, place.path(_DISK), changed=False)
    first = _added(place, first, way.first, ready=way.ready)
    changing.write(place, place.path(_DISK), changed=True)
    read = f"{way.read} | cmp - {_DISK}" if check else "true"
    return _added(place, later, way.next, check=read), first


def _added(
    place: Place, contender: Contender, text: str, *, ready: str = "true", check: str = "true"
) -> Contender:
    """With one more run, and the room that it took."""
    if contender.trouble:
        return contender
    log = Path(place.environment[WIRE])
    try:
        shell(ready)(place)
        before = _used(place)
        log.unlink(missing_ok=True)
        run = timed(place, Command(contender.name, text))
        run = msgspec.structs.replace(run, transferred=_wire(log))
        room = _used(place) - before
        shell(check)(place)
    except Failed as failed:
        return msgspec.structs.replace(contender, trouble=str(failed), runs=())
    return msgspec.structs.replace(contender, runs=(*contender.runs, run), made=room)


def _used(place: Place) -> int:
    shell("sync -f {kept}")(place)
    room = os.statvfs(place.names["kept"])
    return (room.f_blocks - room.f_bfree) * room.f_frsize


def _wire(log: Path) -> int | None:
    """The bytes of all connections, as ssh says at the end of each."""
    told = ""
    with suppress(FileNotFoundError):
        told = log.read_text(errors="replace")
    found = re.findall(r"Transferred: sent (\d+), received (\d+) bytes", told)
    return sum(int(sent) + int(received) for sent, received in found) if found else None


def _demands(contenders: tuple[Contender, ...]) -> tuple[Demand, ...]:
    later, first = contenders[0], contenders[len(_WAYS)]
    return (
        Demand("bytes of a first one", _part(later.transferred, first.transferred), 0.03, False),
        Demand("room of a first one", _part(later.made, first.made), 0.03, False),
    )


def _part(one: float | None, whole: float | None) -> float | None:
    return one / whole if one is not None and whole else None
