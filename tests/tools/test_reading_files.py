"""Our readers of file systems, held against what the real tools put there."""

from __future__ import annotations

import os
import random
import shutil
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.tools.ext_images import tool
from tests.tools.file_trees import (
    MAKE,
    MIB,
    Held,
    contents,
    differing,
    everything,
    image,
    is_plain,
    reader,
    told,
    tree,
)

from virtstore.errors import Corrupt, NotFound, Unsupported, UsageError
from virtstore.filesystems.reading.base import Disk, Node, Reader, Window, soundness
from virtstore.filesystems.reading.registry import open_reader
from virtstore.filesystems.reading.tree import below, listed, look_up


@pytest.fixture(scope="module", params=sorted(MAKE))
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path, Path]]:
    """A kind, an image of it, and the tree that is in it."""
    kind: str = request.param
    where = tmp_path_factory.mktemp(kind)
    top = tree(where / "tree", odd=not is_plain(kind))
    if kind.startswith("xfs"):  # its description of a directory has no spaces in names
        for each in sorted(top.rglob("* *")):
            each.rename(each.with_name(each.name.replace(" ", "_")))
        (top / "link").symlink_to("hello.txt")
    yield kind, image(where / "image", kind, top), top
    shutil.rmtree(where)


Made = tuple[str, Path, Path]


def test_all_files_are_read_byte_for_byte(made: Made) -> None:
    kind, path, top = made
    assert differing(everything(reader(path, kind)), told(top)) == []


def test_times_are_those_of_the_files(made: Made) -> None:
    kind, path, _ = made
    if kind.startswith("xfs"):
        pytest.skip("mkfs.xfs gives all files its own time")
    found = reader(path, kind)
    assert look_up(found, b"/hello.txt").modified == 1_000_000_000 * 10**9


def test_a_file_of_more_parts_than_its_description_has_room_for_is_read(tmp_path: Path) -> None:
    """Its extents, or blocks, are in a tree then."""
    top = tmp_path / "tree"
    top.mkdir()
    with (top / "torn").open("wb") as file:
        for at in range(900):
            file.seek(at * 16384)
            file.write(b"%d" % at)
    for kind in ("ext2", "ext4", "btrfs"):
        path = image(tmp_path / kind, kind, top)
        assert differing(everything(reader(path, kind)), told(top)) == []


def test_links_are_followed_within_the_image_only(tmp_path: Path) -> None:
    path = image(tmp_path / "image", "ext4", tree(tmp_path / "tree"))
    found = reader(path, "ext4")
    assert contents(found, look_up(found, b"link")) == b"hello\n"
    assert look_up(found, b"/through/fstab") == look_up(found, b"etc/fstab")
    assert look_up(found, b"/../../etc/../etc/fstab") == look_up(found, b"etc/fstab")
    with pytest.raises(NotFound, match="no nowhere in / of the image, where gone leads"):
        look_up(found, b"gone")


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    top = tmp_path / "tree"
    top.mkdir()
    (top / "a").symlink_to("b")
    (top / "b").symlink_to("./a")
    found = reader(image(tmp_path / "image", "ext4", top), "ext4")
    with pytest.raises(UsageError, match="in a circle"):
        look_up(found, b"a")


def test_what_is_not_there_is_told_with_where_it_is_not(tmp_path: Path) -> None:
    path = image(tmp_path / "image", "ext4", tree(tmp_path / "tree"))
    found = reader(path, "ext4")
    with pytest.raises(NotFound, match=r"no nginx in /etc of the image"):
        look_up(found, b"/etc/nginx/nginx.conf")
    with pytest.raises(UsageError, match="in it is no directory, but a file"):
        look_up(found, b"/hello.txt/x")


def test_a_journal_that_was_not_replayed_is_told(tmp_path: Path) -> None:
    path = image(tmp_path / "image", "ext4", tree(tmp_path / "tree"))
    assert reader(path, "ext4").notes == ()
    tool("debugfs", "-w", "-R", "feature needs_recovery", str(path))
    assert "not replayed" in reader(path, "ext4").notes[0]


def test_the_log_of_an_xfs_that_was_unmounted_is_known_to_be_clean(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    path = image(tmp_path / "image", "xfs", tmp_path / "tree")
    assert reader(path, "xfs").notes == ()
    head = path.read_bytes()[:512]
    block, start = int.from_bytes(head[4:8]), int.from_bytes(head[48:56])
    group = start >> head[124]
    within = start & ((1 << head[124]) - 1)
    log = (group * int.from_bytes(head[84:88]) + within) * block
    with path.open("r+b") as file:  # the unmount record, become another
        file.seek(log + 512 + 9)
        file.write(b"\0")
    assert "not replayed" in reader(path, "xfs").notes[0]


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "vfat-32"])
def test_no_damage_makes_a_reader_fail_otherwise_or_read_without_end(
    kind: str, tmp_path: Path
) -> None:
    top = tmp_path / "tree"
    (top / "d/e").mkdir(parents=True)
    (top / "d/e/f").write_bytes(b"x" * 70000)
    (top / "g").write_bytes(b"y" * 3000)
    path = image(tmp_path / "image", kind, top)
    held = Held(path)
    seeded = random.Random(kind)
    for _ in range(100):
        read_all(held.damaged(seeded), kind)


def read_all(disk: Disk, kind: str) -> None:
    """Read everything that can be read."""
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        assert steps < 20000

    with suppress(Corrupt, Unsupported, UsageError):
        found = open_reader(kind.partition("-")[0], Window(disk, 0, disk.size))
        for each in below(found, b"/", look_up(found, b"/"), step):
            if each.node and each.node.kind == "file":
                _skim(found, each.node)


def _skim(found: Reader, node: Node) -> None:
    with suppress(Corrupt, Unsupported), soundness():
        for count, _ in enumerate(found.pieces(node)):
            assert count < 1000


def test_a_directory_within_itself_ends(tmp_path: Path) -> None:
    (tmp_path / "tree/a/b").mkdir(parents=True)
    path = image(tmp_path / "image", "ext4", tmp_path / "tree")
    tool("debugfs", "-w", "-R", "unlink /a/b", str(path))
    tool("debugfs", "-w", "-R", "link /a /a/b", str(path))
    found = reader(path, "ext4")
    assert [each.path for each in listed(found, b"/a", look_up(found, b"/a"))] == [b"/a/b"]
    troubles = [each.trouble for each in below(found, b"/", look_up(found, b"/"), lambda: None)]
    assert any("a second time" in trouble for trouble in troubles)


def test_an_image_that_was_cut_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    top = tmp_path / "tree"
    top.mkdir()
    (top / "a").write_bytes(b"first")
    (top / "b").write_bytes(os.urandom(20 * MIB))
    path = image(tmp_path / "image", "ext4", top)
    os.truncate(path, 16 * MIB)
    found = reader(path, "ext4")
    assert contents(found, look_up(found, b"/a")) == b"first"
    with pytest.raises(Corrupt, match="damaged, or the image was cut"):
        contents(found, look_up(found, b"/b"))


def test_directories_that_hold_each_other_many_times_are_each_gone_into_once(
    tmp_path: Path,
) -> None:
    """There would be more paths through them than anybody could list."""
    names = [f"d{number}" for number in range(12)]
    for name in names:
        (tmp_path / "tree" / name).mkdir(parents=True)
    path = image(tmp_path / "image", "ext4", tmp_path / "tree")
    commands = [f"link /{one} /{other}/{one}x" for one in names for other in names]
    (tmp_path / "commands").write_text("\n".join(commands))
    tool("debugfs", "-w", "-f", str(tmp_path / "commands"), str(path))
    found = reader(path, "ext4")
    assert len(list(below(found, b"/", look_up(found, b"/"), lambda: None))) < 400


def test_a_size_that_nothing_can_have_is_told_of_its_file_alone(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for name in ("a", "b"):
        (tmp_path / "tree" / name).write_text(name)
    path = image(tmp_path / "image", "ext4", tmp_path / "tree")
    tool("debugfs", "-w", "-R", "set_inode_field a size 0xffffffffffff0000", str(path))
    found = reader(path, "ext4")
    told_of = {each.path: each.trouble for each in listed(found, b"/", look_up(found, b"/"))}
    assert "which nothing can have" in told_of[b"/a"]
    assert told_of[b"/b"] == ""


def test_a_file_whose_description_leads_into_itself_many_times_has_an_end(tmp_path: Path) -> None:
    """A tree of extents, in each node of which all branches are the same one."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/f").write_bytes(b"x")
    path = image(tmp_path / "image", "ext4", tmp_path / "tree")
    tool("debugfs", "-w", "-R", "set_inode_field f size 1048576", str(path))
    first = path.stat().st_size // 1024 - 6  # blocks of 1 KiB that nobody has
    fields = {"block[0]": 4 << 16 | 0xF30A, "block[1]": 5 << 16 | 4}
    for number in range(3, 15, 3):
        fields |= {f"block[{number}]": 0, f"block[{number + 1}]": first, f"block[{number + 2}]": 0}
    commands = [f"set_inode_field f {name} {value}" for name, value in fields.items()]
    (tmp_path / "commands").write_text("\n".join(commands))
    tool("debugfs", "-w", "-f", str(tmp_path / "commands"), str(path))
    with path.open("r+b") as disk:
        for depth in (4, 3, 2, 1, 0):
            below_it = first + 5 - depth
            entry = struct.pack("<IIHH", 0, below_it, 0, 0)
            if depth == 0:
                entry = struct.pack("<IHHI", 0, 32769, 0, 9)  # reserved, not written
            disk.seek((first + 4 - depth) * 1024)
            disk.write(struct.pack("<4HI", 0xF30A, 84, 84, depth, 0) + entry * 84)
    found = reader(path, "ext4")
    with pytest.raises(Corrupt, match="without end"):
        contents(found, look_up(found, b"/f"))
