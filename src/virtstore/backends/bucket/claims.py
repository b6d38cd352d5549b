"""Who is making an archive: an object beside it that says so, `KEY.virtstore-partial`.

An upload in parts is not seen by others until it is whole, and not every server can make the last
step conditional. So whoever wants to make an archive first writes its claim, on the condition that
there is none: of two writers on any two hosts one has it. It is there as long as the upload is, and
so an upload without a claim is another program's, and is left alone.

A claim is abandoned if who wrote it says so, or is a process of this machine that is gone, or has
not written it again for some minutes. By the clock of the server alone, since hosts' clocks differ.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec

from virtstore.backends.base import PARTIAL_SUFFIX, Displaced
from virtstore.backends.bucket.complaints import seconds_of
from virtstore.backends.bucket.objects import Objects
from virtstore.errors import Denied, InUse

#: Seconds after which a claim is written again, and after which one that was not is abandoned.
RENEWED: Final = 60
ABANDONED: Final = 600

_LONGEST: Final = 4096
_TRIES: Final = 5


class Writer(msgspec.Struct, frozen=True):
    """A process, as far as others can tell: `kernel` and `space` say on which machine, and in which
    of its name spaces, the numbers are good."""

    host: str
    kernel: str
    space: str
    process: int
    started: str

    @property
    def is_gone(self) -> bool | None:
        """Whether the process has ended; None where that cannot be seen from here."""
        here = myself()
        if (self.kernel, self.space) != (here.kernel, here.space) or not self.kernel:
            return None
        started = _started(self.process)
        return started != self.started if started else _is_nobody(self.process)


class Claim(msgspec.Struct, frozen=True):
    """`token` is no other claim's; `upload`: the ID of its upload, "" while it has none;
    `released`: who wrote it does no more."""

    token: str
    writer: Writer
    since: str
    upload: str = ""
    released: bool = False


class _Found(NamedTuple):
    """A claim as it lies there; `claim` None: it cannot be read. `age`: seconds, of the server."""

    claim: Claim | None
    etag: str
    age: float

    @property
    def is_abandoned(self) -> bool:
        gone = self.claim.writer.is_gone if self.claim else None
        if self.claim and self.claim.released:
            return True
        return self.age > ABANDONED if gone is None else gone

    @property
    def in_use(self) -> InUse:
        """The error for who wants it as well."""
        who = "somebody"
        if self.claim:
            who = f"a process of {self.claim.writer.host} (since {self.claim.since})"
        return InUse(
            f"{who} is making it; try again when that has ended. If that host is gone, what it left"
            f" is taken up {ABANDONED // 60} minutes after its last sign of life"
        )


class Held:
    """A claim of ours on a key. `left`: the IDs of the uploads of the one whose place it took."""

    def __init__(self, objects: Objects, key: str, claim: Claim, left: Sequence[str] = ()) -> None:
        self.left = left
        self._objects = objects
        self._key = key
        self._claim = claim

    def renew(self) -> None:
        """Say that it is not abandoned. Raises `Displaced` where it is another's by now."""
        etag = self._require()
        with suppress(Denied):  # a key that may only write what is new
            self._objects.put(self._key, _encoded(self._claim), instead=etag)

    def note(self, upload: str) -> None:
        """Say which upload is ours. Where that is not allowed, any of this key is taken for it by
        whoever cleans up."""
        self._claim = msgspec.structs.replace(self._claim, upload=upload)
        self.renew()

    def require(self) -> None:
        """Raises `Displaced` where it is another's by now."""
        self._require()

    def release(self) -> None:
        """Say that nobody works on what is there. What was uploaded goes where the claim is
        another's by now, which goes on with something else."""
        found = _found(self._objects, self._key)
        theirs = found.claim if found else None
        if found and theirs and theirs.token == self._claim.token:
            released = msgspec.structs.replace(self._claim, released=True)
            with suppress(Denied):
                self._objects.put(self._key, _encoded(released), instead=found.etag)
        elif self._claim.upload and (theirs is None or theirs.upload != self._claim.upload):
            key = self._key.removesuffix(PARTIAL_SUFFIX)
            self._objects.abort(key, self._claim.upload)

    def drop(self) -> None:
        """Take it away: it was looked at a moment ago (`require`). Where that is not allowed it
        stays, and says that nobody works there."""
        try:
            self._objects.delete(self._key)
        except Denied:
            self.release()

    def _require(self) -> str:
        found = _found(self._objects, self._key)
        if found is None or found.claim is None or found.claim.token != self._claim.token:
            raise Displaced(
                "somebody on another host, or without virtstore, removed or took over what was"
                " being made; what has its name now was left alone"
            )
        return found.etag


def key_of(key: str) -> str:
    """The key of the claim on a key."""
    return key + PARTIAL_SUFFIX


def take(objects: Objects, key: str) -> Held:
    """Have the claim on a key alone. Raises `InUse` where somebody else has it. It is looked for
    before it is written, as a server may not heed the condition: of two who write at the same
    moment there the later has it, and the earlier is told when it looks again."""
    where = key_of(key)
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    claim = Claim(secrets.token_hex(16), myself(), now)
    for _ in range(_TRIES):
        found = _found(objects, where)
        if found is None:
            if objects.put(where, _encoded(claim), new=True) is not None:
                return Held(objects, where, claim)
            continue  # another has come in between, or an answer was lost
        if found.claim and found.claim.token == claim.token:
            return Held(objects, where, found.claim, _uploads(objects, key, found))
        if not found.is_abandoned:
            raise found.in_use
        claim = msgspec.structs.replace(claim, upload=found.claim.upload if found.claim else "")
        if _replaced(objects, where, claim, found.etag):
            held = Held(objects, where, claim, _uploads(objects, key, found))
            with suppress(Displaced):  # a server may not heed the condition
                held.require()
                return held
    raise InUse("others are beginning to make it at the same moment; try again")


def _replaced(objects: Objects, where: str, claim: Claim, etag: str) -> bool:
    """Put a claim in place of an abandoned one. False where another has come in between."""
    try:
        return objects.put(where, _encoded(claim), instead=etag) is not None
    except Denied:  # the credentials may only write what is new, and remove claims
        objects.delete(where)
        return objects.put(where, _encoded(claim), new=True) is not None


def abandoned(objects: Objects, key: str) -> bool:
    """Whether there is a claim on a key that nobody has any more. Raises `InUse` where somebody
    has."""
    found = _found(objects, key_of(key))
    if found and not found.is_abandoned:
        raise found.in_use
    return found is not None


def uploads(objects: Objects, key: str) -> list[str]:
    """The IDs of the uploads that a claim on a key stands for: the one that it names, or all."""
    found = _found(objects, key_of(key))
    return _uploads(objects, key, found) if found else []


def _uploads(objects: Objects, key: str, found: _Found) -> list[str]:
    if found.claim and found.claim.upload:
        return [found.claim.upload]
    return [each.id for each in objects.uploads(key) if each.key == key]


def myself() -> Writer:
    """This process."""
    kernel = _read("/proc/sys/kernel/random/boot_id")
    space = ""
    with suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    process = os.getpid()
    return Writer(os.uname().nodename, kernel, space, process, _started(process))


def _found(objects: Objects, where: str) -> _Found | None:
    there = objects.beginning(where, _LONGEST)
    if there is None:
        return None
    found, data, date = there
    claim = None
    with suppress(msgspec.DecodeError):
        claim = msgspec.json.decode(data, type=Claim)
    now, written = seconds_of(date), found.modified / 10**9
    return _Found(claim, found.etag, 0.0 if now is None else now - written)


def _encoded(claim: Claim) -> bytes:
    return msgspec.json.encode(claim)


def _started(process: int) -> str:
    """When a process began, in ticks since the machine did (proc(5), stat); "" for none."""
    fields = _read(f"/proc/{process}/stat").rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 else ""


def _is_nobody(process: int) -> bool | None:
    """Whether there is no such process; None where it is another user's, whose processes are not
    shown here (proc(5), hidepid)."""
    try:
        os.kill(process, 0)
    except PermissionError:
        return None
    except (ProcessLookupError, OverflowError):
        return True
    return False


def _read(path: str) -> str:
    with suppress(OSError), open(path) as file:
        return file.read().strip()
    return ""
