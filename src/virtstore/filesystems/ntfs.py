"""NTFS, by ntfsresize.

Resizing is: see that Windows has let go of the volume, rehearse (`--no-action`, which checks
every cluster's owner and moves everything but writes nothing), resize, check again. Afterwards
the volume is marked for chkdsk, which Windows runs at its next start: ntfsresize's own
precaution, and what puts the copy of the boot sector behind the new end. Until then the volume
is whole and can be resized again (see ntfsvolume.py).

What was seen of the tools is in ntfsresize.py.
Host tools needed: ntfsresize, ntfs-3g.probe (both of ntfs-3g).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from virtstore import run
from virtstore.errors import Corrupt, Error, Unsafe, Unsupported
from virtstore.filesystems.base import (
    CHANGE_TIMEOUT,
    CHECK_TIMEOUT,
    Capabilities,
    Device,
    Resized,
    Watch,
    unwatched,
)
from virtstore.filesystems.bounds import grow_target, require_whole
from virtstore.filesystems.loop import attached
from virtstore.filesystems.ntfsresize import (
    DOES_NOT_FIT,
    HIBERNATED,
    INCONSISTENT,
    NOT_NTFS,
    UNCLEAN,
    UNIT,
    UNKNOWN,
    UNSUPPORTED,
    complaint,
    info_argv,
    is_full,
    parse_minimum,
    parse_progress,
    probe_argv,
    rehearse_argv,
    resize_argv,
)
from virtstore.filesystems.ntfsvolume import Volume, read_size, read_volume
from virtstore.units import format_size

_CHKDSK: Final = (
    "start Windows from it (or attach it to one), run chkdsk /f, shut down fully"
    " (shutdown /s /t 0), then try again"
)
#: How often a size is tried that ntfsresize hopes for, and then a larger one.
_TRIES: Final = 8


class Ntfs:
    types: tuple[str, ...] = ("ntfs",)
    capabilities = Capabilities(
        grow=True, shrink=True, tools=("ntfsresize", "ntfs-3g.probe", "bwrap", "prlimit")
    )

    def size(self, device: Device) -> int | None:
        """See the contract."""
        return read_size(device)

    def minimum(self, device: Device) -> int | None:
        """See the contract. Whether Windows hibernated is not asked: that needs write access,
        and somebody may be using the image."""
        volume = read_volume(device)
        if volume is None or volume.size > device.size or (volume.marked and not volume.resized):
            return None
        try:
            with _whole(device, writable=False) as whole:
                least = _estimate(_check(whole, marked=volume.resized), volume)
        except (Error, OSError):  # no tool, no loop device, or it did not end
            return None
        return least and min(least, volume.size)

    def grow(self, device: Device, size: int | None = None, watch: Watch = unwatched) -> Resized:
        """See the contract."""
        volume = _volume(device)
        wanted = _rounded(volume, grow_target(volume.size, device, size))
        if wanted // volume.cluster_size - 1 <= volume.clusters:
            return Resized(volume.size, changed=False)
        with _whole(device) as whole:
            _require_let_go(whole, volume)
            if refused := _rehearse(whole, volume, wanted):
                raise _refusal(refused, "the file system cannot be grown")
            return _resize(whole, volume, wanted, watch)

    def shrink(self, device: Device, size: int | None, watch: Watch = unwatched) -> Resized:
        """See the contract."""
        volume = _volume(device)
        if size is not None and size >= volume.size:
            return Resized(volume.size, changed=False)
        with _whole(device) as whole:
            _require_let_go(whole, volume)
            if size is None:
                size = _least(whole, volume)
            elif refused := _rehearse(whole, volume, size):
                raise _too_small(whole, volume, size, refused)
            if size >= volume.size:
                return Resized(volume.size, changed=False)
            return _resize(whole, volume, size, watch)


@contextmanager
def _whole(device: Device, *, writable: bool = True) -> Iterator[Device]:
    """The device as one that begins at 0, which a partition is as a loop device only."""
    if device.start == 0:
        yield device
        return
    with attached(device, writable=writable) as whole:
        yield whole


def _volume(device: Device) -> Volume:
    volume = read_volume(device)
    if volume is None:
        raise Corrupt(f"its NTFS boot sector or file table is damaged; {_CHKDSK}")
    require_whole(volume.size, device)
    return volume


def _rounded(volume: Volume, size: int) -> int:
    return size - size % max(volume.cluster_size, UNIT)


def _require_let_go(device: Device, volume: Volume) -> None:
    """That no Windows will go on with what it remembers of the volume."""
    said = _run(probe_argv(device), device, CHECK_TIMEOUT)
    if said.status == HIBERNATED:
        raise Unsafe(
            "Windows is hibernated in it (its fast startup does that at every shutdown), and would"
            " go on with what it remembers of the old size: start it, shut it down fully"
            " (shutdown /s /t 0), then try again"
        )
    if said.status == UNCLEAN or (said.status == 0 and volume.marked and not volume.resized):
        raise Unsafe(
            f"the file system was not cleanly unmounted, or is marked for a check; {_CHKDSK}"
        )
    if said.status in (NOT_NTFS, INCONSISTENT, UNKNOWN):
        raise Corrupt(f"the file system is damaged ({complaint(said)}); {_CHKDSK}")
    if said.status != 0:
        raise Error(f"the file system could not be looked at ({complaint(said)})")


def _rehearse(device: Device, volume: Volume, size: int) -> run.Completed | None:
    """None where resizing to `size` bytes would work, else what ntfsresize said."""
    said = _run(rehearse_argv(device, size, marked=volume.resized), device, CHECK_TIMEOUT)
    return None if said.status == 0 else said


def _check(device: Device, *, marked: bool) -> run.Completed:
    """Every cluster of the volume has the one owner that it says it has, or none."""
    return _run(info_argv(device, marked=marked), device, CHECK_TIMEOUT)


def _estimate(said: run.Completed, volume: Volume) -> int | None:
    """The fewest bytes, as far as ntfsresize knows without a rehearsal."""
    if is_full(said):
        return volume.size
    return parse_minimum(said.stdout) if said.status == 0 else None


def _least(device: Device, volume: Volume) -> int:
    """The fewest bytes for which a rehearsal succeeds, or not many more; those that it has
    where there is nothing to gain. Raises where nothing can be said."""
    said = _check(device, marked=volume.resized)
    size = _estimate(said, volume)
    if size is None:
        raise _refusal(said, "the file system cannot be shrunk")
    for _ in range(_TRIES):
        if size >= volume.size:
            return volume.size
        refused = _rehearse(device, volume, size)
        if refused is None:
            return size
        advice = parse_minimum(refused.stdout) or 0
        size = advice if advice > size else size + max((volume.size - size) // 4, 1)
    raise _refusal(refused or said, "the file system cannot be shrunk")


def _too_small(device: Device, volume: Volume, size: int, said: run.Completed) -> Error:
    if not DOES_NOT_FIT.search(said.stdout):
        return _refusal(said, "the file system cannot be shrunk")
    least = _least(device, volume)
    across = b"can't be split up" in said.stdout
    why = "a piece that cannot be split lies there" if across else "its contents do not fit"
    return Unsafe(
        f"the file system cannot be shrunk to {size} bytes ({format_size(size)}): {why};"
        f" the smallest for it is {least} ({format_size(least)})"
    )


def _refusal(said: run.Completed, what: str) -> Error:
    """What it means that ntfsresize, which was not to write, would not go on."""
    why = complaint(said)
    if b"ntfsresize v" not in said.stdout:
        return Error(f"{what}: ntfsresize could not be run ({why})")
    if b"bad sector" in said.stdout:
        return Unsafe(
            f"{what}: it lists bad sectors, as after a copy from a failing disk; in Windows, run"
            " chkdsk /b, shut down fully (shutdown /s /t 0), then try again"
        )
    if UNSUPPORTED.search(said.stdout) and not DOES_NOT_FIT.search(said.stdout):
        return Unsupported(f"{what}: ntfsresize does not do that ({why})")
    if DOES_NOT_FIT.search(said.stdout):
        return Unsafe(f"{what} to that size ({why})")
    return Corrupt(f"{what}: it fails its check ({why}); {_CHKDSK}")


def _resize(device: Device, volume: Volume, size: int, watch: Watch) -> Resized:
    said = _run(
        resize_argv(device, size, marked=volume.resized), device, CHANGE_TIMEOUT, _heard(watch)
    )
    os.fsync(device.fd)
    checked = _check(device, marked=True)
    now = read_volume(device)
    if now is None or _estimate(checked, now) is None:
        why = complaint(checked if said.status == 0 else said)
        raise Corrupt(f"resizing the file system failed and left it damaged ({why}); {_CHKDSK}")
    if said.status != 0 or now.size > size:
        raise Error(
            f"ntfsresize could not resize the file system ({complaint(said)}); it passes its check"
        )
    return Resized(now.size, changed=now.size != volume.size)


def _heard(watch: Watch) -> Callable[[bytes], None]:
    def heard(output: bytes) -> None:
        done = parse_progress(output)
        if done is not None:
            watch(done, 100 * 100)

    return heard


def _run(
    argv: tuple[str, ...],
    device: Device,
    timeout: int,
    heard: Callable[[bytes], None] | None = None,
) -> run.Completed:
    """With `heard` it changes the image, and is never stopped half-way."""
    return run.run(
        argv,
        pass_fds=device.pass_fds,
        named=(device.fd,),
        confined=True,
        outlives_us=heard is not None,
        timeout=timeout,
        watch=heard,
    )
