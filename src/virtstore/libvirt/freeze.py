"""Freezing a guest's file systems for a moment: what is frozen is written down, and is not written
to. The agent in the guest does it, and libvirt asks that.

A guest that stays frozen hangs. So it is thawed within ten seconds, whatever happens to what was to
be done meanwhile.

Sources: virsh(1), domfsfreeze and domfsthaw; QEMU's "Guest agent protocol", guest-fsfreeze-freeze.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import msgspec

from virtstore.copy_options import Quiesce
from virtstore.errors import Error, Unsupported
from virtstore.libvirt import virsh

#: Seconds after which a guest is thawed, counted from before it was frozen: a second less than is
#: promised, for what it takes to ask.
LONGEST: Final = 9.0
#: Seconds for which a thaw that fails is tried again.
_PATIENCE: Final = 30.0


class Freeze(msgspec.Struct, tag="freeze"):
    """The file systems of the domain `uuid`, frozen as long as this goes on. `idle`: they are not,
    which was to be tried only."""

    uuid: str
    quiesce: Quiesce
    idle: bool = False
    deadline: float = 0.0

    def begin(self) -> str:
        """Freeze them. Returns a warning where that could not be, and was to be tried only."""
        self.deadline = time.monotonic() + LONGEST
        warning = _frozen(self.uuid, self.quiesce)
        self.idle = bool(warning)
        return warning

    def look(self) -> None:
        """Raises `Error` where they have been frozen for long enough."""
        if not self.idle and time.monotonic() > self.deadline:
            raise _too_long()

    def end(self) -> None:
        """Thaw them. Raises `Error`."""
        if not self.idle:
            _thaw(self.uuid)


def while_frozen(uuid: str, quiesce: Quiesce, act: Callable[[float], None]) -> str:
    """Do something, which may take a number of seconds, while a domain's file systems are frozen.
    Returns a warning where they could not be, and that was to be tried only."""
    deadline = time.monotonic() + LONGEST
    if warning := _frozen(uuid, quiesce):
        act(LONGEST)
        return warning
    try:
        act(max(0.1, deadline - time.monotonic()))
    except Error:
        if time.monotonic() > deadline:
            raise _too_long() from None
        raise
    finally:
        _thaw(uuid)
    return ""


def _frozen(uuid: str, quiesce: Quiesce) -> str:
    """Freeze a domain's file systems. Returns a warning where that was to be tried only."""
    try:
        virsh.call("domfsfreeze", uuid, timeout=LONGEST)
    except Error as error:
        why = f"the guest's file systems could not be frozen ({error.message})"
        if "not connected" not in why and "not configured" not in why:
            _thaw(uuid)  # some of them may be frozen, or soon will be
        if quiesce == "try":
            return f"it is not quiesced: {why}"
        raise Unsupported(
            f"{why}: for that qemu-guest-agent has to run in the guest, and its domain needs the"
            " channel org.qemu.guest_agent.0; --quiesce=try does without where it has to"
        ) from None
    return ""


def _thaw(uuid: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            virsh.call("domfsthaw", uuid)
            return
        except Error as error:
            if virsh.says_gone(error):
                return
            if time.monotonic() > deadline:
                raise Error(
                    f"the guest's file systems could not be thawed ({error.message}); the guest"
                    f" hangs until 'virsh domfsthaw {uuid}' succeeds, or it is reset"
                ) from None
        time.sleep(0.2)


def _too_long() -> Error:
    return Error(
        "it was not quiesced: what was to be done while the guest's file systems were frozen took"
        f" longer than {LONGEST:.0f} s, so they were thawed and it was given up; try again when"
        " the host has less to do, or do without --quiesce"
    )
