"""Whole images to resize: a file system with files in it, bare or in a partition beside others,
made, checked and read back by the file systems' own tools and by sfdisk and sgdisk."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

from tests import warm
from tests.tools.ext_images import (
    MEMORY,
    MIB,
    Files,
    Tree,
    files_in,
    fsck,
    mke2fs,
    opened,
    tool,
)

from virtstore.filesystems.base import Device
from virtstore.filesystems.superblock import filesystem_size
from virtstore.programs import find

#: What a file system is made with, and a partition of it.
MADE: Final = 24 * MIB
EXT: Final = ("ext2", "ext3", "ext4")
KINDS: Final = (*EXT, "ntfs", "swap")
_UUID: Final = "12345678-9abc-def0-1234-56789abcdef0"
_BOOT: Final = 440
#: Told to, sfdisk does not wait a quarter of a second for a kernel that has no part in this.
_SFDISK: Final = ("sfdisk", "-q", "--no-tell-kernel", "--wipe", "never")


class Layout(NamedTuple):
    """What sfdisk makes; the file system is in partition `number`, the last one."""

    script: str
    number: int
    start: int = 0
    behind: int = 0

    @property
    def size(self) -> int:
        return self.start + MADE + self.behind


BARE: Final = Layout("", 0)
MBR: Final = Layout(
    "label: dos\nlabel-id: 0x11223344\nstart=1MiB, size=2MiB, type=c, bootable\n"
    "start=3MiB, size=24MiB, type=83\n",
    number=2,
    start=3 * MIB,
)
LOGICAL: Final = Layout(
    "label: dos\nlabel-id: 0x55667788\nstart=1MiB, size=2MiB, type=83, bootable\n"
    "start=3MiB, size=28MiB, type=5\nstart=4MiB, size=2MiB, type=83\n"
    "start=7MiB, size=24MiB, type=83\n",
    number=6,
    start=7 * MIB,
)
GPT: Final = Layout(
    "label: gpt\nlabel-id: 0B3C8D47-4E6F-4D1C-9C55-0123456789AB\n"
    'start=1MiB, size=2MiB, type=U, name="EFI System", attrs="LegacyBIOSBootable",'
    " uuid=11111111-2222-3333-4444-555555555555\n"
    'start=3MiB, size=24MiB, type=L, name="root é", attrs="RequiredPartition GUID:59",'
    " uuid=66666666-7777-8888-9999-AAAAAAAAAAAA\n",
    number=2,
    start=3 * MIB,
    behind=MIB,
)
LAYOUTS: Final = {"bare": BARE, "mbr": MBR, "logical": LOGICAL, "gpt": GPT}


class Made(NamedTuple):
    """An image, and what it was made with: its file system's `contents`, and all `around` it
    that must stay as it is."""

    path: Path
    kind: str
    layout: Layout
    contents: Files
    around: dict[str, object]

    @property
    def fingerprint(self) -> str:
        with self.path.open("rb") as image:
            return hashlib.file_digest(image, "sha256").hexdigest()


def make_filesystem(path: Path, kind: str, tree: Tree) -> Files:
    """A file system of `MADE` bytes; what is in it, as `contents` finds it."""
    if kind in EXT:
        mke2fs(path, "-t", kind, "-d", str(tree.root), made=MADE, size=MADE)
        # As after a check at boot: mke2fs makes no indexes for the directories that it fills.
        subprocess.run([find("e2fsck") or "", "-f", "-p", path], capture_output=True)
        return tree.files
    with path.open("wb") as image:
        image.truncate(MADE)
    if kind == "swap":
        tool("mkswap", "-U", _UUID, "-L", "swap é", str(path))
        with opened(path) as device:
            return _contents(kind, device)
    tool("mkntfs", "-F", "-f", "-q", "-L", "windows", str(path))
    files = {name.replace("/", "-"): contents for name, contents in tree.files.items()}
    for name, flat in zip(tree.files, files, strict=True):
        tool("ntfscp", "-q", str(path), str(tree.root / name), f"/{flat}")
    return files


def make_image(path: Path, layout: Layout, kind: str, source: Path, contents: Files) -> Made:
    """An image of that layout, with the file system of `source` in it and things around it."""
    with path.open("w+b") as image:
        image.truncate(layout.size)
        image.flush()
        if layout.script:
            subprocess.run([find("sfdisk") or "", *_SFDISK[1:], path],
                           input=layout.script.encode(), check=True)  # fmt: skip
            image.write(b"\xeb\x63\x90" + b"boot" * 109)  # 439 bytes; the last one stays 0
            for start, size in _others(path, layout):
                image.seek(start)
                image.write(b"virtstore" * (size // 9))
        image.seek(layout.start)
        image.write(source.read_bytes())
    return Made(path, kind, layout, contents, _around(path, layout))


def check(made: Made) -> Device:
    """As `check_files`; and the table passes sfdisk's and sgdisk's check and, but for one size,
    is what it was."""
    if made.layout.script:
        assert _around(made.path, made.layout) == made.around
        assert b"No errors detected" in tool("sfdisk", "--verify", str(made.path))
        if made.layout.script.startswith("label: gpt"):
            assert b"No problems found" in tool("sgdisk", "-v", str(made.path))
    return check_files(made)


def check_files(made: Made) -> Device:
    """As `check_place`; and every file is there."""
    device = check_place(made)
    with opened(made.path) as image:
        part = image.part(device.start, device.size)
        assert _contents(made.kind, part) == made.contents
    return device


def check_place(made: Made) -> Device:
    """The file system passes its own check, and lies within its partition and image. Returns
    where it may be; the descriptor is closed."""
    with opened(made.path) as image:
        device = _place_of(made, image)
        size = filesystem_size(made.kind, device)
        assert size
        assert size <= device.size, "the file system is cut"
        _check_clean(made.kind, device)
    return device


def _place_of(made: Made, image: Device) -> Device:
    if not made.layout.script:
        return image
    number = str(made.layout.number)
    row = next(r for r in _rows(made.path) if re.search(r"\d+$", r["node"])[0] == number)  # type: ignore[index]
    start, size = row["start"] * 512, row["size"] * 512
    assert start + size <= image.size, "the partition is cut"
    return image.part(start, size)


def _check_clean(kind: str, device: Device) -> None:
    if kind in EXT:
        fsck(device)
    elif kind == "ntfs":
        with _copied(device) as copy:
            said = subprocess.run(
                [find("ntfsresize") or "", "--info", "--force", copy], capture_output=True
            )
            assert said.returncode == 0 or b"Volume is full" in said.stdout, said.stdout


def _contents(kind: str, device: Device) -> Files:
    if kind in EXT:
        return files_in(device)
    with _copied(device) as copy:
        if kind == "swap":
            found = tool("blkid", "-p", "-o", "export", copy).split(b"\n")
            tags = dict(line.split(b"=", 1) for line in found if b"=" in line)
            return {key: tags[key.encode()] for key in ("TYPE", "UUID", "LABEL", "VERSION")}
        listed = tool("ntfsls", "-f", copy).decode().split("\n")
        names = [name for name in listed if name and not name.startswith(".")]
        return {name: tool("ntfscat", "-f", copy, f"/{name}") for name in names}


@contextmanager
def _copied(device: Device) -> Iterator[str]:
    """A file with no more than the device's bytes, for tools that know of no offset."""
    with TemporaryDirectory(dir=MEMORY) as directory:
        path = Path(directory) / "copy"
        path.write_bytes(device.read(0, device.size))
        yield str(path)


def _around(path: Path, layout: Layout) -> dict[str, object]:
    """What a resize has to leave as it is: the table but for one size, boot code, other
    partitions."""
    if not layout.script:
        return {}
    with path.open("rb") as image:
        kept: dict[str, object] = {"boot": image.read(_BOOT), "table": _dump(path, layout)}
        for start, size in _others(path, layout):
            image.seek(start)
            kept[f"partition at {start}"] = image.read(size)
    return kept


def _dump(path: Path, layout: Layout) -> list[str]:
    """The table as sfdisk would make it again. Where a GPT ends is not in it, nor the size of
    the partition and of the extended one around it; what sfdisk calls grain, it guesses."""
    mine = re.compile(rf"image{layout.number} :|.*type=5\b")
    lines = tool("sfdisk", "--dump", str(path)).decode().replace(str(path), "image").splitlines()
    told = [line for line in lines if not re.match(r"last-lba|grain", line)]
    return [re.sub(r"size= *\d+", "", line) if mine.match(line) else line for line in told]


def _others(path: Path, layout: Layout) -> list[tuple[int, int]]:
    rows = [r for r in _rows(path) if r["type"] != "5" and r["start"] * 512 != layout.start]
    return [(row["start"] * 512, row["size"] * 512) for row in rows]


def _rows(path: Path) -> list[Any]:
    said = tool("sfdisk", "--json", str(path))
    rows: list[Any] = json.loads(said)["partitiontable"]["partitions"]
    return rows


def spoil(path: Path, offset: int, data: bytes) -> None:
    """Write over what is there."""
    with path.open("r+b") as image:
        image.seek(offset)
        image.write(data)


def virtstore(*arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    """The real command line, with a real agent."""
    done = warm.run([*map(str, arguments)])
    assert "Traceback" not in done.stdout + done.stderr
    assert "defect" not in done.stdout + done.stderr
    assert done.returncode == status, done.stderr + done.stdout
    return done


def told(*arguments: object, status: int = 0) -> Any:
    return json.loads(virtstore(*arguments, "--json", status=status).stdout)


@contextmanager
def new_root() -> Iterator[Path]:
    """A directory that an agent may write to, with its configuration beside it."""
    with TemporaryDirectory(dir=MEMORY) as directory:
        root = Path(directory) / "images"
        root.mkdir(mode=0o700)
        write_configuration(root)
        yield root


def configuration(root: Path) -> Path:
    return root.with_name("config.toml")


def write_configuration(root: Path, more: str = "") -> None:
    kept = f'[[directory]]\npath = "{root}"\naccess = "write"\nvolatile = true\n'
    configuration(root).write_text(kept + more)
