"""A reader of archives made of docs/archive-format.md alone: it uses nothing of virtstore.

python reader_of_archives.py ARCHIVE > IMAGE
"""

import json
import struct
import sys
from pathlib import Path

import blake3
import zstandard

CHUNK = 1 << 20


def need(condition: bool, what: str) -> None:
    if not condition:
        raise SystemExit(f"corrupt: {what}")


def read(path: str) -> bytes:
    data = Path(path).read_bytes()
    count, descriptor, magic = struct.unpack("<IBI", data[-9:])
    need((descriptor, magic) == (0x80, 0x8F92EAB1), "no seek table")
    table = len(data) - 17 - 12 * count
    entries = list(struct.iter_unpack("<III", data[table + 8 : -9]))
    *frames, seals_entry, json_entry = entries
    json_at = table - json_entry[0]
    seals_at = json_at - seals_entry[0]
    need(seals_at == sum(stored for stored, _, _ in frames), "lengths")
    need(struct.unpack_from("<I", data, json_at)[0] == 0x184D2A50, "no JSON frame")
    text = data[json_at + 8 : table]
    about = json.loads(text)
    before = text[: text.rindex(b',"check":')]
    need(about["check"] == blake3.blake3(before).hexdigest(length=16), "check")
    seals = data[seals_at + 8 : json_at]
    need(blake3.blake3(seals).hexdigest() == about["seals"], "seals")
    image, digests, at = b"", b"", 0
    sealed = struct.iter_unpack("32s16s", seals)
    for (stored, length, _), (digest, checksum) in zip(frames, sealed, strict=True):
        gap = -at % about.get("align", 1) if length <= CHUNK else 0
        gap += 4096 if 0 < gap < 8 else 0
        frame = data[at + gap : at + stored]
        need(blake3.blake3(frame).digest(length=16) == checksum, f"frame at {at}")
        part = zstandard.ZstdDecompressor().decompress(frame)
        need(len(part) == length, "length")
        chunks = [part[begin : begin + CHUNK] for begin in range(0, length, CHUNK)]
        found = [blake3.blake3(chunk).digest() for chunk in chunks]
        need((digest == bytes(32) and not any(part)) or [digest] == found, "digest")
        image, digests, at = image + part, digests + b"".join(found), at + stored
    need(
        len(image) == about["size"] and blake3.blake3(digests).hexdigest() == about["digest"], "it"
    )
    return image


if __name__ == "__main__":
    sys.stdout.buffer.write(read(sys.argv[1]))
