"""A guest of 512 bytes, which does nothing but write to its own disk, for tests of running domains.

It is a boot sector. Ten times a second it counts one further and writes itself, with the count in
it, into the next of its slots; behind the last slot comes the first again. So the slots of a disk
as it was at one moment hold counts without a gap, each in the slot that it belongs to.

Where it has a virtio-serial device, it opens port 1 of that first, as a guest's agent does, and
says no more on it: who speaks for the agent is a process of the test (`tests/guest_agent.py`).

Sources: Intel's manual on instructions, for real mode; the BIOS's int 13h, function 43h (extended
write) and int 15h, function 86h (wait); PCI's configuration mechanism 1; virtio 1.0, "Legacy
Interfaces" and "Console Device".
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
#: The messages by which a port is opened, and a page for the queue on which they are sent.
_MESSAGES: Final = 0x1B0
_QUEUE: Final = 0x9000
#: Of a virtio-serial device: its PCI vendor and device, and the queue for control messages.
_SERIAL: Final = 0x10031AF4
_CONTROL: Final = 3


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
    code = start + _open_port() + turn + again
    sector = bytearray(SECTOR)
    sector[: len(code)] = code
    sector[_PACKET : _PACKET + len(packet)] = packet
    # The device is ready; port 1 is ready; port 1 is open.
    messages = b"".join(struct.pack("<IHH", *each) for each in ((0, 0, 1), (1, 3, 1), (1, 6, 1)))
    sector[_MESSAGES : _MESSAGES + len(messages)] = messages
    sector[-2:] = b"\x55\xaa"
    return bytes(sector)


def _open_port() -> bytes:
    """Opens port 1 of a virtio-serial device, where there is one."""
    out = bytes.fromhex("6689d8 b2f8 66ef b2fc")  # eax = ebx; dx = CF8h; out; dx = CFCh
    found = b"".join(
        (
            bytes.fromhex("b304") + out + bytes.fromhex("b80700 ef"),  # it may use I/O and memory
            bytes.fromhex("b310") + out + bytes.fromhex("ed 83e0fc 89c6"),  # si: its ports begin
            bytes.fromhex("8d5412 b003 ee"),  # status: seen, and driven
            bytes.fromhex("66b802000000 8d5404 66ef"),  # several ports
            bytes.fromhex("b80300 8d540e ef"),  # the queue for control messages, of 32 entries
            bytes.fromhex("fc bf") + struct.pack("<H", _QUEUE),
            bytes.fromhex("31c0 b90010 f3ab"),  # zero its pages
            *(_word(_QUEUE + 16 * n, _LOADED + _MESSAGES + 8 * n) for n in range(3)),
            *(_byte(_QUEUE + 16 * n + 8, 8) for n in range(3)),  # lengths
            _byte(_QUEUE + 0x202, 3),  # three are available
            _byte(_QUEUE + 0x206, 1),
            _byte(_QUEUE + 0x208, 2),
            bytes.fromhex("66b8") + struct.pack("<I", _QUEUE >> 12) + bytes.fromhex("8d5408 66ef"),
            bytes.fromhex("b007 8d5412 ee"),  # status: in order
            bytes.fromhex("b80300 8d5410 ef"),  # look at the queue
        )
    )
    scan = b"".join(
        (
            bytes.fromhex("6689d8 baf80c 66ef b2fc 66ed"),  # who is there?
            bytes.fromhex("663d") + struct.pack("<I", _SERIAL) + bytes.fromhex("7413"),
            bytes.fromhex("6681c3 00080000"),  # the next device of bus 0
            bytes.fromhex("6681fb 00000180 72dc"),
            bytes.fromhex("e9") + struct.pack("<H", len(found)),  # there is none
        )
    )
    return bytes.fromhex("66bb 00000080") + scan + found


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


def _word(address: int, value: int) -> bytes:
    return bytes.fromhex("c706") + struct.pack("<HH", address, value)


def _byte(address: int, value: int) -> bytes:
    return bytes.fromhex("c606") + struct.pack("<HB", address, value)


def _address(place: int) -> bytes:
    return struct.pack("<H", _LOADED + place)
