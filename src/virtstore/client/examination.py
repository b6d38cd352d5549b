"""What could go wrong between this machine and a host: what only this end sees, beside what the
host's agent found out about itself.

A check is a function of what a session has shown (`Seen`); a new one is a function and a line in
`_CHECKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from virtstore import processor
from virtstore.errors import Error
from virtstore.findings import note, ok, warning
from virtstore.model import Finding
from virtstore.protocol import Examined, known_requests
from virtstore.version import __version__

#: Seconds by which two clocks may differ, and that opening a session may take.
_APART: Final = 5.0
_SLOW: Final = 2.0
_SHOWN: Final = 8
_ORDER: Final = ("problem", "warning", "note", "ok")
_GCM: Final = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")


class Seen(NamedTuple):
    """What a session showed. `version`: the agent's; `login`: the seconds that it took to open;
    `received`: our time when the answer came; `settings`: ssh's for that host, none where it is
    not reached by OpenSSH; `alone`: connections to it are not shared; `far`: it is not this
    machine."""

    answer: Examined
    version: str
    login: float
    received: float
    settings: dict[str, str]
    alone: bool = False
    far: bool = True


def findings(seen: Seen) -> list[Finding]:
    """All of them, the worst first."""
    ours = [each for check in _CHECKS for each in check(seen)] if seen.far else []
    return in_order([*seen.answer.findings, *ours])


def in_order(found: list[Finding]) -> list[Finding]:
    """The worst first, otherwise as they are. A severity that is not known is bad."""
    ranks = {severity: rank for rank, severity in enumerate(_ORDER)}
    return sorted(found, key=lambda each: ranks.get(each.severity, 0))


def too_old(error: Error) -> Finding:
    """The finding for a host whose agent cannot examine it."""
    return warning(error.message, f"install virtstore {__version__} there")


def _versions(seen: Seen) -> Iterator[Finding]:
    ours, theirs = set(known_requests()), set(seen.answer.knows)
    there, here = sorted(ours - theirs), sorted(theirs - ours)
    if there:
        yield note(
            f"virtstore {seen.version} there does not know all that {__version__} here can ask:"
            f" {_few(there)}",
            "install the same version there",
        )
    if here:
        yield note(
            f"virtstore {__version__} here does not know all that {seen.version} there can do:"
            f" {_few(here)}",
            "install the same version here",
        )
    if not here and not there:
        yield ok(f"virtstore {seen.version} there, {__version__} here")


def _clock(seen: Seen) -> Iterator[Finding]:
    apart = seen.answer.clock - seen.received
    if abs(apart) > _APART:
        way = "ahead of" if apart > 0 else "behind"
        yield warning(
            f"its clock is {abs(apart):.0f} s {way} this machine's",
            "let both follow the network's time: timedatectl set-ntp true",
        )
    else:
        yield ok("its clock and this machine's agree")


def _ciphers(seen: Seen) -> Iterator[Finding]:
    if not seen.settings:
        return
    allowed = seen.settings.get("ciphers", "").split(",")
    offered = any(each in allowed for each in _GCM)
    # What is asked for first, see ssh.fast_ciphers.
    begins = offered and (processor.has_aes() or allowed[0] in _GCM)
    slow = [where for where, has in _aes(seen) if not has]
    if slow and begins:
        yield note(
            f"the processor {' and '.join(slow)} has no instructions for AES, so AES is slow",
            "put into ~/.ssh/config, for this host: Ciphers chacha20-poly1305@openssh.com",
        )
    elif not slow and not offered:
        yield note(
            "ssh is not allowed to use AES-GCM, the fastest cipher on these processors",
            f"allow it in ~/.ssh/config, for this host: Ciphers ^{_GCM[0]}",
        )
    else:
        yield ok("ssh may use the fastest cipher for these processors")


def _aes(seen: Seen) -> tuple[tuple[str, bool], ...]:
    return ("here", processor.has_aes()), ("there", seen.answer.aes)


def _login(seen: Seen) -> Iterator[Finding]:
    if not seen.settings:
        return
    if seen.alone and seen.login > _SLOW:
        yield note(
            f"opening a session took {seen.login:.1f} s, and each command logs in anew",
            "let commands share a connection, in ~/.ssh/config, for this host:\n"
            "ControlMaster auto\nControlPath ~/.ssh/%C\nControlPersist 60",
        )
    else:
        yield ok(f"opening a session took {seen.login:.1f} s")


def _few(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


_CHECKS: Final[tuple[Callable[[Seen], Iterator[Finding]], ...]] = (
    _versions,
    _clock,
    _ciphers,
    _login,
)
