"""ext: the exact commands, what their output means, and what is refused without them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from virtstore import run
from virtstore.errors import Corrupt, Error, InUse, Unsafe, Unsupported, UsageError
from virtstore.filesystems import ext
from virtstore.filesystems.base import Device, Resized
from virtstore.filesystems.ext import Ext

BLOCKS = 100
IMAGE = 1 << 20
CHECK = ("e2fsck", "-f", "-n", "-C", "0")
ESTIMATE = ("resize2fs", "-P")
PREEN = ("e2fsck", "-f", "-p", "-C", "0")


def _superblock(blocks: int = BLOCKS, *, state: int = 1) -> bytes:
    """Blocks of 1 KiB."""
    raw = bytearray(1024)
    raw[0x04:0x08] = blocks.to_bytes(4, "little")
    raw[0x38:0x3C] = b"\x53\xef" + state.to_bytes(2, "little")
    return bytes(raw)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with (tmp_path / "image").open("w+b") as image:
        image.truncate(IMAGE)
        os.pwrite(image.fileno(), _superblock(), 1024)
        yield Device(image.fileno(), IMAGE)


class Tools:
    """Stands in for e2fsprogs: notes what is run, answers as told, and "resizes"."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.ran: list[tuple[str, ...]] = []
        self.spared: list[bool] = []
        self.answers: dict[tuple[str, ...], tuple[int, bytes]] = {
            ESTIMATE: (0, b"Estimated minimum size of the filesystem: 40\n")
        }
        self.excess = 0

    def __call__(
        self, argv: Sequence[str], *, confined: bool, outlives_us: bool = False, **_: object
    ) -> run.Completed:
        assert confined
        self.ran.append(tuple(argv))
        self.spared.append(outlives_us)
        status, said = self.answers.get(tuple(argv[:-1]), (0, b""))
        if argv[0] == "resize2fs" and argv[1] != "-P":
            status, said = self.answers.get(("resize2fs",), (0, b""))
            if status == 0:
                blocks = int(argv[-1]) + self.excess
                os.pwrite(self.device.fd, _superblock(blocks), self.device.start + 1024)
        return run.Completed(tuple(argv), status, said, b"")


@pytest.fixture
def tools(device: Device, monkeypatch: pytest.MonkeyPatch) -> Tools:
    tools = Tools(device)
    monkeypatch.setattr(run, "run", tools)
    return tools


def test_growing_checks_resizes_to_explicit_blocks_and_checks_again(
    device: Device, tools: Tools
) -> None:
    assert Ext().grow(device) == Resized(IMAGE, changed=True)
    path = device.path
    assert tools.ran == [
        ("e2fsck", "-f", "-n", "-C", "0", path),
        ("e2fsck", "-f", "-p", "-C", "0", path),
        ("resize2fs", "-p", path, "1024"),
        ("e2fsck", "-f", "-n", "-C", "0", path),
    ]
    assert tools.spared == [False, True, True, False]


def test_a_size_is_rounded_down_to_whole_blocks(device: Device, tools: Tools) -> None:
    assert Ext().grow(device, 200 * 1024 + 1023).size == 200 * 1024
    assert ("resize2fs", "-p", device.path, "200") in tools.ran


def test_one_with_a_journal_to_replay_is_mended_without_being_judged_first(
    device: Device, tools: Tools
) -> None:
    os.pwrite(device.fd, _superblock(state=0), 1024)
    Ext().grow(device)
    assert tools.ran[0] == (*PREEN, device.path)


@pytest.mark.parametrize("size", [BLOCKS * 1024, BLOCKS * 1024 + 1])
def test_a_file_system_that_is_as_large_as_asked_is_checked_and_not_touched(
    device: Device, tools: Tools, size: int
) -> None:
    assert Ext().grow(device, size) == Resized(BLOCKS * 1024, changed=False)
    assert tools.ran == [(*CHECK, device.path)]


def test_a_size_beyond_the_image_is_refused_and_the_largest_named(
    device: Device, tools: Tools
) -> None:
    with pytest.raises(UsageError, match="1048576"):
        Ext().grow(device, IMAGE + 1)
    assert tools.ran == []


def test_growing_to_less_points_at_shrinkfs(device: Device, tools: Tools) -> None:
    with pytest.raises(UsageError, match="shrinkfs"):
        Ext().grow(device, BLOCKS * 1024 - 1)
    assert tools.ran == []


def test_a_file_system_larger_than_its_image_is_refused(device: Device, tools: Tools) -> None:
    os.pwrite(device.fd, _superblock(4096), 1024)
    with pytest.raises(Corrupt, match="the image was cut"):
        Ext().grow(device)
    assert tools.ran == []


def test_what_has_no_superblock_is_refused(device: Device, tools: Tools) -> None:
    os.pwrite(device.fd, bytes(1024), 1024)
    with pytest.raises(Corrupt, match="no ext superblock"):
        Ext().grow(device)


@pytest.mark.parametrize(
    ("status", "said", "error", "says"),
    [
        (4, b"e2fsck 1.47.0\nPass 1: x\nRoot inode is gone.  Clear? no\n", Corrupt, "Root inode"),
        (8, b"/proc/self/fd/3 has unsupported feature(s): FEATURE_I31\n", Unsupported, "I31"),
        (12, b"e2fsck: MMP: device currently active\n", InUse, "clear_mmp"),
    ],
)
def test_a_file_system_that_fails_its_check_is_refused_untouched(
    device: Device, tools: Tools, status: int, said: bytes, error: type[Error], says: str
) -> None:
    tools.answers[CHECK] = (status, said)
    with pytest.raises(error, match=says):
        Ext().grow(device)
    assert tools.ran == [(*CHECK, device.path)]


def test_mended_will_do_and_given_up_will_not(device: Device, tools: Tools) -> None:
    tools.answers[PREEN] = (1, b"")
    assert Ext().grow(device, 200 << 10).changed
    tools.answers[PREEN] = (4, b"it is bad\n")
    with pytest.raises(Corrupt, match=r"it is bad.*e2fsck -f"):
        Ext().grow(device)
    assert tools.ran[-1][0] == "e2fsck"


def test_a_resize_that_failed_tells_whether_the_file_system_is_whole(
    device: Device, tools: Tools
) -> None:
    tools.answers["resize2fs",] = (1, b"resize2fs 1.47.0\nresize2fs: New size too large\n")
    with pytest.raises(Error, match=r"New size too large.*passes its check"):
        Ext().grow(device)


def test_a_tool_that_changes_the_images_length_is_found_out(
    device: Device, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cuts(argv: Sequence[str], **more: bool) -> run.Completed:
        if argv[0] == "resize2fs":
            os.ftruncate(device.fd, 200 << 10)
        return tools(argv, confined=more["confined"])

    monkeypatch.setattr(run, "run", cuts)
    with pytest.raises(Corrupt, match="from 1048576 bytes to 204800"):
        Ext().grow(device, 200 << 10)


def test_without_a_way_to_keep_the_images_length_nothing_is_tried(
    device: Device, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ext, "keeps_length", lambda: False)
    with pytest.raises(Unsupported, match="processor"):
        Ext().grow(device)
    assert tools.ran == []


def test_shrinking_asks_for_the_minimum_before_it_changes_anything(
    device: Device, tools: Tools
) -> None:
    assert Ext().shrink(device, 50 * 1024 + 1) == Resized(50 * 1024, changed=True)
    path = device.path
    assert tools.ran == [
        (*CHECK, path),
        (*ESTIMATE, path),
        (*PREEN, path),
        (*ESTIMATE, path),
        ("resize2fs", "-p", path, "50"),
        (*CHECK, path),
    ]
    assert tools.spared == [False, False, True, False, True, False]


def test_shrinking_below_the_minimum_is_refused_before_anything_is_written(
    device: Device, tools: Tools
) -> None:
    with pytest.raises(Unsafe, match="smallest size that holds it is 40960 bytes"):
        Ext().shrink(device, 40 * 1024 - 1)
    assert True not in tools.spared


def test_a_shrink_whose_minimum_is_not_known_is_refused(device: Device, tools: Tools) -> None:
    tools.answers[ESTIMATE] = (1, b"Please run 'e2fsck -f x' first.\n")
    with pytest.raises(Unsafe, match="cannot tell"):
        Ext().shrink(device, 50 * 1024)
    assert True not in tools.spared


def test_as_far_as_it_goes_ends_when_the_minimum_stays(device: Device, tools: Tools) -> None:
    assert Ext().shrink(device, None) == Resized(40 * 1024, changed=True)
    resizes = [argv for argv in tools.ran if argv[:2] == ("resize2fs", "-p")]
    assert resizes == [("resize2fs", "-p", device.path, "40")]


def test_one_that_is_small_enough_is_checked_and_not_changed(device: Device, tools: Tools) -> None:
    assert Ext().shrink(device, IMAGE) == Resized(BLOCKS * 1024, changed=False)
    assert tools.ran == [(*CHECK, device.path)]
    tools.answers[CHECK] = (4, b"it is bad\n")
    with pytest.raises(Corrupt, match="it is bad"):
        Ext().shrink(device, IMAGE)


def test_one_that_ends_behind_what_was_asked_is_never_called_shrunk(
    device: Device, tools: Tools
) -> None:
    tools.excess = 1
    with pytest.raises(Corrupt, match="does not end within 51200 bytes"):
        Ext().shrink(device, 50 * 1024)


def test_a_shrink_that_failed_tells_whether_the_file_system_is_whole(
    device: Device, tools: Tools
) -> None:
    tools.answers["resize2fs",] = (1, b"resize2fs 1.47.0\nresize2fs: No space left on device\n")
    with pytest.raises(Error, match=r"No space left on device.*passes its check"):
        Ext().shrink(device, 50 * 1024)
    assert [argv[:-1] for argv in tools.ran[-2:]] == [PREEN, CHECK]


def test_a_resize_that_left_damage_says_so(
    device: Device, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools.answers["resize2fs",] = (1, b"resize2fs: it went wrong\n")

    def damages(argv: Sequence[str], **more: bool) -> run.Completed:
        said = tools(argv, confined=True, outlives_us=more.get("outlives_us", False))
        if argv[:2] == ("resize2fs", "-p"):
            tools.answers[PREEN] = (4, b"it is bad\n")
        return said

    monkeypatch.setattr(run, "run", damages)
    with pytest.raises(Corrupt, match=r"left the file system damaged \(resize2fs: it went wrong"):
        Ext().shrink(device, 50 * 1024)


def test_a_partition_is_named_by_its_offset(device: Device, tools: Tools) -> None:
    os.pwrite(device.fd, _superblock(), 65536 + 1024)
    tools.device = part = device.part(65536, 512 * 1024)
    assert Ext().grow(part) == Resized(512 * 1024, changed=True)
    assert {argv[-1] for argv in tools.ran if argv[0] == "e2fsck"} == {
        f"{device.path}?offset=65536"
    }
    assert ("resize2fs", "-p", f"{device.path}?offset=65536", "512") in tools.ran


def test_one_whose_check_fell_back_on_a_backup_is_refused_untouched(
    device: Device, tools: Tools
) -> None:
    tools.answers[CHECK] = (0, b"e2fsck: Group descriptors look bad... trying backup blocks...\n")
    for change in (Ext().grow, Ext().shrink):
        with pytest.raises(Corrupt, match="Group descriptors look bad"):
            change(device, 200 << 10)
    assert True not in tools.spared
