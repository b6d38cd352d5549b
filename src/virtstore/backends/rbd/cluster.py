"""A pool of a Ceph cluster, and as whom it is reached; and `rbd`, which is asked about it.

A cluster that does not answer keeps `rbd` waiting for ever. So connecting has a time limit of its
own. What was begun has none: a storage daemon (OSD) that is away for a while is nothing that a
change may be cut short for. But in a pool that is full every change waits until there is room, also
who only says that he has an image open. So what takes long is ended where the pool is full: it has
changed nothing yet.

Sources: rbd(8), ceph(8), ceph-conf(8); errno(3), as `rbd` exits with such a number. Host tools
needed: rbd (Debian: ceph-common).
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from virtstore import programs, run
from virtstore.backends.rbd import report
from virtstore.errors import (
    ConnectionFailed,
    Denied,
    Error,
    Exists,
    InUse,
    NoSpace,
    NotFound,
    Unsupported,
)

#: Seconds after which what waits may wait for room.
LONG: Final = 3.0
#: Seconds in which a monitor has to answer whoever connects.
CONNECTING: Final = 15
#: Seconds that a question may take, and a change: it removes all of an image's objects, say.
_ASKING: Final = 120.0
_CHANGING: Final = 3600.0
#: Ceph's programs say a number, and what it means, of what went wrong: `(2) No such file`.
_NUMBER: Final = re.compile(r"\((\d+)\) [A-Z]")
_CAPS: Final = (
    "its capabilities have to be at least: mon 'profile rbd' osd 'profile rbd pool={pool}', and as"
    " much for the pools that have its data and its parent, where 'rbd info' shows others ('ceph"
    " auth get client.{user}' shows those that it has, 'ceph auth caps' changes them)"
)
_READ_ONLY: Final = (
    "Ceph lets nobody write to it: it is the mirror of an image of another cluster ('rbd mirror"
    " image status' tells, 'rbd mirror image promote' makes it one of its own), or somebody has"
    " locked it ('rbd lock ls' shows who, 'rbd lock rm' takes the lock away)"
)
_MIRROR: Final = (
    "the pool {pool} is mirrored: if 'rbd info' says of it 'mirroring primary: false', it is the"
    " mirror of an image of another cluster, which QEMU cannot open where it has a journal; copy it"
    " from the cluster that has the image itself, or make it this one's own ('rbd mirror image"
    " promote'). Else "
)
#: What Ceph's programs say of a configuration, a keyring or a key that is not as it has to be. What
#: they say last is "Permission denied" for the last two, as where somebody may not do something.
_NO_CONF: Final = "unable to open config file"
_NO_KEYRING: Final = re.compile(r"unable to find a keyring on (\S+?),*: \(\d+\) (.+)")
_WRONG_KEY: Final = "handle_auth_bad_method"


class _Mirroring(msgspec.Struct):
    """Of a pool: "disabled", or which of its images are mirrored."""

    mode: str = "disabled"


class Cluster(msgspec.Struct, frozen=True):
    """A pool, and who asks for it, in Ceph's words. `keyring` "": the one that `conf` says."""

    pool: str
    conf: str
    user: str
    keyring: str
    namespace: str

    @property
    def access(self) -> tuple[str, ...]:
        """The options by which Ceph's programs reach the cluster."""
        keyring = ("--keyring", self.keyring) if self.keyring else ()
        patience = f"--client_mount_timeout={CONNECTING}"
        return ("--conf", self.conf, "--id", self.user, *keyring, patience)

    def ask(self, *words: str) -> run.Completed:
        """Ask `rbd` something. Raises as `refusal`."""
        said = self.answer(*words)
        if said.status:
            raise self.refusal(said)
        return said

    def answer(self, *words: str) -> run.Completed:
        """What `rbd` says to a question, which may be that it failed."""
        return run.run(self._command(words), timeout=_ASKING, give_up=self.patience())

    def change(self, *words: str) -> None:
        """Have `rbd` change something, and go on with it should this process end. Raises as
        `refusal`, and `LeftRunning`."""
        said = run.run(
            self._command(words), outlives_us=True, timeout=_CHANGING, give_up=self.patience()
        )
        if said.status:
            raise self.refusal(said)

    def ask_monitors(self, *words: str) -> bytes:
        """What `ceph` says of the cluster, in JSON. Raises as `refusal`."""
        said = run.run(self.monitors_argv(*words), timeout=_ASKING)
        if said.status:
            raise self.refusal(said)
        return said.stdout

    def monitors_argv(self, *words: str) -> tuple[str, ...]:
        """The command by which `ceph` is asked something. Raises `Unsupported` without it."""
        return (programs.require("ceph"), *self.access, *words, "--format", "json")

    def why_full(self) -> str:
        """Why nothing can be written to the pool for want of room; "" where there is room. Raises
        as `refusal`."""
        return report.why_full(self.ask_monitors("osd", "dump"), self.pool)

    def patience(self) -> Callable[[float], None]:
        """What is called with the seconds that something has taken. It raises `NoSpace` once that
        is long, where the pool is full."""
        looked = 0.0

        def look(seconds: float) -> None:
            nonlocal looked
            if seconds < looked + LONG:
                return
            looked = seconds
            full = ""
            with suppress(ConnectionFailed):  # who waits may still be answered
                full = self.why_full()
            if full:
                raise NoSpace(full)

        return look

    def objects(self, *words: str, pool: str = "") -> run.Completed:
        """What `rados` says of single objects of the pool, or another, which may be that it
        failed."""
        within = ("--namespace", self.namespace) if self.namespace else ()
        argv = ("rados", *self.access, "--pool", pool or self.pool, *within, *words)
        return run.run(argv, outlives_us=True, timeout=_ASKING)

    def refusal(self, said: run.Completed) -> Error:
        """The error for what Ceph's programs said of a failure."""
        if said.status < 0:
            return Error(
                f"{said.argv[0]} ended by signal {-said.status}, which is a fault of its own; try"
                " again, and look for that fault in what is known of this version of Ceph"
            )
        text = (said.stderr or said.stdout).decode("utf-8", "replace")
        # 1 is also what it ends with that has no number of its own.
        number = said.status if said.status != 1 else 0
        return self.explained(text, number, said.complaint)

    def explained(self, text: str, number: int, complaint: str) -> Error:
        """The error of which Ceph, or QEMU, said `text`: it names its number, or is `number`."""
        if why := self._why_not_let_in(text):
            return Denied(why)
        found = [int(each) for each in _NUMBER.findall(text)]
        full = [each for each in found if each in (errno.ENOSPC, errno.EDQUOT)]
        named = (full or found or [number])[-1]
        if _is_unreachable(text, named):
            return ConnectionFailed(
                f"the cluster of {self.conf} does not answer ({complaint}); look at mon_host there,"
                f" at the network, and at the monitors ('ceph -s')"
            )
        if named in (errno.EPERM, errno.EACCES) or "ermission" in complaint:
            mirror = "" if text else self._may_be_mirror()
            caps = _CAPS.format(pool=self.pool, user=self.user)
            return Denied(
                f"Ceph does not allow that to client.{self.user} ({complaint}); {mirror}{caps}"
            )
        if named == errno.EROFS:
            return Unsupported(_READ_ONLY)
        kind = {
            errno.ENOENT: NotFound,
            errno.EEXIST: Exists,
            errno.EBUSY: InUse,
            errno.ENOTEMPTY: InUse,
            errno.ENOSPC: NoSpace,
            errno.EDQUOT: NoSpace,
        }.get(named, Error)
        return kind(f"Ceph says: {complaint}")

    def _may_be_mirror(self) -> str:
        """What there is to look at where QEMU may not read or write an image, if that may be the
        mirror of another cluster's: with a journal, Ceph lets nobody open one as QEMU does."""
        with suppress(Error, msgspec.DecodeError):
            said = self.ask("mirror", "pool", "info", "--format", "json")
            if msgspec.json.decode(said.stdout, type=_Mirroring).mode != "disabled":
                return _MIRROR.format(pool=self.pool)
        return ""

    def _why_not_let_in(self, text: str) -> str:
        """What the host lacks for the cluster to know who asks; "" where it lacks nothing."""
        if _NO_CONF in text:
            return (
                f"Ceph's configuration {self.conf} cannot be opened; 'conf' in virtstore's"
                " configuration names it, and it has to say where the monitors are (mon_host)"
            )
        shows = f"'ceph auth get client.{self.user}', typed by an administrator of Ceph, shows it"
        if found := _NO_KEYRING.search(text):
            return (
                f"the key of client.{self.user} cannot be read in {found[1]} ({found[2]});"
                f" 'keyring' in virtstore's configuration names the file, and {shows}"
            )
        if _WRONG_KEY in text:
            where = self.keyring or "its keyring"
            return (
                f"the cluster does not know client.{self.user} by what is in {where}: there is no"
                f" such user, or it has another key; {shows}"
            )
        return ""

    def _command(self, words: tuple[str, ...]) -> tuple[str, ...]:
        within = ("--namespace", self.namespace) if self.namespace else ()
        return ("rbd", *self.access, *words, "--pool", self.pool, *within)


def _is_unreachable(text: str, number: int) -> bool:
    return number in (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH) or any(
        words in text for words in ("imed out", "unable to get monitor info")
    )
