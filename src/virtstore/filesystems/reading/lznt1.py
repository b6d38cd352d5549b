"""LZNT1, by which NTFS compresses. Source: [MS-XCA], section 2.5."""

from __future__ import annotations

from typing import Final

from virtstore.errors import Corrupt

_CHUNK: Final = 4096


def unpacked(data: bytes, size: int) -> bytes:
    """What `data` is the compressed form of, filled up with zeros to `size` bytes. Raises
    `Corrupt`."""
    found, at = bytearray(), 0
    while at + 2 <= len(data) and len(found) < size:
        header = int.from_bytes(data[at : at + 2], "little")
        if header == 0:
            break
        end = at + 3 + (header & 0xFFF)
        chunk = data[at + 2 : end]
        found += (_chunk(chunk) if header & 0x8000 else chunk).ljust(_CHUNK, b"\0")
        at = end
    return bytes(found[:size].ljust(size, b"\0"))


def _chunk(data: bytes) -> bytes:
    found, at = bytearray(), 0
    while at < len(data):
        flags = data[at]
        at += 1
        for bit in range(8):
            if at >= len(data):
                break
            if not flags >> bit & 1:
                found.append(data[at])
                at += 1
            else:
                _repeat(found, int.from_bytes(data[at : at + 2], "little"))
                at += 2
    if len(found) > _CHUNK:
        raise Corrupt("a compressed part of a file is longer than any can be")
    return bytes(found)


def _repeat(found: bytearray, token: int) -> None:
    """Append what a token stands for: the further on it is, the fewer bits has its length."""
    bits = 12
    while len(found) - 1 >= 1 << (16 - bits):
        bits -= 1
    back, length = (token >> bits) + 1, (token & ((1 << bits) - 1)) + 3
    if back > len(found) or len(found) + length > 2 * _CHUNK:
        raise Corrupt("a compressed part of a file is damaged")
    for _ in range(length):
        found.append(found[-back])
