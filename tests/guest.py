"""A guest of 512 bytes, which does nothing but write to its own disk, for tests of running domains.

It is a boot sector. Ten times a second it counts one further and writes itself, with the count in
it, into the next of its slots; behind the last slot comes the first again. So the slots of a disk
as it was at one moment hold counts without a gap, each in the slot that it belongs to.

Sources: Intel's manual on instructions, for real mode; the BIOS's int 13h, function 43h (extended
write) and int 15h, function 86h (wait).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

SECTOR: Final = 512
#: Where the first slot is, how far the next one is from it, and how many there are.
FIRST: Final = 1 << 20
STRIDE: Final = 64 << 10
SLOTS: Final = 256
#: A disk with all slots on it is at least as long.
NEEDED: Final = FIRST + SLOTS * STRIDE

_MICROSECONDS: Final = 100_000
#: Where the BIOS loads a boot sector.
_LOADED: Final = 0x7C00
#: In the boot sector: the packet that describes a write to the BIOS, and the count.
_PACKET: Final = 0x1D0
_COUNT: Final = 0x1F0


def boot_sector() -> bytes:
    """The guest. Whoever boots it has to have a disk of `NEEDED` bytes as the first one."""
    start = bytes.fromhex("fa 31c0 8ed8 8ec0 8ed0 bc007c fb")  # no segments, a stack
    turn = b"".join(
        (
            bytes.fromhex("66ff06") + _address(_COUNT),  # inc dword [count]
            bytes.fromhex("66a1") + _address(_COUNT),  # mov eax, [count]
            bytes.fromhex("6625") + struct.pack("<I", SLOTS - 1),  # and eax, ...
            bytes.fromhex("6669c0") + struct.pack("<I", STRIDE // SECTOR),  # imul eax, eax, ...
            bytes.fromhex("6605") + struct.pack("<I", FIRST // SECTOR),  # add eax, ...
            bytes.fromhex("66a3") + _address(_PACKET + 8),  # mov [packet's sector], eax
            bytes.fromhex("be") + _address(_PACKET),  # mov si, packet
            bytes.fromhex("b80043 b280 cd13"),  # write it to the first disk
            bytes.fromhex("b486 b9") + struct.pack("<H", _MICROSECONDS >> 16),
            bytes.fromhex("ba") + struct.pack("<H", _MICROSECONDS & 0xFFFF),
            bytes.fromhex("cd15"),  # wait
        )
    )
    again = bytes([0xEB, -(len(turn) + 2) & 0xFF])  # jmp to the turn's start
    packet = struct.pack("<BBHHHQ", 16, 0, 1, _LOADED, 0, 0)
    code = start + turn + again
    sector = bytearray(SECTOR)
    sector[: len(code)] = code
    sector[_PACKET : _PACKET + len(packet)] = packet
    sector[-2:] = b"\x55\xaa"
    return bytes(sector)


def counts(disk: bytes) -> list[int]:
    """What the slots of a disk hold, ascending; slots that were not written yet are left out.
    An AssertionError where a count is in another's slot."""
    found = []
    for slot in range(SLOTS):
        place = FIRST + slot * STRIDE
        (count,) = struct.unpack_from("<I", disk, place + _COUNT)
        if count:
            assert count % SLOTS == slot, f"slot {slot} holds the count {count}"
            found.append(count)
    return sorted(found)


def is_of_one_moment(disk: bytes) -> bool:
    """Whether a disk's contents are such as the guest had left at some moment."""
    found = counts(disk)
    return not found or found == list(range(max(1, found[-1] - SLOTS + 1), found[-1] + 1))


def make_disk(path: Path, size: int = NEEDED + FIRST) -> Path:
    """A raw disk that boots the guest."""
    with path.open("xb") as file:
        file.write(boot_sector())
        file.truncate(size)
    return path


def _address(place: int) -> bytes:
    return struct.pack("<H", _LOADED + place)
