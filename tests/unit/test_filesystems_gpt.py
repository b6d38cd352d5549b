"""A GPT is believed only as far as its checksums go, and is never left without a whole copy."""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Callable, Iterator
from itertools import combinations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from virtstore.errors import Corrupt, Error, NotFound, Unsupported, UsageError
from virtstore.filesystems.base import Device
from virtstore.filesystems.partitions.change import Write, Writes, read_table
from virtstore.filesystems.partitions.gpt import Gpt, read_gpt

MIB = 1 << 20
SIZE = 4 * MIB
KIND = uuid.UUID("0FC63DAF-8483-4772-8E79-3D69D8477DE4").bytes_le
#: First and last sector of 512 bytes, or what are eight times as much in sectors of 4096.
TWO = ((64, 1023), (2048, 4095))


def _head(sector: int, size: int, lba: int, array: bytes) -> bytes:
    last = size // sector - 1
    used = -(-len(array) // sector)
    there, entries = (last, 2) if lba == 1 else (1, last - used)
    usable = (2 + used, last - used - 1)
    fields = [lba, there, *usable, b"D" * 16, entries, len(array) // 128, 128, zlib.crc32(array)]
    head = struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, *fields)
    head = head[:16] + struct.pack("<I", zlib.crc32(head)) + head[20:]
    return head.ljust(sector, b"\0")


def gpt_image(
    parts: tuple[tuple[int, int], ...] = TWO, *, sector: int = 512, size: int = SIZE
) -> bytearray:
    scale = sector // 512
    entries = [
        struct.pack(
            "<16s16sQQQ72s", KIND, bytes([n]) * 16, a // scale, (b + 1) // scale - 1, n, b""
        )
        for n, (a, b) in enumerate(parts, 1)
    ]
    array = b"".join(entries).ljust(128 * 128, b"\0")
    image = bytearray(size)
    last = size // sector - 1
    protective = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff" * 3, 1, last)
    image[446:512] = protective + bytes(48) + b"\x55\xaa"
    for lba, at in ((1, 2), (last, last - len(array) // sector)):
        image[lba * sector : (lba + 1) * sector] = _head(sector, size, lba, array)
        image[at * sector : at * sector + len(array)] = array
    return image


NewDevice = Callable[[bytes | bytearray], Device]


def _gpt(device: Device) -> Gpt:
    found = read_table(device)
    assert isinstance(found, Gpt)
    return found


@pytest.mark.parametrize("sector", [512, 4096])
def test_partitions_are_found_whatever_sectors_they_are_for(
    new_device: NewDevice, sector: int
) -> None:
    table = _gpt(new_device(gpt_image(sector=sector)))
    assert table.sector == sector
    assert [(p.number, p.start, p.size) for p in table.partitions] == [
        (1, 32 << 10, 480 << 10),
        (2, MIB, MIB),
    ]
    assert (table.warnings, table.damage) == ((), None)


@pytest.mark.parametrize("at", [512 + 24, 1024 + 40], ids=["header", "entries"])
def test_a_damaged_primary_is_shown_by_its_backup_and_not_changed(
    new_device: NewDevice, at: int
) -> None:
    image = gpt_image()
    image[at + 64] ^= 0xFF  # no last LBA, which an interrupted change leaves different
    table = _gpt(new_device(image))
    assert [p.number for p in table.partitions] == [1, 2]
    assert "damaged" in table.warnings[0]
    with pytest.raises(Corrupt, match="gdisk"):
        table.resized(2, 2 * MIB, SIZE)


@pytest.mark.parametrize("at", [SIZE - 512 + 40, SIZE - 33 * 512 + 64], ids=["header", "entries"])
def test_a_damaged_backup_is_not_written_over(new_device: NewDevice, at: int) -> None:
    image = gpt_image()
    image[at] ^= 0xFF
    table = _gpt(new_device(image))
    assert "backup" in table.warnings[0]
    with pytest.raises(Corrupt, match="gdisk"):
        table.resized(2, 2 * MIB, SIZE)


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        (((64, 1023), (1023, 4000)), "overlap"),
        (((64, 1023), (2048, SIZE // 512 + 5)), "behind the end"),
        (((20, 1023), (2048, 4095)), "where none can"),
        (((64, 1023), (2048, 2046)), "where none can"),
    ],
)
def test_partitions_that_cannot_be_are_not_changed(
    new_device: NewDevice, parts: tuple[tuple[int, int], ...], says: str
) -> None:
    table = _gpt(new_device(gpt_image(parts)))
    assert says in table.warnings[0]
    with pytest.raises(Corrupt, match=says):
        table.resized(1, MIB // 8, SIZE)


def test_two_tables_for_different_sectors_are_not_chosen_between(new_device: NewDevice) -> None:
    image = gpt_image()
    backup = slice(SIZE - 5 * 4096, SIZE)
    image[backup] = gpt_image(sector=4096)[backup]
    device = new_device(image)
    assert read_gpt(device, 512)
    assert read_gpt(device, 4096)
    with pytest.raises(Corrupt, match="two GPTs"):
        read_table(device)


@pytest.mark.parametrize(
    ("offset", "value"), [(80, 1 << 20), (84, 100), (84, 0), (80, 0), (12, 600)]
)
def test_what_a_header_claims_is_bounded(new_device: NewDevice, offset: int, value: int) -> None:
    image = gpt_image()
    for at in (512, SIZE - 512):
        struct.pack_into("<I", image, at + offset, value)
        struct.pack_into("<I", image, at + 16, 0)
        struct.pack_into("<I", image, at + 16, zlib.crc32(image[at : at + 92]))
    table = read_table(new_device(image))
    assert not isinstance(table, Gpt)
    assert not table.measured
    assert table.damage


def _with_array_at(image: bytearray, header: int, lba: int) -> None:
    """The header at this byte says, with checksums that hold, that its array begins there."""
    struct.pack_into("<Q", image, header + 72, lba)
    struct.pack_into("<I", image, header + 88, zlib.crc32(image[lba * 512 :][: 128 * 128]))
    struct.pack_into("<I", image, header + 16, 0)
    struct.pack_into("<I", image, header + 16, zlib.crc32(image[header : header + 92]))


@pytest.mark.parametrize("lba", [SIZE // 512 - 31, SIZE // 512 - 1, SIZE // 512, 1 << 40])
def test_an_array_that_the_disk_ends_in_is_not_whole(new_device: NewDevice, lba: int) -> None:
    image = gpt_image()
    _with_array_at(image, 512, lba)
    table = _gpt(new_device(image))
    assert [p.number for p in table.partitions] == [1, 2]  # as the backup has them
    assert "only the backup is whole" in (table.damage or "")
    _with_array_at(image, SIZE - 512, lba)
    assert not isinstance(read_table(new_device(image)), Gpt)


def test_partitions_where_no_disk_reaches_are_refused(new_device: NewDevice) -> None:
    with pytest.raises(Corrupt, match="partition 1"):
        read_table(new_device(gpt_image(((2048, 2**63),))))


def test_a_gpt_that_the_mbr_does_not_tell_of_leaves_it_open_which_of_them_counts(
    new_device: NewDevice,
) -> None:
    image = gpt_image()
    image[450] = 0x83  # the type of the protective record
    table = read_table(new_device(image))
    assert "which of them counts cannot be told" in (table.damage or "")
    assert not table.measured
    image[512:520] = bytes(8)  # a GPT that is not there does not matter
    assert read_table(new_device(image)).damage is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 40 * 512), junk=st.binary(min_size=1, max_size=64), end=st.booleans())
def test_junk_in_a_table_is_answered_for(
    new_device: NewDevice, at: int, junk: bytes, end: bool
) -> None:
    image = gpt_image()
    at = SIZE - 40 * 512 + at if end else at
    image[at : at + len(junk)] = junk
    try:
        table = read_table(new_device(image[:SIZE]))
    except Error:
        return
    assert table.damage or [p.number for p in table.partitions] == [1, 2]


def _after(image: bytearray, writes: Writes, size: int = 0) -> bytearray:
    changed = image.ljust(size, b"\0")
    for offset, data in writes:
        changed[offset : offset + len(data)] = data
    return changed


def _torn(image: bytearray, write: Write, sector: int) -> Iterator[bytearray]:
    """What a write may leave that was cut short: any of the sectors that it changes."""
    pieces = [
        Write(write.offset + at, write.data[at : at + sector])
        for at in range(0, len(write.data), sector)
        if image[write.offset + at :][: len(write.data[at : at + sector])]
        != write.data[at : at + sector]
    ]
    for count in (
        range(len(pieces) + 1) if len(pieces) < 8 else (0, 1, len(pieces) - 1, len(pieces))
    ):
        for chosen in combinations(pieces, count):
            yield _after(bytearray(image), chosen)


@pytest.mark.parametrize("sector", [512, 4096])
@pytest.mark.parametrize(
    ("size", "disk"),
    [
        (MIB // 2, SIZE),
        (MIB // 2, SIZE - 4096),
        (MIB // 2, SIZE - MIB),
        (3 * MIB // 2, SIZE),
        (4 * MIB, 2 * SIZE),
        (MIB, SIZE + 8192),
    ],
)
def test_a_write_that_is_torn_leaves_old_or_new_and_is_finished_by_the_same_change(
    new_device: NewDevice, size: int, disk: int, sector: int
) -> None:
    image = gpt_image(sector=sector).ljust(max(SIZE, disk), b"\0")
    device = new_device(image)
    writes = _gpt(device).resized(2, size, disk)
    whole = _after(bytearray(image), writes)[:disk]
    done = bytearray(image)
    seen = set()
    for write in writes:
        for torn in _torn(done, write, sector):
            table = _gpt(new_device(torn))
            seen.add(table.partitions[1].size)
            assert table.partitions[0].size == 480 << 10
            # Or a resize would take it for somebody's data, and refuse to go on.
            assert _foreign(torn, table, new_device(torn), disk) == []
            again = _after(torn, table.resized(2, size, disk))
            assert again[:disk] == whole
        done = _after(done, (write,))
    assert seen == {MIB, size}


def _foreign(image: bytearray, table: Gpt, device: Device, disk: int) -> list[int]:
    """The sectors that are not zero, that lie behind all partitions where the table for `disk`
    would lie or be cut off, and that the table does not know for its own."""
    end = max(p.start + p.size for p in table.partitions)
    start = max(end, min(disk, table.backup(disk)))
    return [
        at
        for at in range(start // 512 * 512, len(image), 512)
        if any(image[at : at + 512]) and table.own(device, at, at + 512) < at + 512
    ]


@pytest.mark.parametrize("sector", [512, 4096])
@pytest.mark.parametrize("at", [-33 * 4096 - 512, -33 * 512, -5000, -512])
def test_what_is_not_of_the_table_is_not_taken_for_its_own(
    new_device: NewDevice, sector: int, at: int
) -> None:
    """Where a disk ends that was grown, and where it ended before."""
    for place in (SIZE, SIZE + MIB):
        image = gpt_image(sector=sector).ljust(SIZE + MIB, b"\0")
        image[place + at : place + at + 8] = b"precious"
        device = new_device(image)
        assert _gpt(device).own(device, place + at, place + at + 8) <= place + at


@pytest.mark.parametrize("sector", [512, 4096])
def test_where_a_disk_ended_before_it_was_grown_the_table_knows_its_copy(
    new_device: NewDevice, sector: int
) -> None:
    device = new_device(gpt_image(sector=sector).ljust(2 * SIZE, b"\0"))
    table = _gpt(device)
    image = bytearray(device.read(0, device.size))
    assert any(image[3 * MIB :])
    assert table.own(device, 3 * MIB, 2 * SIZE) == 2 * SIZE
    assert _foreign(image, table, device, 3 * MIB) == []


def test_another_disks_table_is_not_taken_for_its_own(new_device: NewDevice) -> None:
    other = gpt_image(size=2 * SIZE)
    head = bytearray(other[-512:])
    head[56:72] = b"E" * 16  # its GUID
    head[16:20] = bytes(4)
    head[16:20] = struct.pack("<I", zlib.crc32(head[:92]))
    image = gpt_image(((64, 1023),)).ljust(2 * SIZE, b"\0")
    image[-33 * 512 :] = other[-33 * 512 : -512] + head
    device = new_device(image)
    table = _gpt(device)
    assert 2 * SIZE - 512 in _foreign(image, table, device, 2 * SIZE)


@pytest.mark.parametrize("sector", [512, 4096])
def test_a_copy_counts_for_the_tables_own_by_its_header_and_its_sectors_wherever_it_lies(
    new_device: NewDevice, sector: int
) -> None:
    whole = gpt_image(sector=sector).ljust(4 * SIZE, b"\0")
    copy = whole[SIZE - 128 * 128 - sector : SIZE]
    other = bytearray(copy)
    other[128 + 56] ^= 1  # the name of its second partition: the checksum is of another array
    at = 3 * SIZE - len(copy)
    for told, own in (
        (copy, len(copy)),
        (copy[:-sector], len(copy)),  # its header is gone
        (bytes(len(copy) - sector) + copy[-sector:], len(copy)),
        (copy[sector:], len(copy)),
        (other, 0),
        (copy[:-sector] + b"X" + copy[1 - sector :], len(copy) - sector),
    ):
        image = bytearray(whole)
        image[at : at + len(told)] = told
        device = new_device(image)
        assert _gpt(device).own(device, at, 3 * SIZE) == at + own


@pytest.mark.parametrize("sector", [512, 4096])
def test_an_older_array_counts_where_its_header_vouches_for_it(
    new_device: NewDevice, sector: int
) -> None:
    image = gpt_image(sector=sector, size=2 * SIZE)
    copy = gpt_image(((64, 1023),), sector=sector)[SIZE - 128 * 128 - sector : SIZE]
    image[SIZE - len(copy) : SIZE] = copy
    device = new_device(image)
    assert _gpt(device).own(device, SIZE - len(copy), SIZE + 1) == SIZE + 1
    image[SIZE - sector : SIZE] = bytes(sector)
    assert _gpt(new_device(image)).own(device, SIZE - len(copy), SIZE) == SIZE - len(copy)


def test_the_copy_is_zeroed_that_a_disk_has_where_it_ended_before(new_device: NewDevice) -> None:
    image = gpt_image().ljust(2 * SIZE, b"\0")
    device = new_device(image)
    table = _gpt(device)
    writes = table.resized(2, MIB, 2 * SIZE) + table.left_behind(device, 2 * SIZE)
    after = _after(image, writes)
    assert after[2 * MIB : -33 * 512] == bytes(2 * SIZE - 33 * 512 - 2 * MIB)
    now = _gpt(new_device(after))
    assert now.left_behind(new_device(after), 2 * SIZE) == ()
    assert (now.damage, now.warnings) == (None, ())


def test_a_gpt_keeps_all_but_the_end_of_one_partition(new_device: NewDevice) -> None:
    device = new_device(gpt_image().ljust(2 * SIZE, b"\0"))
    changed = _after(gpt_image(), _gpt(device).resized(2, 3 * MIB, 2 * SIZE), 2 * SIZE)
    after = _gpt(new_device(changed))
    assert after.header.guid == b"D" * 16
    assert after.array[:128] == _gpt(new_device(gpt_image())).array[:128]
    assert after.array[128 : 128 + 40] == KIND + b"\2" * 16 + struct.pack("<Q", 2048)
    assert after.header.alternate == 2 * SIZE // 512 - 1
    assert struct.unpack_from("<I", changed, 446 + 12) == (2 * SIZE // 512 - 1,)
    assert after.header.last_usable == 2 * SIZE // 512 - 34


def test_what_cannot_be_is_refused_and_says_what_can(new_device: NewDevice) -> None:
    table = _gpt(new_device(gpt_image()))
    with pytest.raises(NotFound, match="there are: 1, 2"):
        table.resized(3, MIB, SIZE)
    with pytest.raises(UsageError, match=f"{MIB - (32 << 10)} bytes"):
        table.resized(1, MIB, SIZE)
    with pytest.raises(UsageError, match="0 bytes"):
        table.resized(1, 0, SIZE)
    with pytest.raises(UsageError, match=f"need a disk of {2 * MIB + 33 * 512} bytes"):
        table.resized(1, MIB // 4, 2 * MIB)
    assert table.smallest_disk(1, 1) == 2 * MIB + 33 * 512
    assert table.room(1, SIZE) == MIB
    assert table.room(2, SIZE) == 3 * MIB


def test_a_partition_of_a_hybrid_mbr_is_not_changed(new_device: NewDevice) -> None:
    image = gpt_image()
    image[462:478] = struct.pack("<B3sB3sII", 0, b"", 0x83, b"", 2048, 2048)
    table = _gpt(new_device(image))
    with pytest.raises(Unsupported, match="hybrid"):
        table.resized(2, MIB // 2, SIZE)
    assert all(write.offset for write in table.resized(1, MIB // 4, SIZE))
