"""Small disks with several partitions, as other people's installers leave them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from tests.tools.ext_images import MIB, fsck, mke2fs, opened, tool
from tests.tools.resize_images import configuration, new_root

import virtstore
from virtstore.filesystems.base import Device
from virtstore.filesystems.blkid import probe
from virtstore.filesystems.detect import Contents, detect
from virtstore.model import Changed, ImageInfo
from virtstore.programs import find

BIOS_BOOT = "21686148-6449-6E6F-744E-656564454649"
RECOVERY = "DE94BBA4-06D1-4D40-A16A-BFD50179D6AC"
WINDOWS = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"
SWAP_UUID = "12345678-9abc-def0-1234-56789abcdef0"


class Part(NamedTuple):
    """`size` MiB of sfdisk's type `kind`; in it a file system of `inside` MiB (0: as large)."""

    size: int
    kind: str
    holds: str = ""
    inside: int = 0


ROOT = Part(16, "L", "ext4")
SWAP = Part(8, "S", "swap")


def disk(path: Path, label: str, parts: Sequence[Part], behind: int = 1) -> Path:
    """A disk with these partitions one behind the other from 1 MiB on, and `behind` MiB free."""
    start, script = 1, f"label: {label}\n"
    for part in parts:
        script += f"start={start}MiB, size={part.size}MiB, type={part.kind}\n"
        start += part.size
    with path.open("wb") as image:
        image.truncate((start + behind) * MIB)
    sfdisk(path, script)
    start = 1
    for part in parts:
        if part.holds:
            contents = _made(path.with_name("made"), part)
            with path.open("r+b") as image:
                image.seek(start * MIB)
                image.write(contents)
        start += part.size
    return path


def sfdisk(path: Path, script: str, *options: str) -> None:
    """Have a disk partitioned as `script` says."""
    argv = [find("sfdisk") or "", "-q", "--no-tell-kernel", "--wipe", "never", *options, str(path)]
    subprocess.run(argv, input=script.encode(), check=True)


def _made(path: Path, part: Part) -> bytes:
    size = (part.inside or part.size) * MIB
    if part.holds == "ext4":
        mke2fs(path, "-t", "ext4", "-b", "1024", made=size, size=size)
    else:
        with path.open("wb") as image:
            image.truncate(size)
        options = {
            "swap": ("mkswap", "-q", "-U", SWAP_UUID, "-L", "swap é"),
            "ntfs": ("mkntfs", "-F", "-f", "-q"),
            "fat": ("mkfs.vfat",),
        }[part.holds]
        tool(*options, str(path))
    contents = path.read_bytes()
    path.unlink()
    return contents[: part.size * MIB] if part.inside == 0 else contents


class Told:
    """What commands answer, as `resize_images.told`, in one session with one agent."""

    def __init__(self, host: virtstore.Host) -> None:
        self._host = host

    def __call__(self, verb: str, image: Path, *words: object, status: int = 0) -> Any:
        arguments = [str(word) for word in words]
        if status:
            with pytest.raises(virtstore.Error) as caught:
                self._ask(verb, str(image), arguments)
            assert caught.value.exit_status == status, caught.value.message
            return {"error": {"message": caught.value.message}}
        told = msgspec.to_builtins(self._ask(verb, str(image), arguments))
        return {key: each for key, each in told.items() if (key, each) != ("warnings", ())}

    def _ask(self, verb: str, path: str, words: list[str]) -> Changed | ImageInfo:
        image = self._host.image(path)
        if verb == "info":
            return image.info()
        dry_run = not {"-n", "--dry-run"}.isdisjoint(words)
        number = int(words[words.index("--partition") + 1]) if "--partition" in words else None
        size = next(iter(words[:1]), None)
        size = None if size is None or size.startswith("-") else size
        done: dict[str, Callable[[str], Changed]] = {
            "grow": lambda size: image.grow(size, dry_run=dry_run),
            "shrink": lambda size: image.shrink(size, dry_run=dry_run),
            "growfs": lambda _: image.growfs(size, partition=number, dry_run=dry_run),
            "shrinkfs": lambda size: image.shrinkfs(size, partition=number, dry_run=dry_run),
            "resize": lambda size: image.resize(size, partition=number, dry_run=dry_run),
        }
        return done[verb](size or "")


def texts(answer: Any) -> str:
    """The warnings of an answer."""
    return "; ".join(answer.get("warnings", ()))


@contextmanager
def new_image() -> Iterator[tuple[Path, Told]]:
    """Where an image can be made, and a session of whoever may change it."""
    with new_root() as root, virtstore.connect(config=str(configuration(root))) as host:
        yield root / "x.img", Told(host)


def seen(path: Path) -> Contents:
    with opened(path) as device:
        return detect(device)


def starts(path: Path) -> dict[int, tuple[int, int]]:
    """Where each partition begins, and how large it is, in bytes."""
    return {p.number: (p.start, p.size) for p in seen(path).partitions}


def check(path: Path, label: str) -> None:
    """Its table passes sfdisk's and sgdisk's check, and each ext4 in it e2fsck's."""
    assert b"No errors detected" in tool("sfdisk", "--verify", str(path))
    if label == "gpt":
        assert b"No problems found" in tool("sgdisk", "-v", str(path))
    for each in seen(path).partitions:
        if each.filesystem and each.filesystem.type == "ext4":
            with opened(path) as device:
                fsck(device.part(each.start, each.size))


def swap_is_whole(path: Path, number: int) -> None:
    """blkid finds the swap area that was made, as large as its partition."""
    start, size = starts(path)[number]
    with opened(path) as device:
        part: Device = device.part(start, size)
        found = probe(part)
        pages = int.from_bytes(part.read(1028, 4), "little") + 1
    assert (found.type, found.uuid, found.label) == ("swap", SWAP_UUID, "swap é")
    assert pages * 4096 == size
