"""What an archive claims is believed only as far as its own structure can bear it."""

from __future__ import annotations

import lzma
import struct
import zlib

import pytest
from tests.ours import archive_of

from virtstore import formats
from virtstore.errors import Corrupt, Unsupported, UsageError
from virtstore.formats import header_budget
from virtstore.formats.cursor import Cursor, Section
from virtstore.formats.lz4 import Lz4
from virtstore.formats.lzop import Lzop
from virtstore.formats.xz import Xz
from virtstore.formats.zstd import Zstd

ZSTD = b"\x28\xb5\x2f\xfd"
LZ4 = b"\x04\x22\x4d\x18"
LZOP = b"\x89LZO\x00\r\n\x1a\n"
EIGHT_EXBIBYTES = 1 << 63


class Bytes:
    """An archive in memory, which counts what is read of it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.taken = 0

    def read_at(self, offset: int, length: int) -> bytes:
        piece = self.data[offset : offset + length]
        self.taken += len(piece)
        return piece


def _zstd_frame(claim: int, *blocks: bytes) -> bytes:
    """Single segment would make the claim the window: so it has a window of 1 MiB."""
    return ZSTD + bytes([0xC0, 0x50]) + struct.pack("<Q", claim) + b"".join(blocks)


def _zstd_block(kind: int, size: int, body: bytes, *, last: bool = True) -> bytes:
    return (size << 3 | kind << 1 | last).to_bytes(3, "little") + body


def _libzstd_frame(*blocks: bytes) -> bytes:
    """Without a content size, as from a pipe; a window of 1 MiB."""
    return ZSTD + bytes([0x00, 0x50]) + b"".join(blocks)


@pytest.mark.parametrize("claim", [EIGHT_EXBIBYTES - 1, EIGHT_EXBIBYTES, (1 << 64) - 2, 2 << 17])
def test_a_zstd_frame_that_claims_more_than_its_blocks_hold_is_corrupt(claim: int) -> None:
    archive = Bytes(_zstd_frame(claim, _zstd_block(1, 128 << 10, b"x")))
    with pytest.raises(Corrupt):
        Zstd().image_size(archive)
    with pytest.raises(Corrupt):
        list(Zstd().read(archive))


def test_a_zstd_frame_that_does_not_say_its_size_has_none() -> None:
    archive = Bytes(_libzstd_frame(_zstd_block(0, 5, b"hello")))
    assert Zstd().image_size(archive) is None
    assert b"".join(Zstd().read(archive)) == b"hello"


def test_a_repeated_byte_is_given_out_block_by_block() -> None:
    blocks = [_zstd_block(1, 128 << 10, b"x", last=number == 99) for number in range(100)]
    pieces = list(Zstd().read(Bytes(_libzstd_frame(*blocks))))
    assert b"".join(pieces) == b"x" * (100 << 17)
    assert max(map(len, pieces)) <= 1 << 20


@pytest.mark.parametrize(
    "block",
    [
        _zstd_block(3, 5, b"hello"),
        _zstd_block(0, (128 << 10) + 1, bytes((128 << 10) + 1)),
        _zstd_block(0, 5, b"hell"),
        _zstd_block(0, 5, b"hello", last=False),
        b"\x01",
    ],
    ids=["reserved kind", "too large", "cut off", "no last block", "half a header"],
)
def test_a_zstd_block_that_cannot_be_is_corrupt(block: bytes) -> None:
    with pytest.raises(Corrupt):
        list(Zstd().read(Bytes(_libzstd_frame(block))))


def test_a_window_larger_than_zstd_takes_by_itself_is_unsupported() -> None:
    archive = Bytes(ZSTD + bytes([0x00, 0x90]) + _zstd_block(0, 1, b"x"))  # 256 MiB: --long=28
    for use in (Zstd().image_size, lambda source: list(Zstd().read(source))):
        with pytest.raises(Unsupported, match="--long=27"):
            use(archive)


def test_a_window_larger_than_zstd_makes_is_corrupt() -> None:
    archive = Bytes(ZSTD + bytes([0x00, 0xF8]) + _zstd_block(0, 1, b"x"))  # 2 TiB
    with pytest.raises(Corrupt, match="too much memory"):
        list(Zstd().read(archive))


def test_a_frame_that_needs_a_dictionary_is_unsupported() -> None:
    archive = Bytes(ZSTD + bytes([0x01, 0x50, 7]) + _zstd_block(0, 1, b"x"))
    with pytest.raises(Unsupported, match=r"dictionary \(7\)"):
        list(Zstd().read(archive))


def test_a_skippable_frame_that_reaches_beyond_the_end_is_corrupt() -> None:
    good = _libzstd_frame(_zstd_block(0, 5, b"hello"))
    for claim in (6, 0xFFFF_FFFF):
        archive = Bytes(good + struct.pack("<II", 0x184D2A51, claim) + b"short")
        with pytest.raises(Corrupt, match="truncated"):
            list(Zstd().read(archive))
    archive = Bytes(good + struct.pack("<II", 0x184D2A51, 5) + b"short" + good)
    assert b"".join(Zstd().read(archive)) == b"hellohello"


def test_a_seek_table_of_somebody_else_is_a_frame_to_skip() -> None:
    frame = _libzstd_frame(_zstd_block(0, 5, b"hello"))
    table = struct.pack("<IIIIIBI", 0x184D2A5E, 17, len(frame), 5, 1, 0, 0x8F92EAB1)
    assert b"".join(Zstd().read(Bytes(frame + table))) == b"hello"


def _lz4_frame(claim: int, *blocks: bytes) -> bytes:
    # The header's checksum is of no account to a walk over headers.
    return LZ4 + bytes([0x68, 0x40]) + struct.pack("<Q", claim) + b"?" + b"".join(blocks) + bytes(4)


def _lz4_block(size: int, body: bytes) -> bytes:
    return struct.pack("<I", size) + body


@pytest.mark.parametrize("claim", [EIGHT_EXBIBYTES, (1 << 64) - 1, 5 * 255 + 1])
def test_an_lz4_frame_that_claims_more_than_its_blocks_hold_is_corrupt(claim: int) -> None:
    with pytest.raises(Corrupt, match="at most 1275"):
        Lz4().image_size(Bytes(_lz4_frame(claim, _lz4_block(5, b"12345"))))


def test_an_lz4_frame_with_a_block_that_cannot_be_is_corrupt() -> None:
    with pytest.raises(Corrupt):
        Lz4().image_size(Bytes(_lz4_frame(5, _lz4_block(65 << 10, bytes(65 << 10)))))


def test_an_lz4_archive_of_the_legacy_format_is_recognised_and_unsupported() -> None:
    archive = Bytes(b"\x02\x21\x4c\x18" + struct.pack("<I", 4) + b"\x30abc")
    assert formats.detect(archive) is formats.FORMATS["lz4"]
    with pytest.raises(Unsupported, match="legacy"):
        Lz4().image_size(archive)
    with pytest.raises(Unsupported, match="legacy"):
        list(Lz4().read(archive))


def _number(value: int) -> bytes:
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def _xz(records: list[tuple[int, int]], body: bytes) -> bytes:
    """A stream with an index that says `records`, its checksums all in order."""
    flags = b"\x00\x04"
    index = b"\0" + _number(len(records)) + b"".join(_number(n) for r in records for n in r)
    index += bytes(-len(index) % 4)
    index += struct.pack("<I", zlib.crc32(index))
    footer = struct.pack("<I", len(index) // 4 - 1) + flags
    header = b"\xfd7zXZ\0" + flags + struct.pack("<I", zlib.crc32(flags))
    return header + body + index + struct.pack("<I", zlib.crc32(footer)) + footer + b"YZ"


def test_an_xz_index_is_summed_over_its_blocks() -> None:
    assert Xz().image_size(Bytes(_xz([(30, 1000), (7, 2000)], bytes(32 + 8)))) == 3000


@pytest.mark.parametrize("claim", [EIGHT_EXBIBYTES - 1, 1 << 40])
def test_an_xz_block_that_claims_what_it_cannot_hold_is_corrupt(claim: int) -> None:
    with pytest.raises(Corrupt, match="claims to hold"):
        Xz().image_size(Bytes(_xz([(40, claim)], bytes(40))))


@pytest.mark.parametrize(
    "archive",
    [
        _xz([(30, 1000)], bytes(36)),
        _xz([(30, 1000)], bytes(28)),
        _xz([(1 << 62, 1000)], bytes(32)),
        _xz([(30, 1000)], bytes(32))[:-1],
        bytes(8),
    ],
    ids=["blocks too long", "blocks too short", "8 EiB of blocks", "cut off", "only padding"],
)
def test_an_xz_index_that_does_not_fit_its_archive_is_corrupt(archive: bytes) -> None:
    with pytest.raises(Corrupt):
        Xz().image_size(Bytes(archive))


def test_an_xz_index_with_a_number_without_end_is_corrupt() -> None:
    cursor = Bytes(b"\xff" * 100)
    with pytest.raises(Corrupt):
        Xz().image_size(Bytes(_xz([], b"") + cursor.data))


def test_an_xz_archive_that_wants_a_dictionary_of_a_gibibyte_is_unsupported() -> None:
    # A decoder would allocate it at once; an encoder would too, so that header is made by hand:
    # one LZMA2 filter (id 0x21) whose property byte stands for a dictionary of 1 GiB.
    stream = lzma.compress(b"x", preset=0)
    block = bytes([2, 0, 0x21, 1, 36]) + bytes(3)
    archive = stream[:12] + block + struct.pack("<I", zlib.crc32(block)) + stream[24:]
    with pytest.raises(Unsupported, match="192 MiB"):
        list(Xz().read(Bytes(archive)))


def test_the_size_of_an_archive_is_found_without_reading_it() -> None:
    pad = bytes(4 << 20)
    archives = {
        "xz": Bytes(_xz([(len(pad), 7)], pad)),
        "lz4": Bytes(_lz4_frame(7, *[_lz4_block(1 << 16, bytes(1 << 16))] * 64)),
        "lzop": Bytes(_lzop(*[(256 << 10, bytes(256 << 10))] * 16)),
    }
    for name, archive in archives.items():
        assert formats.by_name(name).image_size(archive) is not None
        assert archive.taken < archive.size // 4


def _lzop(*blocks: tuple[int, bytes]) -> bytes:
    header = struct.pack(">HHHBBIIIIB", 0x1040, 0x20A0, 0x0940, 1, 5, 0, 0, 0, 0, 0) + bytes(4)
    stored = (struct.pack(">II", size, len(body)) + body for size, body in blocks)
    return LZOP + header + b"".join(stored) + bytes(4)


@pytest.mark.parametrize(
    "block",
    [(65 << 20, bytes(1 << 20)), (1000, b"xy"), (5, b"too long"), (5, b"")],
    ids=["larger than lzop makes", "more than it can hold", "longer than its contents", "empty"],
)
def test_an_lzop_block_that_cannot_be_is_corrupt(block: tuple[int, bytes]) -> None:
    with pytest.raises(Corrupt, match="damaged block"):
        Lzop().image_size(Bytes(_lzop(block)))


@pytest.mark.parametrize(
    ("head", "unit"),
    [
        (_zstd_frame(0), _zstd_block(0, 0, b"", last=False)),
        (_zstd_frame(0, _zstd_block(0, 0, b"")), struct.pack("<II", 0x184D2A51, 0)),
        (b"", _zstd_frame(0, _zstd_block(0, 0, b""))),
        (b"", archive_of(b"x")),
        (_lz4_frame(0)[:-4], _lz4_block(1 << 31, b"")),
        (_lz4_frame(0), struct.pack("<II", 0x184D2A51, 0)),
        (b"", _lz4_frame(0)),
        (_lzop()[:-4], struct.pack(">II", 1, 1) + b"x"),
        (b"", _lzop()),
        (b"", _xz([], b"")),
        (_xz([], b""), bytes(4096)),
        (_xz([(4, 1)] * 300, bytes(1200)), b""),
    ],
    ids=[
        "zstd blocks of nothing",
        "zstd frames to skip",
        "zstd frames of nothing",
        "archives of a byte",
        "lz4 blocks of nothing",
        "lz4 frames to skip",
        "lz4 frames of nothing",
        "lzop blocks of a byte",
        "lzop members of nothing",
        "xz streams of nothing",
        "pages of padding",
        "xz blocks of a byte",
    ],
)
def test_a_guest_cannot_make_looking_long(
    head: bytes, unit: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Bytes(head + unit * 300)
    found = formats.detect(archive)
    assert found
    monkeypatch.setattr(header_budget, "MOST_HEADERS", 299)
    assert found.image_size(archive) is None


def test_the_entries_of_a_seek_table_in_the_midst_are_steps_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    archive = Bytes(archive_of(b"x") + archive_of(b"y"))
    assert Zstd().image_size(archive) == 2
    monkeypatch.setattr(header_budget, "MOST_HEADERS", 2 * 4)  # of each: a block, and three frames
    assert Zstd().image_size(archive) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x28\xb5",
        bytes(4096),
        b"\xeb\x63\x90" + bytes(507) + b"\x55\xaa",
        b"LUKS\xba\xbe\x00\x02",
        b"QFI\xfb\x00\x00\x00\x03",
        ZSTD + b"\x08" + bytes(60),
        LZ4 + b"\x00\x00" + bytes(60),
        LZ4 + b"\x64\x00" + bytes(60),
        b"\x02\x21\x4c\x18" + b"\xff" * 60,
        b"\x1f\x8b\x08\xe0" + bytes(60),
        b"\x1f\x8b\x07\x00" + bytes(60),
        b"\x89LZO" + bytes(60),
        b"\xfd7zXZ\x01" + bytes(60),
        b"\x50\x2a\x4d\x18" + bytes(60),
        b"\x50\x2a\x4d\x18\x04\0\0\0abcd\x1f\x8b\x08\x00" + bytes(60),
        b"\x50\x2a\x4d\x18\x04\0\0\0abcd",
        b"\x50\x2a\x4d\x18\xff\xff\xff\xff" + ZSTD,
    ],
)
def test_what_no_archive_begins_with_is_no_archive(data: bytes) -> None:
    assert formats.detect(Bytes(data)) is None


def test_a_magic_number_with_a_sound_header_is_an_archive_however_short() -> None:
    heads = {
        "zstd": ZSTD + b"\xa4",
        "lz4": LZ4 + b"\x64\x40",
        "lzop": LZOP,
        "gzip": b"\x1f\x8b\x08\x00",
        "xz": b"\xfd7zXZ\x00",
    }
    for name, head in heads.items():
        assert formats.detect(Bytes(head)) is formats.by_name(name)


def test_what_is_behind_skippable_frames_tells_zstd_from_lz4() -> None:
    skippable = b"\x5a\x2a\x4d\x18\x03\0\0\0abc"
    assert formats.detect(Bytes(skippable * 3 + ZSTD + b"\xa4")) is formats.FORMATS["zstd"]
    assert formats.detect(Bytes(skippable * 3 + LZ4 + b"\x64\x40")) is formats.FORMATS["lz4"]


def test_a_name_that_is_no_format_is_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError, match="zstd, lz4, lzop, gzip, xz"):
        formats.by_name("zip")


def test_a_cursor_never_passes_the_end() -> None:
    cursor = Cursor(Bytes(b"0123456789"), ahead=4)
    assert cursor.take(3) == b"012"
    assert cursor.peek(5) == b"34567"
    cursor.skip(6)
    assert cursor.take_some() == b"9"
    assert cursor.at_end
    cursor.give_back(4)
    assert cursor.take(4) == b"6789"
    for beyond in (cursor.take, cursor.skip):
        with pytest.raises(Corrupt, match="ends at byte 10"):
            beyond(1)


def test_a_section_never_shows_what_lies_around_it() -> None:
    section = Section(Bytes(b"0123456789"), 2, 6)
    assert section.read_at(0, 100) == b"2345"
    assert section.read_at(3, 100) == b"5"
    assert section.read_at(4, 100) == b""
    assert section.read_at(9, 1) == b""
