"""sfdisk and sgdisk judge: what is read is what they read, and what is changed they find whole,
with nothing else different."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from virtstore.filesystems.base import Device
from virtstore.filesystems.partitions.change import (
    Table,
    Writes,
    apply,
    end_of,
    is_container,
    outstanding,
    read_table,
)
from virtstore.filesystems.partitions.roles import meant
from virtstore.model import Partition
from virtstore.programs import find

MIB = 1 << 20
SECTOR = 512
SECTORS = 16 * MIB // SECTOR
#: Told to, sfdisk does not wait a quarter of a second for a kernel that has no part in this.
SFDISK = ("sfdisk", "-q", "--no-tell-kernel", "--wipe", "never")

# tmp_path is only a place for one file, made anew by each example.
examples = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _run(*argv: str, stdin: str = "", check: bool = True) -> str:
    program = find(argv[0])
    assert program, f"{argv[0]} is not installed"
    said = subprocess.run(
        [program, *argv[1:]],
        input=stdin.encode(),
        capture_output=True,
        check=check,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    return (said.stdout + said.stderr).decode("utf-8", "replace")


@contextmanager
def _opened(path: Path) -> Iterator[Device]:
    with path.open("r+b", buffering=0) as file:
        yield Device(file.fileno(), os.fstat(file.fileno()).st_size)


def _read(path: Path) -> Table:
    with _opened(path) as device:
        return read_table(device)


def _by_sfdisk(path: Path) -> tuple[Partition, ...]:
    program = find("sfdisk")
    assert program
    said = subprocess.run([program, "--json", path], capture_output=True, check=True)
    table = json.loads(said.stdout.decode("utf-8", "replace"))["partitiontable"]
    return tuple(
        Partition(
            number=int(row["node"].removeprefix(str(path)).removeprefix("p")),
            start=row["start"] * SECTOR,
            size=row["size"] * SECTOR,
            type=row["type"],
            name=_printable(row["name"]) if row.get("name") else None,
        )
        for row in table.get("partitions", [])
    )


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name)


def _regions(least: int, most: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    """Runs of sectors (start, end) that do not overlap, with holes or without."""
    points = st.lists(st.integers(least, most), min_size=2, max_size=16, unique=True).map(sorted)
    return points.flatmap(
        lambda p: st.lists(st.booleans(), min_size=len(p) - 1, max_size=len(p) - 1).map(
            lambda kept: [r for r, k in zip(pairwise(p), kept, strict=True) if k]
        )
    )


names = st.text(
    st.characters(exclude_characters='"\\\n', exclude_categories=["Cs", "Cc"]), max_size=17
)
ATTRIBUTES = ("", "RequiredPartition", "LegacyBIOSBootable", "GUID:48,63")
TYPES = ("L", "U", "S", "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7")


@st.composite
def gpt_scripts(draw: st.DrawFn) -> str:
    regions = draw(_regions(34, SECTORS - 34))
    numbers = draw(
        st.lists(st.integers(1, 128), min_size=len(regions), max_size=len(regions), unique=True)
    )
    lines = ["label: gpt\nunit: sectors\nfirst-lba: 34\n"]
    for number, (start, end) in zip(numbers, regions, strict=True):
        name, kind = draw(names), draw(st.sampled_from(TYPES))
        attributes = draw(st.sampled_from(ATTRIBUTES))
        lines.append(
            f'x{number} : start={start}, size={end - start}, type={kind}, name="{name}",'
            f' attrs="{attributes}"\n'
        )
    return "".join(lines)


@st.composite
def mbr_scripts(draw: st.DrawFn) -> str:
    """Up to four primary partitions in any slots, one of them extended, with logical ones."""
    slots = draw(st.permutations([1, 2, 3, 4]))[: draw(st.integers(0, 4))]
    extended = draw(st.sampled_from([0, *slots]))
    lines, end = ["label: dos\nunit: sectors\n"], 1
    logical: list[str] = []
    for slot in slots:
        start = end + draw(st.integers(0, 1000))
        kind = draw(st.sampled_from(["5", "f", "85"] if slot == extended else ["83", "c", "7"]))
        end = start
        if slot == extended:
            logical, end = draw(logical_lines(start))
        end += draw(st.integers(1, 1000))
        bootable = ", bootable" if draw(st.booleans()) else ""
        lines.append(f"x{slot} : start={start}, size={end - start}, type={kind}{bootable}\n")
    return "".join(lines + logical)


@st.composite
def logical_lines(draw: st.DrawFn, start: int) -> tuple[list[str], int]:
    """sfdisk wants 2048 sectors in front of each, the first of which names it."""
    lines = []
    for number in range(5, 5 + draw(st.integers(1, 5))):
        first = start + 2048 + draw(st.integers(0, 100))
        start = first + draw(st.integers(1, 1000))
        lines.append(f"x{number} : start={first}, size={start - first}, type=83\n")
    return lines, start


scripts = st.one_of(gpt_scripts(), mbr_scripts())


def _make(path: Path, script: str, size: int = SECTORS * SECTOR) -> None:
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
    _run(*SFDISK, str(path), stdin=script)


def _mend_gpt(device: Device, change: Callable[[bytearray], None]) -> None:
    """Change the array of a GPT for 512-byte sectors, in both copies, with its checksums."""
    array = bytearray(device.read(1024, 128 * 128))
    change(array)
    for at, array_at in ((512, 1024), (device.size - 512, device.size - 33 * 512)):
        header = bytearray(device.read(at, 92))
        struct.pack_into("<I", header, 88, zlib.crc32(array))
        struct.pack_into("<I", header, 16, 0)
        struct.pack_into("<I", header, 16, zlib.crc32(header))
        os.pwrite(device.fd, array, array_at)
        os.pwrite(device.fd, header, at)


@examples
@given(script=scripts)
def test_partitions_are_read_as_sfdisk_reads_them(tmp_path: Path, script: str) -> None:
    path = tmp_path / "image"
    _make(path, script)
    table = _read(path)
    assert table.partitions == _by_sfdisk(path)
    assert (table.warnings, table.damage, table.measured) == ((), None, True)


@examples
@given(raw=st.binary(min_size=72, max_size=72) | names.map(lambda n: n.encode("utf-16-le")))
def test_a_gpt_name_of_any_bytes_is_read_as_sfdisk_reads_it(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "image"
    _make(path, "label: gpt\nsize=1M\n")

    def rename(array: bytearray) -> None:
        array[56:128] = raw.ljust(72, b"\0")

    with _opened(path) as device:
        _mend_gpt(device, rename)
    assert _read(path).partitions == _by_sfdisk(path)


def _disks(smallest: int) -> st.SearchStrategy[int]:
    """Sizes in sectors: any, and those where a new backup lies upon the old one."""
    near = st.integers(max(smallest, SECTORS - 40), SECTORS + 40)
    return st.one_of(st.integers(smallest, 2 * SECTORS), near, st.sampled_from([smallest, SECTORS]))


class Change:
    """One change of one partition, chosen by `draw` so that there is room for it."""

    def __init__(self, path: Path, draw: st.DrawFn | Callable[..., int]) -> None:
        self.path = path
        self.before = path.read_bytes()
        table = _read(path)
        chosen = [p for p in table.partitions if not is_container(p)]
        assume(chosen)
        partition = chosen[draw(st.integers(0, len(chosen) - 1))]
        self.number = partition.number
        smallest = table.smallest_disk(self.number, 1)
        self.disk = draw(_disks(smallest // SECTOR)) * SECTOR
        most = min(table.room(self.number, self.disk), 2 * SECTORS * SECTOR) - partition.start
        assume(most > 0)
        self.size = draw(st.integers(1, most))
        assume(table.smallest_disk(self.number, self.size) <= self.disk)
        if self.disk > len(self.before):
            os.truncate(path, self.disk)
        self.old = table.partitions

    def plan(self) -> Writes:
        return _read(self.path).resized(self.number, self.size, self.disk)

    def make(self) -> None:
        with _opened(self.path) as device:
            apply(device, self.plan())
        os.truncate(self.path, self.disk)


def _dump(path: Path, number: int) -> list[str]:
    """What sfdisk would need to make this table, but for what was to change: the size of
    that partition, or of the extended one around it, and where a GPT ends."""
    mine = re.compile(rf"{re.escape(str(path))}{number} :|.*type=(5|f|85)\b")
    lines = _run("sfdisk", "--dump", str(path)).splitlines()
    # Where the disk was grown, sfdisk warns; what it calls grain, it guesses from the places.
    told = [line for line in lines if not re.match(r"last-lba|grain|GPT PMBR|The backup", line)]
    return [re.sub(r"size= *\d+", "", line) if mine.match(line) else line for line in told]


@examples
@given(script=scripts, data=st.data())
def test_a_change_leaves_everything_else_as_it_was(
    tmp_path: Path, script: str, data: st.DataObject
) -> None:
    path = tmp_path / "image"
    _make(path, script)
    change = Change(path, data.draw)
    _write_over_partitions(path)
    before, contents = _dump(path, change.number), path.read_bytes()
    change.make()
    after = _read(path)
    assert (after.damage, after.warnings) == (None, ())
    assert after.partitions == _by_sfdisk(path)
    new = {p.number: p for p in after.partitions}
    assert new[change.number].size == -(-change.size // SECTOR) * SECTOR
    assert _dump(path, change.number) == before
    _kept(change, new, contents, path.read_bytes())
    _judged(path)


def _write_over_partitions(path: Path) -> None:
    """Contents for each partition; the table stays."""
    with _opened(path) as device:
        for each in read_table(device).partitions:
            if not is_container(each):
                pattern = bytes([each.number]) * SECTOR
                os.pwrite(device.fd, pattern * (each.size // SECTOR), each.start)


def _kept(change: Change, new: dict[int, Partition], before: bytes, after: bytes) -> None:
    for old in change.old:
        if not is_container(old):
            end = min(end_of(old), end_of(new[old.number]))
            assert after[old.start : end] == before[old.start : end]
    boot = slice(0, 440)
    assert after[boot] == before[boot]


def _judged(path: Path) -> None:
    assert (
        "No errors detected" in _run("sfdisk", "--verify", str(path)) or not _read(path).partitions
    )
    if b"EFI PART" in path.read_bytes()[512:1024]:
        said = _run("sgdisk", "-v", str(path), check=False)
        assert "No problems found" in said, said


@settings(examples, max_examples=15)
@given(script=scripts, data=st.data())
def test_a_change_that_is_cut_short_leaves_old_or_new_and_is_finished_by_the_same_change(
    tmp_path: Path, script: str, data: st.DataObject
) -> None:
    path = tmp_path / "image"
    _make(path, script)
    change = Change(path, data.draw)
    start, writes = path.read_bytes(), change.plan()
    change.make()
    whole, new = path.read_bytes(), _by_sfdisk(path)
    for done in range(len(writes) + 1):
        image = bytearray(start)
        for write in writes[:done]:
            image[write.offset : write.offset + len(write.data)] = write.data
        path.write_bytes(image)
        _same_but_containers(_by_sfdisk(path), (change.old, new))
        _same_but_containers(_read(path).partitions, (change.old, new))
        change.make()
        assert path.read_bytes() == whole, f"after {done} of {len(writes)} writes"


def _same_but_containers(
    found: tuple[Partition, ...], allowed: tuple[tuple[Partition, ...], ...]
) -> None:
    """An extended partition may be larger than it needs to be, for a time."""
    held = [p for p in found if not is_container(p)]
    assert held in [[p for p in each if not is_container(p)] for each in allowed]
    for each in found:
        inside = [p for p in held if p.number >= 5]
        assert not is_container(each) or all(end_of(p) <= end_of(each) for p in inside)


def test_the_last_partition_grows_over_a_disk_that_was_grown(tmp_path: Path) -> None:
    path = tmp_path / "image"
    _make(path, "label: gpt\nsize=2M\nsize=4M\n")
    os.truncate(path, 32 * MIB)
    with _opened(path) as device:
        table = read_table(device)
        assert meant(table.partitions).number == 2
        room = table.room(2, 32 * MIB)
        assert room == 31 * MIB  # the backup takes the last 33 sectors
        writes = table.resized(2, room - meant(table.partitions).start, 32 * MIB)
        assert outstanding(device, writes)
        assert apply(device, writes)
        assert not apply(device, read_table(device).resized(2, 28 * MIB, 32 * MIB))
    assert [end_of(p) for p in _by_sfdisk(path)] == [3 * MIB, 31 * MIB]
    _judged(path)


def test_an_image_is_cut_to_the_smallest_disk_of_its_gpt(tmp_path: Path) -> None:
    path = tmp_path / "image"
    _make(path, "label: gpt\nsize=2M\nsize=9M\n")
    with _opened(path) as device:
        table = read_table(device)
        smallest = table.smallest_disk(2, 3 * MIB)
        assert smallest == 6 * MIB + 33 * SECTOR
        apply(device, table.resized(2, 3 * MIB, smallest))
    os.truncate(path, smallest)
    assert [p.size for p in _by_sfdisk(path)] == [2 * MIB, 3 * MIB]
    assert _read(path).warnings == ()
    _judged(path)


def test_the_extended_partition_goes_with_its_last_logical_one(tmp_path: Path) -> None:
    path = tmp_path / "image"
    script = "label: dos\nsize=2M\nsize=8M,type=5\nstart=4M,size=1M\nstart=6M,size=2M\n"
    _make(path, script)
    with _opened(path) as device:
        apply(device, read_table(device).resized(6, 10 * MIB, 16 * MIB))
        assert [p.size for p in read_table(device).partitions] == [
            2 * MIB,
            13 * MIB,
            1 * MIB,
            10 * MIB,
        ]
        smallest = read_table(device).smallest_disk(6, MIB)
        assert smallest == 7 * MIB
        apply(device, read_table(device).resized(6, MIB, smallest))
    os.truncate(path, smallest)
    assert [p.size for p in _by_sfdisk(path)] == [2 * MIB, 4 * MIB, MIB, MIB]
    _judged(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root")
def test_a_gpt_for_sectors_of_4096_bytes_is_changed_as_sfdisk_has_it(tmp_path: Path) -> None:
    path = tmp_path / "image"
    with path.open("wb") as file:
        file.truncate(16 * MIB)
    with _loop(path) as loop:
        _run("sfdisk", "-q", "--no-reread", loop, stdin="label: gpt\nsize=2M,name=é\nsize=4M\n")
    os.truncate(path, 24 * MIB)
    with _opened(path) as device:
        table = read_table(device)
        assert [(p.start, p.size) for p in table.partitions] == [(MIB, 2 * MIB), (3 * MIB, 4 * MIB)]
        apply(device, table.resized(2, 12 * MIB + 1, 24 * MIB))
        assert read_table(device).warnings == ()
        assert read_table(device).partitions[0].name == "é"
    with _loop(path) as loop:
        assert "No errors detected" in _run("sfdisk", "--verify", loop)
        rows = json.loads(_run("sfdisk", "--json", loop))["partitiontable"]["partitions"]
    assert [(row["start"], row["size"]) for row in rows] == [(256, 512), (768, 3073)]


@contextmanager
def _loop(path: Path) -> Iterator[str]:
    loop = _run("losetup", "--find", "--show", "--sector-size", "4096", str(path)).strip()
    try:
        yield loop
    finally:
        _run("losetup", "--detach", loop)
