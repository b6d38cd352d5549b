"""e2fsck and resize2fs: the commands, how far they are, and what their answers mean.

A partition is `PATH?offset=BYTES` to them, so neither root nor a loop device is needed.

What was seen of the tools (1.47.0):

- resize2fs cuts a plain file to the size of its file system, without regard to an offset. So
  it is run where it cannot (seccomp.py), complains of that, and is right about all else.
- `e2fsck -n` exits with 0 where the superblock or the group descriptors are so bad that it
  took a backup of them and found nothing else, and where it would have had something to mend
  in the superblock. So its words count too (`is_clean`).
- `resize2fs -P` is an estimate: it answers lower once the file system has been shrunk to it.
- A resize whose last block group would be too small to be of use is cut back to the group
  before it, so that the result may fall short of what was asked.
- Where resize2fs moves blocks of an orphan file, that file's checksums are of the old places, and
  nobody mounts it; and a file whose extents get another block does not count that. `e2fsck -p`
  mends both (`_LEFT`), so it is run behind a resize that fails its check. A resize that was
  killed leaves them in a file system that says it is clean.
- A resize that fails leaves the mark of an error in the superblock, which `e2fsck -p` takes
  away if nothing else is wrong.
- With MMP they wait about 20 s to see whether another host uses the file system, and they
  look for its block without regard to an offset.

Sources: e2fsck(8) "Exit code" and -C, resize2fs(8), libext2fs's unix_io.c (`offset`).
Host tools needed: e2fsck, resize2fs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Final, NamedTuple, NoReturn

from virtstore import run
from virtstore.errors import Corrupt, Error, InUse, Unsupported
from virtstore.filesystems.base import CHANGE_TIMEOUT, CHECK_TIMEOUT, Device, Watch, unwatched
from virtstore.filesystems.complaints import first_complaint

#: Exit codes of e2fsck: nothing wrong; wrong, and all of it mended.
_CLEAN: Final = 0
_MENDED: Final = 1

_BY_HAND: Final = (
    "check it by hand (attach the image and run e2fsck -f, on a copy if it matters), then try again"
)


class NotResized(Error):
    """resize2fs could not, and the file system passes its check."""


class Progress(NamedTuple):
    done: int
    total: int


def check_argv(device: Device) -> tuple[str, ...]:
    # -C 0 is one bar for all passes. To a descriptor (-C 1) it would write a line for each
    # directory block, which for some guests is gigabytes.
    return ("e2fsck", "-f", "-n", "-C", "0", location(device))


def preen_argv(device: Device) -> tuple[str, ...]:
    return ("e2fsck", "-f", "-p", "-C", "0", location(device))


def resize_argv(device: Device, blocks: int) -> tuple[str, ...]:
    return ("resize2fs", "-p", location(device), str(blocks))


def minimum_argv(device: Device) -> tuple[str, ...]:
    return ("resize2fs", "-P", location(device))


def location(device: Device) -> str:
    """What e2fsprogs calls the device."""
    return f"{device.path}?offset={device.start}" if device.start else device.path


def is_whole(device: Device, watch: Watch) -> bool:
    """Whether it passes its check, which changes nothing, and flushes it; false where no more is
    wrong than a resize leaves that was cut short. Raises what else is wrong."""
    said = _check(device, watch)
    if is_clean(said):
        return True
    if not is_left_by_a_resize(said):
        _refuse(said)
    return False


def require_whole(device: Device, watch: Watch) -> None:
    """Check it without a change to it. Raises what it is that is wrong."""
    said = _check(device, watch)
    if not is_clean(said):
        _refuse(said)


def preen(device: Device, watch: Watch) -> None:
    """Replay its journal, mend what can be mended without a choice, note the time of the check,
    without which resize2fs refuses, and flush it. Raises what it is that is wrong."""
    said = _preen(device, watch)
    if said.status not in (_CLEAN, _MENDED):
        _refuse(said)


def estimate(device: Device, *, timeout: int) -> int | None:
    """The fewest blocks that resize2fs would shrink it to; None where it does not say."""
    said = run.run(minimum_argv(device), pass_fds=device.pass_fds, confined=True, timeout=timeout)
    return parse_minimum(said.stdout) if said.status == 0 else None


def resize(device: Device, blocks: int, watch: Watch) -> None:
    """Resize what has just been checked. Raises `NotResized`, and `Corrupt` where it is not."""
    length = os.lseek(device.fd, 0, os.SEEK_END)
    said = _run(resize_argv(device, blocks), device, resize_progress, watch, changes=True)
    if (now := os.lseek(device.fd, 0, os.SEEK_END)) != length:
        raise Corrupt(f"resize2fs changed the image's length from {length} bytes to {now}")
    if said.status == 0:
        return
    why = complaint(said.stdout + said.stderr)
    preened = _preen(device, unwatched).status
    if preened in (_CLEAN, _MENDED) and is_clean(_check(device, unwatched)):
        raise NotResized(f"resize2fs could not resize the file system ({why}); it passes its check")
    raise Corrupt(f"resize2fs failed and left the file system damaged ({why}); {_BY_HAND}")


def check_resized(device: Device, watch: Watch) -> None:
    """Check what has been resized, and mend what resize2fs leaves. Raises `Corrupt`."""
    said = _check(device, watch)
    if not is_clean(said) and _preen(device, watch).status in (_CLEAN, _MENDED):
        said = _check(device, watch)
    if not is_clean(said):
        why = complaint(said.stdout + said.stderr)
        raise Corrupt(f"the file system was resized and then failed its check ({why}); {_BY_HAND}")


def _check(device: Device, watch: Watch) -> run.Completed:
    os.fsync(device.fd)  # also what a tool wrote whose agent died before it could flush that
    return _run(check_argv(device), device, check_progress, watch, changes=False)


def _preen(device: Device, watch: Watch) -> run.Completed:
    said = _run(preen_argv(device), device, check_progress, watch, changes=True)
    os.fsync(device.fd)
    return said


def _run(
    argv: tuple[str, ...],
    device: Device,
    parse: Callable[[bytes], Progress | None],
    watch: Watch,
    *,
    changes: bool,
) -> run.Completed:
    def told(output: bytes) -> None:
        if progress := parse(output):
            watch(progress.done, progress.total)

    return run.run(
        argv,
        pass_fds=device.pass_fds,
        confined=True,
        outlives_us=changes,
        timeout=CHANGE_TIMEOUT if changes else CHECK_TIMEOUT,
        watch=told,
    )


_HARMLESS: Final = re.compile(
    rb"is in the future|extent tree \(at level \d+\) could be (narrower|shorter)"
)


def is_clean(said: run.Completed) -> bool:
    """Whether `e2fsck -n` has found nothing wrong in what is really used.

    Times in the future do not count: a clock that is wrong, the guest's or ours, says nothing
    of the file system. Nor do extents that could be in fewer blocks, as resize2fs leaves them.
    """
    left_alone = said.stdout.split(b"? no")[:-1]
    return (
        said.status == _CLEAN
        and b"trying backup blocks" not in said.stdout + said.stderr
        and all(_HARMLESS.search(question) for question in left_alone)
    )


#: What resize2fs 1.47.0 leaves wrong of what it moved, and `e2fsck -p` mends.
_LEFT: Final = re.compile(rb"[Oo]rphan file|i_blocks is \d+, should be \d+")


def is_left_by_a_resize(said: run.Completed) -> bool:
    """Whether `e2fsck -n` has found no more wrong than a resize leaves."""
    questions = said.stdout.split(b"? no")[:-1]
    wrong = [question for question in questions if not _HARMLESS.search(question)]
    backup = b"trying backup blocks" in said.stdout + said.stderr
    return bool(wrong) and not backup and all(_LEFT.search(question) for question in wrong)


def _refuse(said: run.Completed) -> NoReturn:
    output = said.stdout + said.stderr
    why = complaint(output)
    if b"MMP: " in output:
        raise InUse(
            "the file system's multiple-mount protection says that it is in use; if it is not,"
            " clear that by hand (tune2fs -f -E clear_mmp)"
        )
    if b"unsupported feature" in output or b"Get a newer version of e2fsck" in output:
        raise Unsupported(f"this host's e2fsprogs is too old for the file system ({why})")
    raise Corrupt(f"the file system fails its check and was not resized ({why}); {_BY_HAND}")


def parse_minimum(output: bytes) -> int | None:
    """Blocks in the answer of `resize2fs -P`."""
    match = re.search(rb": (\d{1,19})$", output.strip())
    return int(match[1]) if match else None


#: The end of what has been written is enough to see how far it is.
_TAIL: Final = 4096
_PERCENT: Final = re.compile(rb"\| +(\d{1,3})\.(\d)%")


def check_progress(output: bytes) -> Progress | None:
    """How far `e2fsck -C 0` is, which shows after its bar the percentage of all its passes."""
    found = _PERCENT.findall(output[-_TAIL:])
    if not found:
        return None
    whole, tenth = found[-1]
    return Progress(min(int(whole) * 10 + int(tenth), 1000), 1000)


#: resize2fs's passes, of which it leaves out those with nothing to do, each a bar of X.
_PASSES: Final = 5
_BAR: Final = 40
_PASS: Final = re.compile(rb"Begin pass ([1-5]) \(max = \d+\)\n")


def resize_progress(output: bytes) -> Progress | None:
    """How far `resize2fs -p` is."""
    started = list(_PASS.finditer(output))
    if not started:
        return None
    bar = min(output.count(b"X", started[-1].end()), _BAR)
    return Progress((int(started[-1][1]) - 1) * _BAR + bar, _PASSES * _BAR)


#: e2fsck's bar, between the marks that tell a terminal's reader to leave it out.
_BARS: Final = re.compile(rb"\x01[^\x02]*\x02")
#: Lines that e2fsck and resize2fs print whatever is wrong.
_BANNER: Final = re.compile(
    rb"(e2fsck|resize2fs) \d|Pass \d|Begin pass|\(i\.e\.,|Resizing the filesystem"
    rb"|.*WARNING: Filesystem still|.*UNEXPECTED INCONSISTENCY|Couldn't find valid"
    rb"|.*skipping journal recovery|[A-Z][a-z ]+ -{40}"
)


def complaint(output: bytes) -> str:
    """The first thing that an e2fsprogs tool found wrong, on one printable line."""
    return first_complaint(_BARS.sub(b"", output), _BANNER)
