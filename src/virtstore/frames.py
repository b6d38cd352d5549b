"""The protocol's messages as bytes.

A frame is two big-endian 32-bit lengths, a msgpack-encoded message (protocol.py), and a payload
that only some messages have:

    | message length | payload length | message | payload |

Both lengths are capped before anything is read. This module only encodes and decodes; it knows no
file and no process.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Final

import msgspec

from virtstore.errors import ConnectionFailed
from virtstore.protocol import Frame, Known, Message, Unknown
from virtstore.text import remark

_HEADER: Final = struct.Struct(">II")
HEADER_SIZE: Final = _HEADER.size
MAX_MESSAGE: Final = 1 << 20
#: A chunk that zstd could not compress is a little longer than the chunk (zstd.h: COMPRESSBOUND).
MAX_PAYLOAD: Final = (1 << 20) + (1 << 14)

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Known)


def decode(body: bytes) -> Known:
    """The message that these bytes are. Raises what msgspec does where they are none."""
    return _decoder.decode(body)


def encode(message: Message, payload_length: int = 0) -> bytes:
    """Header and message; `payload_length` bytes of payload are to follow."""
    body = _encoder.encode(message)
    if len(body) > MAX_MESSAGE or payload_length > MAX_PAYLOAD:
        raise ValueError(f"a {type(message).__name__} of {len(body)}+{payload_length} bytes")
    return _HEADER.pack(len(body), payload_length) + body


class Nonsense(ConnectionFailed):
    """What arrived is no message of the protocol: the other side speaks, and is not to be
    understood. `began`: the first bytes of it."""

    began = b""


def _nonsense(began: bytes, why: str = "") -> Nonsense:
    error = Nonsense(f"what arrived is not virtstore's protocol{why}")
    error.began = began
    return error


def read_frame(read: Callable[[int], bytes]) -> Frame | None:
    """The next frame, through `read(n)`, which returns n bytes, or fewer only where the
    stream ends. None where it ends between two frames. Raises `ConnectionFailed` where it
    ends within one, or what comes is no frame."""
    header = read(HEADER_SIZE)
    if not header:
        return None
    if len(header) < HEADER_SIZE:
        raise ConnectionFailed("the connection ended in the middle of a message")
    length, payload_length = _HEADER.unpack(header)
    if length > MAX_MESSAGE or payload_length > MAX_PAYLOAD:
        raise _nonsense(header)
    body, payload = read(length), read(payload_length) if payload_length else b""
    if len(body) < length or len(payload) < payload_length:
        raise ConnectionFailed("the connection ended in the middle of a message")
    try:
        return decode(body), payload
    except msgspec.ValidationError as error:
        if unknown := _unknown(body, str(error)):
            return unknown, payload
        raise _nonsense(body[:256], f" ({error})") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _nonsense(body[:256], f" ({error})") from None


class _Named(msgspec.Struct):
    """What all messages have, of whatever version."""

    type: str


def _unknown(body: bytes, error: str) -> Unknown | None:
    """The message that a newer peer may have meant; None where it is no message at all."""
    try:
        name = msgspec.msgpack.decode(body, type=_Named).type
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if f"{name!r} - at `$.type`" in error:
        lacks = f"the message {name}"
    elif found := re.search(r"unknown field `(\w+)`", error):
        lacks = f"{found[1]} of {name}"
    else:
        lacks = f"this {name}: {error}"
    return Unknown(remark(name), remark(lacks))
