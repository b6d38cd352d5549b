"""One seccomp filter: a tool may not cut or extend the file that it works on.

resize2fs sets the length of a plain file to the size of its file system, so that to grow
a file system to less than its image would cut the image. Told that it may not, it says so
and has done the rest. Other tools have no business with an image's length either.

This is against such habits, not against malice: io_uring and writes behind the end are
not covered.

Sources: seccomp(2), linux/filter.h, linux/audit.h, the kernel's syscall tables.
"""

from __future__ import annotations

import errno
import os
import platform
import struct
from typing import Final

import msgspec


class _Machine(msgspec.Struct, frozen=True):
    audit_arch: int
    truncate: int
    ftruncate: int


#: Little-endian 64-bit machines, where there is no truncate64 beside these.
_MACHINES: Final = {
    "x86_64": _Machine(0xC000003E, 76, 77),
    "aarch64": _Machine(0xC00000B7, 45, 46),
    "riscv64": _Machine(0xC00000F3, 45, 46),
    "ppc64le": _Machine(0xC0000015, 93, 94),
}

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_IF_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000 | errno.EPERM
_NUMBER: Final = 0  # offsets in struct seccomp_data
_ARCH: Final = 4


def keeps_length() -> bool:
    """Whether there is a filter for this host's processor."""
    return platform.machine() in _MACHINES


def length_filter() -> int | None:
    """A descriptor on the filter, as `bwrap --seccomp` takes it and for the caller to close;
    None where there is none."""
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return None
    fd = os.memfd_create("seccomp")
    os.write(fd, _program(machine))
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _program(machine: _Machine) -> bytes:
    # A jump's two numbers are how many instructions it passes over: if equal, if not.
    return b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (_LOAD, 0, 0, _ARCH),
            (_JUMP_IF_EQUAL, 0, 3, machine.audit_arch),
            (_LOAD, 0, 0, _NUMBER),
            (_JUMP_IF_EQUAL, 2, 0, machine.truncate),
            (_JUMP_IF_EQUAL, 1, 0, machine.ftruncate),
            (_RETURN, 0, 0, _ALLOW),
            (_RETURN, 0, 0, _REFUSE),
        )
    )
