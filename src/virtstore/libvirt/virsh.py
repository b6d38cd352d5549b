"""virsh, the door to libvirt's system daemon (`qemu:///system`).

Whoever only reads uses the socket that lets nobody change anything. A name of a domain never
becomes a word of a command: names may hold blanks, quotes and semicolons, so domains are named by
their UUIDs.

Host tools needed: libvirt-clients (`virsh`). Source: virsh(1).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from typing import Final

from virtstore import run
from virtstore.errors import Error

_URI: Final = "qemu:///system"
#: The sockets for reading, of libvirtd and of virtqemud, which newer systems have instead.
SOCKETS: Final = ("/run/libvirt/libvirt-sock-ro", "/run/libvirt/virtqemud-sock-ro")
#: Seconds after which a libvirt that does not answer a question counts as one that does not work.
_PATIENCE: Final = 20.0
#: Bytes of commands for one virsh, below the kernel's bound on one word (128 KiB).
_MOST: Final = 64 << 10


def is_there() -> bool:
    """Whether this host has a libvirt that can be asked, or that should be."""
    return any(os.path.exists(socket) for socket in SOCKETS)


def ask(*commands: str) -> list[str]:
    """What libvirt answers to each of these commands, which only read; an answer is empty where the
    command failed, as for a domain that is gone. Whoever calls this puts nothing into a command
    that he did not check: virsh takes it apart.

    Raises `Unsupported` where virsh is missing, and `Error` where libvirt does not answer.
    """
    return [answer for some in _portions(commands) for answer in _ask(some)]


def call(*words: str, timeout: float = 60) -> str:
    """What virsh says to one command with its words, which may change something. Each word reaches
    it as it is. Raises `Error` with virsh's complaint where it fails."""
    if len(words) < 2:
        raise ValueError("virsh takes a single word for a line of commands")
    done = run.run(["virsh", "-q", "-c", _URI, *words], timeout=timeout)
    if done.status:
        raise Error(f"libvirt refused {words[0]}: {done.complaint}")
    return done.stdout.decode("utf-8", "replace")


def says_gone(error: Error) -> bool:
    """Whether a command failed because its domain does not run any more. One that libvirt did not
    answer tells nothing of that."""
    gone = ("failed to get domain", "domain is not running")
    return any(words in error.message for words in gone)


def _portions(commands: Sequence[str]) -> list[list[str]]:
    portions: list[list[str]] = [[]]
    length = 0
    for command in commands:
        length += len(command) + 64
        if length > _MOST:
            portions.append([])
            length = len(command) + 64
        portions[-1].append(command)
    return [portion for portion in portions if portion]


def _ask(commands: Sequence[str]) -> list[str]:
    """Several commands of one virsh. A word that nobody can know in advance stands between their
    answers."""
    mark = secrets.token_hex(16)
    line = "; ".join(f"{command}; echo {mark}" for command in commands)
    done = run.run(["virsh", "-q", "-r", "-c", _URI, line], timeout=_PATIENCE)
    answers = done.stdout.decode("utf-8", "replace").split(mark)[:-1]
    if len(answers) != len(commands):
        raise Error(f"libvirt cannot be asked: {done.complaint}")
    return [answer.strip() for answer in answers]
