"""A block device as an image: by which names it is reached, what is refused, and what a copy that
was cut short leaves on it. Devices are loop devices; what needs partitions, swap or LVM is looked
at in the lab (tests/lab/inside/test_block_devices.py)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.contract.stores import looped
from tests.tools.kills import agent_of
from tests.waiting import PATIENCE

import virtstore
from virtstore import linux
from virtstore.agent.config import load
from virtstore.agent.policy import Policy
from virtstore.backends.block_device.image import _FIRST
from virtstore.backends.block_device.root import BlockDeviceRoot
from virtstore.backends.block_device.store import BlockDevice
from virtstore.errors import Denied, NotFound

from .test_agent_commands import MIB, told
from .test_agent_commands import virtstore as command

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root attaches loop devices")
SIZE = 32 * MIB


class Place(NamedTuple):
    """A configured `link` to the `device`, which `backing` has the bytes of, and `images`, a
    directory that is configured as well, for writing."""

    link: Path
    device: str
    backing: Path
    images: Path
    configuration: Path


@pytest.fixture
def links() -> Iterator[Callable[[str, str], Path]]:
    """Makes links below /dev, which are gone in the end."""
    made: set[Path] = set()

    def link(name: str, to: str) -> Path:
        path = Path(f"/dev/virtstore-test-{os.getpid()}-{name}")
        made.add(path)
        path.unlink(missing_ok=True)
        path.symlink_to(to)
        return path

    yield link
    for path in made:
        path.unlink(missing_ok=True)


@contextmanager
def disk(path: Path, size: int = SIZE) -> Iterator[str]:
    with path.open("wb") as file:
        file.write(os.urandom(MIB))
        file.truncate(size)
    with looped(path) as device:
        yield device


@pytest.fixture
def place(
    tmp_path: Path, links: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    images = tmp_path / "images"
    images.mkdir(mode=0o700)
    configuration = tmp_path / "config.toml"
    monkeypatch.setenv("VIRTSTORE_CONFIG", str(configuration))
    with disk(tmp_path / "disk") as device:
        link = links("disk", device)
        configure(configuration, images, link)
        yield Place(link, device, tmp_path / "disk", images, configuration)


def configure(file: Path, images: Path, *devices: Path, access: str = "write") -> None:
    tables = [f'[[directory]]\npath = "{images}"\naccess = "write"\n']
    tables += [f'[[block_device]]\npath = "{each}"\naccess = "{access}"\n' for each in devices]
    file.write_text("".join(tables))


def refused(*arguments: object, status: int) -> str:
    error = told(*arguments, status=status)["error"]
    return f"{error['code']}: {error['message']}"


def image(place: Place, size: int, name: str = "x.img") -> Path:
    path = place.images / name
    path.write_bytes(os.urandom(size))
    return path


def device_bytes(place: Place) -> bytes:
    subprocess.run(["blockdev", "--flushbufs", place.device], check=True)
    return place.backing.read_bytes()


def test_a_device_is_copied_to_and_from_compared_listed_and_told(place: Place) -> None:
    source = image(place, 5 * MIB + 512)
    told("copy", "--overwrite", source, place.link)
    assert device_bytes(place) == source.read_bytes().ljust(SIZE, b"\0")
    back = place.images / "back.img"
    told("copy", place.link, back)
    assert back.read_bytes() == device_bytes(place)
    assert told("diff", place.link, back)["different"] == 0
    info = told("info", place.link)
    assert (info["type"], info["size"], info["state"]) == ("block", SIZE, "complete")
    [entry] = [each for each in told("list", "-l", "local:") if each["type"] == "block"]
    assert (entry["path"], entry["size"]) == (str(place.link), SIZE)
    [root] = told("storage-info", "local:")["places"]
    assert root == {
        "path": str(place.link), "access": "write", "type": "block", "total": SIZE, "free": 0,
    }  # fmt: skip
    again = told("copy-contents", source, place.link)
    assert (again["written"], device_bytes(place)[: 5 * MIB]) == (0, source.read_bytes()[: 5 * MIB])


def test_what_is_behind_the_source_is_zeros_of_an_archive_too(place: Place) -> None:
    source = image(place, 3 * MIB)
    told("copy", "--archive", source, place.images / "x.img.zst")
    told("copy", "--overwrite", place.images / "x.img.zst", place.link)
    assert device_bytes(place) == source.read_bytes().ljust(SIZE, b"\0")


def test_of_a_source_that_was_cut_it_is_said_that_something_is_missing(place: Place) -> None:
    source = image(place, MIB)
    subprocess.run(["mkfs.ext4", "-q", "-F", source, "24M"], check=True)
    os.truncate(source, 20 * MIB)
    [missing, no_note] = told("copy", "--overwrite", source, place.link)["warnings"]
    assert "what is missing of the source is missing of it, too" in missing
    assert "there can be no note" in no_note


def test_every_link_to_a_device_is_the_one_image(
    place: Place, links: Callable[[str, str], Path]
) -> None:
    source = image(place, MIB)
    other = links("other", place.device)
    told("copy", "--overwrite", source, other)
    assert device_bytes(place) == source.read_bytes().ljust(SIZE, b"\0")
    for path in (place.link, other, place.device):
        assert told("info", path)["path"] == str(path)
    for one, another in ((place.link, other), (place.device, place.link)):
        assert "the same image" in refused("copy", "--overwrite", one, another, status=2)


def test_a_link_elsewhere_than_in_dev_is_none_to_it(place: Place, tmp_path: Path) -> None:
    link = place.images / "link"
    link.symlink_to(place.device)
    assert "symbolic link" in refused("info", link, status=5)
    (tmp_path / "link").symlink_to(place.device)
    assert "allows nothing here" in refused("info", tmp_path / "link", status=5)


def test_a_link_that_was_turned_leads_to_the_other_device_and_its_old_one_is_not_allowed(
    place: Place, tmp_path: Path, links: Callable[[str, str], Path]
) -> None:
    source, before = image(place, MIB), device_bytes(place)
    with disk(tmp_path / "second") as second:
        links("disk", second)
        told("copy", "--overwrite", source, place.link)
        assert device_bytes(place) == before
        assert "allows nothing here" in refused("info", place.device, status=5)


def test_a_link_that_turns_while_it_is_looked_up_is_not_followed(
    place: Place, tmp_path: Path, links: Callable[[str, str], Path]
) -> None:
    root = BlockDeviceRoot(str(place.link), "write")
    inside = root.below(str(place.link))
    assert inside
    with disk(tmp_path / "second") as second:
        links("disk", second)
        anchor = root.anchor("")
        with pytest.raises(NotFound, match="another device than a moment ago"):
            root.open(anchor, *inside.rsplit("/", 1))
        os.close(anchor)


def test_a_session_goes_on_with_the_device_that_it_began_with_or_not_at_all(
    place: Place, tmp_path: Path, links: Callable[[str, str], Path]
) -> None:
    policy = Policy(load(str(place.configuration)))
    with policy.image(str(place.link), "write") as found:
        assert found.store.find(found.name)
    with disk(tmp_path / "second") as second:
        links("disk", second)
        with (
            pytest.raises(NotFound, match="another device than a moment ago"),
            policy.image(str(place.link), "write"),
        ):
            pass


def test_without_overwrite_it_is_said_what_would_be_lost(place: Place) -> None:
    subprocess.run(["mkfs.ext4", "-q", "-F", "-L", "precious", place.device], check=True)
    source, before = image(place, MIB), device_bytes(place)
    said = refused("copy", source, place.link, status=4)
    assert "--overwrite" in said
    assert "ext4 precious" in said
    assert device_bytes(place) == before


def test_a_dry_run_changes_nothing(place: Place) -> None:
    source, before = image(place, MIB), device_bytes(place)
    told("copy", "--dry-run", "--overwrite", source, place.link)
    told("copy-contents", "--dry-run", source, place.link)
    assert device_bytes(place) == before


def test_a_larger_source_is_refused_before_anything_changes(place: Place) -> None:
    source, before = image(place, SIZE + 512), device_bytes(place)
    for verb in (("copy", "--overwrite"), ("copy-contents",)):
        said = refused(*verb, source, place.link, status=7)
        assert "make the source smaller" in said
    assert device_bytes(place) == before


def test_a_damaged_archive_changes_nothing(place: Place) -> None:
    source, before = image(place, 4 * MIB), device_bytes(place)
    archive = place.images / "x.img.zst"
    told("copy", "--archive", source, archive)
    with archive.open("r+b") as file:
        file.seek(archive.stat().st_size - 2 * MIB)
        file.write(b"damage")
    refused("copy", "--overwrite", archive, place.link, status=9)
    assert device_bytes(place) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "{}", "1M"), ("delete", "{}"), ("grow", "{}", "+1M"), ("shrink", "{}", "1M"),
        ("shrink", "{}", "1M", "--discard-data"), ("snapshot", "{}"), ("resize", "{}", "minimum"),
        ("resize", "{}", "16M"), ("copy", "--snapshot", "{}", "{images}/y.img"),
    ],
)  # fmt: skip
def test_what_a_device_cannot_is_unsupported_and_it_is_said_what_can_be_done(
    place: Place, arguments: tuple[str, ...]
) -> None:
    subprocess.run(["mkfs.ext4", "-q", "-F", place.device, "16M"], check=True)
    before = device_bytes(place)
    words = [word.format(place.link, images=place.images) for word in arguments]
    assert "'virtstore copy" in refused(*words, status=11)
    assert device_bytes(place) == before


def test_it_holds_no_archive(place: Place) -> None:
    source = image(place, MIB)
    for words in (
        ("compress", place.link),
        ("copy", "--archive", "--overwrite", source, place.link),
    ):
        assert "a block device holds no archive" in refused(*words, status=11)


def test_what_is_in_it_is_resized_and_the_device_keeps_its_size(place: Place) -> None:
    subprocess.run(["mkfs.ext4", "-q", "-F", place.device, "16M"], check=True)
    grown = told("growfs", place.link)
    assert (grown["size"], grown["filesystem"]["size"]) == (SIZE, SIZE)
    shrunk = told("shrinkfs", place.link, "20M")
    assert (shrunk["size"], shrunk["filesystem"]["size"]) == (SIZE, 20 * MIB)
    again = told("resize", place.link, SIZE)
    assert (again["size"], again["filesystem"]["size"]) == (SIZE, SIZE)
    subprocess.run(["e2fsck", "-fn", place.device], check=True, capture_output=True)


def test_a_device_that_is_mounted_is_left_alone_and_it_is_said_where(place: Place) -> None:
    subprocess.run(["mkfs.ext4", "-q", "-F", place.device], check=True)
    source, point = image(place, MIB), place.images.parent / "mounted"
    point.mkdir()
    subprocess.run(["mount", "-o", "ro", place.device, point], check=True)
    try:
        before = device_bytes(place)
        assert told("info", place.link)["mounted"]
        for words in (
            ("copy", "--overwrite", source, place.link),
            ("copy-contents", source, place.link),
            ("copy", place.link, place.images / "y.img"),
            ("growfs", place.link),
            ("shrinkfs", place.link, "minimum"),
        ):
            assert f"mount: {point}" in refused(*words, status=6)
        assert device_bytes(place) == before
    finally:
        subprocess.run(["umount", point], check=True)


def test_a_device_that_a_process_has_is_left_alone(place: Place) -> None:
    source = image(place, MIB)
    with open(place.device, "rb") as file, subprocess.Popen(["sleep", "9999"], stdin=file) as user:
        try:
            assert f"pid {user.pid}" in refused("copy", "--overwrite", source, place.link, status=6)
        finally:
            user.kill()


def test_nobody_claims_it_while_it_is_written(place: Place) -> None:
    node = os.open(place.device, os.O_PATH)
    with BlockDevice(node, "x").rework("x") as draft:
        draft.write_at(0, b"x")
        with pytest.raises(OSError, match="busy"):
            os.open(place.device, os.O_RDONLY | os.O_EXCL)
    os.close(node)


def test_a_loop_device_of_an_image_that_is_allowed_is_refused(
    place: Place, links: Callable[[str, str], Path]
) -> None:
    with disk(place.images / "y.img") as device:
        link = links("loop", device)
        configure(place.configuration, place.images, link)
        said = refused("info", link, status=5)
    assert f"a loop device of {place.images}/y.img" in said


def test_a_device_that_is_configured_twice_is_refused(
    place: Place, links: Callable[[str, str], Path]
) -> None:
    other = links("other", place.device)
    configure(place.configuration, place.images, place.link, other)
    said = refused("info", place.link, status=5)
    assert "configured twice" in said


def test_what_is_configured_and_missing_or_no_block_device_is_told(
    place: Place, links: Callable[[str, str], Path]
) -> None:
    missing, null = links("missing", "/dev/no-such-device"), links("null", "/dev/null")
    configure(place.configuration, place.images, missing, null, place.link)
    assert "is not there" in refused("info", missing, status=3)
    assert "and is none" in refused("info", null, status=5)
    warnings = told("storage-info", "local:")["warnings"]
    assert [warning.partition(":")[0] for warning in warnings] == [str(missing), str(null)]
    listed = {each["path"] for each in told("list", "-l", "local:") if each["type"] == "block"}
    assert listed == {str(missing), str(null), str(place.link)}


def test_access_is_what_was_configured(place: Place) -> None:
    source, before = image(place, MIB), device_bytes(place)
    for access in ("read", "append"):
        configure(place.configuration, place.images, place.link, access=access)
        told("copy", "--overwrite", place.link, place.images / "y.img")
        for words in (
            ("copy", "--overwrite", source, place.link),
            ("copy-contents", source, place.link),
            ("growfs", place.link),
        ):
            assert 'needs "' in refused(*words, status=5)
    assert device_bytes(place) == before


def test_whom_the_kernel_does_not_let_open_it_is_told_what_to_do(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["blockdev", "--setro", place.device], check=True)
    try:
        source = image(place, MIB)
        assert "read-only" in refused("copy", "--overwrite", source, place.link, status=5)
    finally:
        subprocess.run(["blockdev", "--setrw", place.device], check=True)

    def refuse(fd: int, flags: int) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(linux, "reopen", refuse)
    node = os.open(place.device, os.O_PATH)
    with pytest.raises(Denied, match=r"does not let the agent read it.*sudo virtstore-agent"):
        BlockDevice(node, "x").find("x")
    os.close(node)


def test_a_session_that_is_restricted_to_a_device_reaches_that_and_nothing_else(
    place: Place, links: Callable[[str, str], Path]
) -> None:
    other = links("other", place.device)
    configuration = load(str(place.configuration))
    policy = Policy(configuration, (str(place.link),))
    assert [root.path for root, _ in policy.roots()] == [str(place.link)]
    for path in (place.link, other):
        with policy.image(str(path), "write") as found:
            assert found.store.find(found.name)
    assert not policy.may(str(place.images / "x.img"), "read")
    elsewhere = Policy(configuration, (str(place.images),))
    with pytest.raises(Denied, match="restricted to"), elsewhere.image(str(place.link), "read"):
        pass


def test_the_lines_that_a_refusal_shows_allow_it(place: Place) -> None:
    configure(place.configuration, place.images)
    said = refused("info", place.device, status=5)
    lines = said.partition("\n\n")[2]
    assert lines == f'[[block_device]]\npath = "{place.device}"\naccess = "read"\n'
    with place.configuration.open("a") as file:
        file.write(lines)
    assert told("info", place.device)["size"] == SIZE


@pytest.mark.parametrize(
    "path", ["/dev/shm/x", "/dev/mqueue/x", "/srv/disk", "dev/sda", "/dev/../etc/x", "/dev"]
)
def test_what_cannot_be_a_devices_lasting_path_is_wrong(tmp_path: Path, path: str) -> None:
    file = tmp_path / "c.toml"
    file.write_text(f'[[block_device]]\npath = "{path}"\n')
    with pytest.raises(virtstore.Error, match=r"line 2: .* is no block device's path"):
        load(str(file))


def killed_while_it_writes(place: Place, source: Path) -> None:
    """A copy whose agent is killed once it has changed the device."""
    with virtstore.connect() as host:
        agent = agent_of(host)

        def kill(event: virtstore.Progress) -> None:
            if event.done >= 4 * MIB and _marked(place):  # so some of it is there
                agent.send_signal(signal.SIGKILL)

        with pytest.raises(virtstore.ConnectionFailed):
            host.image(str(source)).copy(
                host.image(str(place.link)), overwrite=True, bwlimit="8M", progress=kill
            )


def _marked(place: Place) -> bool:
    with open(place.device, "rb") as file:
        return file.read(10) == b"virtstore:"


def test_after_a_copy_that_was_killed_it_is_neither_and_the_same_command_makes_it_whole(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = image(place, 24 * MIB)
    monkeypatch.setenv("VIRTSTORE_CONFIG", str(place.configuration))
    killed_while_it_writes(place, source)
    deadline = time.monotonic() + PATIENCE
    while told("info", place.link)["in_use"] and time.monotonic() < deadline:
        time.sleep(0.1)
    info = told("info", place.link)
    assert (info["state"], info["filesystem"]) == ("partial", None)
    assert "neither old nor new; the same command makes it whole" in info["warnings"][0]
    [entry] = [each for each in told("list", "-l", "local:") if each["type"] == "block"]
    assert entry["state"] == "partial"
    for words, status in (
        (("copy", place.link, place.images / "y.img"), 3),
        (("growfs", place.link), 3),
        (("verify", place.link), 3),
        (("copy", source, place.link), 4),
        (("clean", place.link), 11),
        (("delete", place.link), 11),
    ):
        assert "'virtstore c" in refused(*words, status=status) or status == 3
    again = told("copy", "--overwrite", source, place.link)
    assert again["written"] < 24 * MIB
    assert device_bytes(place) == source.read_bytes().ljust(SIZE, b"\0")
    assert told("info", place.link)["state"] == "complete"


def test_from_its_first_write_to_its_last_it_is_marked_as_neither_old_nor_new(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the machine had written when it stopped: each write to the device is looked at, and
    that to the beginning is one logical block, which a disk writes whole or not at all."""
    new = os.urandom(SIZE)
    written = os.pwrite
    seen = []

    def look(fd: int, data: bytes, offset: int) -> int:
        assert offset or len(data) == 512
        count = written(fd, data, offset)
        on_it = device_bytes(place)
        seen.append((on_it.startswith(b"virtstore:"), on_it == new))
        return count

    node = os.open(place.device, os.O_PATH)
    monkeypatch.setattr(os, "pwrite", look)
    with BlockDevice(node, "x").rework("x") as draft:
        for offset in range(0, SIZE, 8 * MIB):
            draft.write_at(offset, new[offset : offset + 8 * MIB])
        assert draft.read_at(0, SIZE) == new
        draft.publish(overwrite=False)
    os.close(node)
    assert seen == [(True, False)] * (len(seen) - 1) + [(False, True)]
    assert _FIRST >= 2 * 65536  # Btrfs's superblock lies behind 64 KiB


def test_what_changes_first_is_the_mark(place: Place) -> None:
    before = device_bytes(place)
    node = os.open(place.device, os.O_PATH)
    with BlockDevice(node, "x").rework("x") as draft:
        draft.zero(2 * MIB, 4096)
        draft.flush()
        now = device_bytes(place)
    os.close(node)
    assert now.startswith(b"virtstore: a copy to this device was interrupted")
    assert now[256:131072].strip(b"\0") == b""
    assert now[131072:] == before[131072:]
    assert command("info", place.link).stdout.count("neither old nor new") == 1


def test_who_reads_while_it_is_marked_finds_what_was_there(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there is hashed by other threads while the first byte changes."""
    before = device_bytes(place)
    written = os.pwrite
    read = []

    def look(fd: int, data: bytes, offset: int) -> int:
        count = written(fd, data, offset)
        read.append(draft.read_at(0, MIB) == before[:MIB])
        return count

    node = os.open(place.device, os.O_PATH)
    with BlockDevice(node, "x").rework("x") as draft:
        monkeypatch.setattr(os, "pwrite", look)
        draft.zero(2 * MIB, 4096)
    os.close(node)
    assert len(read) >= 2
    assert all(read)
