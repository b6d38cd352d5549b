"""Frames: every message arrives as it was sent, and nothing else gets in."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtstore import model, protocol, requests
from virtstore.copy_options import CopyOptions
from virtstore.errors import ConnectionFailed, UsageError
from virtstore.frames import HEADER_SIZE, MAX_MESSAGE, MAX_PAYLOAD, encode, read_frame
from virtstore.protocol import Data, GetInfo, Hello, Known, Unknown, Zero
from virtstore.transfer.send import Proven

_INFO = model.ImageInfo(
    path="/mnt/ä.img",
    host="",
    type="file",
    size=None,
    allocated=4096,
    compression="lzop",
    modified=datetime(2026, 11, 28, 2, tzinfo=UTC),
    partitions=(model.Partition(1, 1 << 20, 1 << 30, "83", None, model.Filesystem("ext4")),),
    in_use=(model.InUse("process", "qemu (pid 1)"),),
)
#: A value for each field that has no default, by its name.
_VALUES: dict[str, object] = {
    "aes": True,
    "block": 4096,
    "clock": 1764367200.5,
    "code": "denied",
    "compare": True,
    "digest": "00" * 32,
    "done": 1,
    "findings": (model.Finding("", "warning", "what", "remedy"),),
    "info": _INFO,
    "jobs": (
        model.Job(
            "",
            812,
            "root",
            "192.0.2.7",
            "copy",
            "/x",
            datetime(2026, 11, 28, 2, tzinfo=UTC),
            "copying",
            1,
            2,
        ),
    ),
    "length": 1 << 20,
    "message": "why",
    "name": "x.img",
    "offset": 1 << 40,
    "oldest": 1,
    "path": "/mnt/x.img",
    "protocol": 1,
    "runs": ((1 << 20, True), (4096, False)),
    "result": model.Changed("/mnt/x.img", "", True),
    "size": 1 << 40,
    "source": "/mnt/x.img",
    "target": "/mnt/y.img",
    "total": 2,
    "blocks": (0, 3),
    "version": "1.0",
    "written": 7,
    "zeros": 3,
}
_RESULTS: dict[type, dict[str, object]] = {
    protocol.ToldStorage: {"info": model.StorageInfo("", "1", (), (), (), ())},
    protocol.DoneVerifying: {
        "result": model.Verified("/x", "", 1, "zstd", "00", "digest"),
    },
    protocol.DoneCleaning: {"result": model.Cleaned("/x", "", ("/x/y",), 9)},
    protocol.Listed: {"entries": (model.Entry("/x", "", "directory"),), "images": (_INFO,)},
    protocol.HashImage: {"chunks": (0, 5)},
    protocol.ReadFiles: {"inside": (b"/etc/fstab", b"/\xff")},
    protocol.FileTold: {"path": b"/\xff", "kind": "file"},
    protocol.FilesTold: {"files": (protocol.FileTold(b"/l", "symlink", target=b"x"),)},
    protocol.FilesEnd: {"filesystem": "ext4"},
}
_TEXT_SIZES = (
    *(protocol.CreateImage, protocol.GrowImage, protocol.ShrinkImage),
    *(protocol.ShrinkFilesystem, protocol.ResizeImage),
)
MESSAGES: list[type[Known]] = list(get_args(Known))


def example(kind: type[protocol.Message]) -> protocol.Message:
    needed = {f.name: _VALUES.get(f.name) for f in msgspec.structs.fields(kind) if f.required}
    if kind in _TEXT_SIZES:
        needed["size"] = "+1G"
    make: Callable[..., protocol.Message] = kind
    return make(**{**needed, **_RESULTS.get(kind, {})})


def _read(data: bytes) -> protocol.Frame | None:
    return read_frame(io.BytesIO(data).read)


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_each_message_arrives_as_it_was_sent(kind: type[Known]) -> None:
    message = example(kind)
    assert _read(encode(message, 3) + b"abc") == (message, b"abc")


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_a_frame_cut_at_any_byte_is_a_broken_connection(kind: type[Known]) -> None:
    whole = encode(example(kind), 2) + b"ab"
    assert _read(b"") is None  # between two frames, the session has simply ended
    for length in range(1, len(whole)):
        with pytest.raises(ConnectionFailed, match="middle of a message"):
            _read(whole[:length])


def _refusing_to_read_more(header: bytes) -> Callable[[int], bytes]:
    def read(count: int) -> bytes:
        assert count == HEADER_SIZE, "more was read than the header"
        return header

    return read


@pytest.mark.parametrize(
    ("length", "payload"),
    [(MAX_MESSAGE + 1, 0), (2, MAX_PAYLOAD + 1), (0xFFFFFFFF, 0xFFFFFFFF)],
)
def test_lengths_are_capped_before_anything_is_read(length: int, payload: int) -> None:
    with pytest.raises(ConnectionFailed, match="not virtstore's protocol"):
        read_frame(_refusing_to_read_more(struct.pack(">II", length, payload)))


def test_what_is_too_long_to_be_received_is_never_sent() -> None:
    with pytest.raises(ValueError, match="GetInfo"):
        encode(GetInfo("x" * (MAX_MESSAGE + 1)))
    with pytest.raises(ValueError, match="Data"):
        encode(Data(0, 1), MAX_PAYLOAD + 1)


def test_a_chunk_that_does_not_compress_fits_a_frame() -> None:
    import zstandard

    worst = zstandard.ZstdCompressor(level=1, write_checksum=True)
    chunk = protocol.PREAMBLE + bytes((i * 7919 + i // 251) & 255 for i in range((1 << 20) - 16))
    assert len(worst.compress(chunk)) <= MAX_PAYLOAD


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc0",
        msgspec.msgpack.encode(["GetInfo", "/x"]),
        msgspec.msgpack.encode({"path": "/x"}),
        msgspec.msgpack.encode({"type": 5}),
        msgspec.msgpack.encode(GetInfo("/x")) + b"\0",
        b"\x82\xa4type\xa7GetInfo\xa4path\xa2\xff\xfe",  # text that is not UTF-8
        b"\x82\xa4type\xa3End\xa1x" + b"\x91" * 5000 + b"\xc0",  # nested too deep to be skipped
    ],
    ids=range(8),
)
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(ConnectionFailed, match="not virtstore's protocol"):
        _read(struct.pack(">II", len(body), 0) + body)


@pytest.mark.parametrize(
    ("message", "lacks"),
    [
        ({"type": "NoSuchMessage", "path": "/x"}, "the message NoSuchMessage"),
        ({"type": "GetInfo", "path": "/x", "deep": True}, "deep of GetInfo"),
        ({"type": "Send", "path": "/x", "options": {"mirrored": True}}, "mirrored of Send"),
        ({"type": "Start", "compare": True, "paced": True}, "paced of Start"),
        ({"type": "GetInfo"}, "this GetInfo: Object missing required field `path`"),
        ({"type": "GetInfo", "path": 5}, "this GetInfo: Expected `str`, got `int` - at `$.path`"),
        ({"type": "Zero", "offset": 2**64 - 1, "length": "x"}, "this Zero: Expected `int`"),
        (Proven(0, 1, digest=bytes(32)), "the message Proven"),  # never believed of a peer
    ],
)
def test_a_message_that_is_not_wholly_known_says_what_is_lacking(
    message: object, lacks: str
) -> None:
    body = msgspec.msgpack.encode(message)
    found = _read(struct.pack(">II", len(body), 0) + body)
    assert found
    assert isinstance(found[0], Unknown)
    assert found[0].lacks.startswith(lacks)


def test_what_is_said_of_an_unknown_message_is_short_and_printable() -> None:
    """It is told to whoever sent it, in a message that has a longest length too."""
    body = msgspec.msgpack.encode({"type": "\x1b[2J" + "x" * (MAX_MESSAGE - 100)})
    found = _read(struct.pack(">II", len(body), 0) + body)
    assert found
    assert isinstance(found[0], Unknown)
    assert encode(protocol.Failure("unsupported", found[0].name + found[0].lacks))
    assert found[0].lacks.isprintable()


@given(st.binary(max_size=200))
def test_garbage_is_never_more_than_a_broken_connection(data: bytes) -> None:
    _survives(data)


@given(st.binary(max_size=60), st.binary(max_size=5))
def test_garbage_in_a_frame_is_never_more_than_a_broken_connection(
    body: bytes, payload: bytes
) -> None:
    _survives(struct.pack(">II", len(body), len(payload)) + body + payload)


@given(st.sampled_from(MESSAGES), st.data())
def test_a_message_with_a_flipped_byte_is_never_more_than_a_broken_connection(
    kind: type[Known], data: st.DataObject
) -> None:
    frame = bytearray(encode(example(kind)))
    frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
    _survives(bytes(frame))


def _survives(data: bytes) -> None:
    try:
        found = _read(data)
    except ConnectionFailed:
        return
    assert found is None or isinstance(found[0], protocol.Message)


@given(st.lists(st.tuples(st.integers(0, 2**62), st.binary(max_size=40)), max_size=8))
def test_frames_follow_each_other_without_gaps(sent: list[tuple[int, bytes]]) -> None:
    frames = [(Zero(offset, len(payload)), payload) for offset, payload in sent]
    stream = io.BytesIO(b"".join(encode(m, len(p)) + p for m, p in frames))
    assert list(iter(lambda: read_frame(stream.read), None)) == frames


def test_both_ends_know_who_speaks() -> None:
    assert _read(encode(Hello("9.9", 77, 7))) == (Hello("9.9", 77, 7), b"")


@pytest.mark.parametrize(
    ("kind", "field", "value", "says"),
    [
        (protocol.CompressImage, "format", "zst", "format cannot be 'zst'; it is 'zstd' or 'lz4'"),
        (protocol.CreateImage, "thin", 5, "thin cannot be 5: Expected str | null, got int"),
        (protocol.ResizeImage, "partition", "1", "partition cannot be '1': Expected int | null"),
        (protocol.GetInfo, "path", 7, "path cannot be 7: Expected str, got int"),
        (
            protocol.CopyHere,
            "options",
            CopyOptions(archive=True, format="zst"),  # type: ignore[arg-type]
            "format cannot be 'zst'; it is 'zstd' or 'lz4'",
        ),
    ],
)
def test_an_argument_of_the_wrong_type_is_told_by_its_name(
    kind: type[protocol.Request], field: str, value: object, says: str
) -> None:
    make: Callable[..., protocol.Request] = kind
    request = make(**{**msgspec.structs.asdict(example(kind)), field: value})
    with pytest.raises(UsageError, match=re.escape(says)):
        requests.check(request)
