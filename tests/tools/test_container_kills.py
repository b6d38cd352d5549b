"""kill -9 of the agent, or of QEMU's storage daemon, in the middle of what is done to a qcow2: what
is left is old, new or partial, its tables are whole, and the same command finishes it."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from tests.tools import kills
from tests.tools.ext_images import MIB, TORTURE, new_tree, opened, place
from tests.tools.kills import Victim, agent_of
from tests.tools.meanwhile import Meanwhile
from tests.tools.resize_images import (
    GPT,
    Made,
    check,
    check_files,
    configuration,
    make_filesystem,
    make_image,
    new_root,
)
from tests.waiting import PATIENCE

import virtstore
from virtstore.programs import find

MOMENTS: Final = 5 if TORTURE else 1
#: Of a disk that is copied: data, zeros, data.
DATA, ZEROS, END = 12 * MIB, 4 * MIB, MIB

Command = Callable[[virtstore.Image, virtstore.Image], object]


class Case(NamedTuple):
    """What is done to x.qcow2 with an image as its source. `starts`: what x.qcow2 is before, as
    options of qemu-img; None where there is none. `may_be_partial`: it need not have its name."""

    command: Command
    starts: tuple[str, ...] | None
    may_be_partial: bool = True


COPIES: Final = {
    "copy": Case(lambda source, x: source.copy(x), None),
    "overwrite": Case(lambda source, x: source.copy(x, overwrite=True), (), may_be_partial=False),
    "contents": Case(lambda source, x: source.copy_contents(x), ()),
    "lazy contents": Case(lambda source, x: source.copy_contents(x), ("-o", "lazy_refcounts=on")),
    "grow": Case(lambda source, x: x.grow(2 * (DATA + ZEROS + END)), (), may_be_partial=False),
}
RESIZES: Final = {"resize smaller": "22M", "resize larger": "44M"}
VICTIMS: Final[tuple[Victim, ...]] = ("agent", "daemon")
#: What makes a new image, for which there is no daemon.
NEW: Final = {"copy", "overwrite"}
#: What is tried where there is no time for all.
SAMPLE: Final = {
    ("copy", "agent"),
    ("overwrite", "agent"),
    ("contents", "agent"),
    ("contents", "daemon"),
    ("lazy contents", "daemon"),
    ("grow", "daemon"),
    ("resize smaller", "agent"),
    ("resize smaller", "daemon"),
}


def tried(cases: dict[str, Case] | dict[str, str]) -> pytest.MarkDecorator:
    there = [(case, victim) for case in cases for victim in VICTIMS]
    pairs = [pair for pair in there if pair[0] not in NEW or pair[1] == "agent"]
    chosen = [pair for pair in pairs if TORTURE or pair in SAMPLE]
    return pytest.mark.parametrize(("case", "victim"), chosen)


@pytest.fixture
def root() -> Iterator[Path]:
    with new_root() as root:
        yield root


def qemu_img(*words: object) -> None:
    argv = ["qemu-img", *map(str, words)]
    subprocess.run(argv, check=True, capture_output=True, timeout=PATIENCE)


def make_qcow2(raw: Path, made: Path, *options: str) -> None:
    qemu_img("convert", "-f", "raw", "-O", "qcow2", *options, raw, made)


def disk_of(path: Path) -> bytes:
    """The disk in a qcow2 of which nothing is damaged: clusters that nobody uses are allowed."""
    checked = subprocess.run(
        ["qemu-img", "check", "-f", "qcow2", path], capture_output=True, timeout=PATIENCE
    )
    assert checked.returncode in (0, 3), checked.stdout
    raw = path.with_name("disk")
    qemu_img("convert", "-f", "qcow2", "-O", "raw", path, raw)
    contents = raw.read_bytes()
    raw.unlink()
    return contents


def sources(root: Path) -> tuple[Path, Path]:
    """A disk to be copied, and an older one of its size."""
    seeded, found = random.Random(15), []
    for name in ("new.img", "old.img"):
        (path := root / name).write_bytes(
            seeded.randbytes(DATA) + bytes(ZEROS) + seeded.randbytes(END)
        )
        found.append(path)
    return found[0], found[1]


def killed(
    root: Path, act: Callable[[virtstore.Host], object], victim: Victim, after: int
) -> kills.Ended:
    ended = kills.run(configuration(root), act, victim, after)
    print(victim, after, ended)
    if ended.error and victim == "daemon":
        assert "storage-daemon" in ended.error.message
        assert "Run the same command again" in ended.error.message
        assert not isinstance(ended.error, virtstore.Corrupt)
    return ended


def moments(work: int, seed: str) -> list[int]:
    """Some moments, spread over the work."""
    seeded = random.Random(seed)
    return [int(work * (n + seeded.random()) / MOMENTS) for n in range(MOMENTS)]


@tried(COPIES)
def test_what_was_killed_left_the_old_or_the_new_or_is_partial_and_is_finished_by_the_same(
    root: Path, case: str, victim: Victim
) -> None:
    command, starts, may_be_partial = COPIES[case]
    new, old = sources(root)
    x, before = root / "x.qcow2", root.with_name("before.qcow2")
    make_qcow2(old, before, *(starts or ()))

    def act(host: virtstore.Host) -> None:
        command(host.image(str(new)), host.image(str(x)))

    def begin() -> None:
        for path in root.glob("x.qcow2*"):
            path.unlink()
        if starts is not None:
            shutil.copyfile(before, x)

    begin()
    whole = kills.run(configuration(root), act, "agent", None)
    assert not whole.error
    goal, was = disk_of(x), None if starts is None else old.read_bytes()
    assert goal in (new.read_bytes(), old.read_bytes() + bytes(DATA + ZEROS + END))

    for after in moments(whole.work, f"{case} {victim}"):
        begin()
        ended = killed(root, act, victim, after)
        if x.exists() or not may_be_partial:
            found = disk_of(x) if x.exists() else None
            assert found == goal if not ended.error else found in (goal, was)
        elif starts is not None:
            (partial,) = root.glob("x.qcow2.virtstore-*")
            disk_of(partial)
        if case != "copy" or not x.exists():
            kills.patiently(configuration(root), act)
        assert disk_of(x) == goal
        assert [path.name for path in root.glob("x.qcow2*")] == ["x.qcow2"]


@pytest.fixture(scope="module")
def guest_disk() -> Iterator[Made]:
    """A raw disk with ext4 in its last partition, full of files."""
    with new_root() as root, new_tree(1200) as tree:
        source = root.with_name("ext4")
        contents = make_filesystem(source, "ext4", tree)
        yield make_image(root.with_name("disk"), GPT, "ext4", source, contents)


@tried(RESIZES)
def test_a_resize_that_was_killed_loses_nothing_and_is_finished_by_the_same(
    root: Path, guest_disk: Made, case: str, victim: Victim
) -> None:
    x, raw = root / "x.qcow2", guest_disk._replace(path=root.with_name("raw"))
    before = root.with_name("before.qcow2")
    make_qcow2(guest_disk.path, before)

    def act(host: virtstore.Host) -> None:
        host.image(str(x)).resize(RESIZES[case])

    shutil.copyfile(before, x)
    whole = kills.run(configuration(root), act, "agent", None)
    assert not whole.error
    size = len(disk_of(x))
    for after in moments(whole.work, f"{case} {victim}"):
        shutil.copyfile(before, x)
        killed(root, act, victim, after)
        raw.path.write_bytes(disk_of(x))
        if victim == "daemon":
            mend(raw.path)  # with it died a tool that was changing the file system
        check_files(raw)
        if victim == "daemon" and not is_finished(root, act):
            continue
        kills.patiently(configuration(root), act)
        raw.path.write_bytes(disk_of(x))
        assert raw.path.stat().st_size == size
        check(raw)


def is_finished(root: Path, act: Callable[[virtstore.Host], object]) -> bool:
    """Whether the command can be done once more; where not, its error says what mends that."""
    try:
        kills.patiently(configuration(root), act)
    except virtstore.Corrupt as refused:
        print("refused:", refused)
        if "e2fsck -f" not in refused.message:
            raise
        return False
    return True


def mend(path: Path) -> None:
    """Have e2fsck mend all that it finds."""
    with opened(path) as image:
        part = image.part(GPT.start, image.size - GPT.start)
        argv = [find("e2fsck") or "", "-f", "-y", place(part)]
        mended = subprocess.run(argv, capture_output=True, timeout=PATIENCE)
    assert mended.returncode in (0, 1), mended.stdout


@pytest.mark.parametrize("contents", [False, True], ids=["copy", "copy-contents"])
def test_a_copy_to_a_qcow2_that_was_killed_goes_on_with_what_is_there(
    root: Path, meanwhile: Meanwhile, monkeypatch: pytest.MonkeyPatch, *, contents: bool
) -> None:
    new, old = sources(root)
    x, name = root / "x.qcow2", str(root / "x.qcow2")
    monkeypatch.setenv("VIRTSTORE_CONFIG", str(configuration(root)))
    if contents:
        make_qcow2(old, x)
    with virtstore.connect("local:") as host:
        kill = meanwhile(agent_of(host).kill, part=0.5)
        copy = host.image(str(new)).copy_contents if contents else host.image(str(new)).copy
        with pytest.raises(virtstore.ConnectionFailed):
            copy(host.image(name), progress=kill)
    assert not x.exists()

    def again(host: virtstore.Host) -> None:
        source, target = host.image(str(new)), host.image(name)
        copied = source.copy_contents(target) if contents else source.copy(target)
        assert copied.transferred < 0.7 * new.stat().st_size

    kills.patiently(configuration(root), again)
    assert disk_of(x) == new.read_bytes()
