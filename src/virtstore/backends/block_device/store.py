"""One device as a store of one image. A device that is to be written is held with O_EXCL, which the
kernel refuses where it, its disk or a partition of it is mounted, in use as swap, or part of
another device.

Source: open(2) on O_EXCL."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from virtstore import linux
from virtstore.backends.base import (
    Capabilities,
    Image,
    ImageDraft,
    Look,
    Store,
    Stored,
    nothing,
)
from virtstore.backends.block_device.image import BlockDraft, BlockImage
from virtstore.backends.block_device.sysfs import number_of
from virtstore.backends.block_device.writing import refuse_physical_volume, refuse_read_only
from virtstore.errors import Denied, InUse, NotFound, Unsupported

FIXED: Final = (
    "it is a block device of this host: virtstore neither makes nor removes one, nor changes its"
    " size, nor takes a snapshot of it. 'virtstore copy --overwrite' and 'virtstore copy-contents'"
    " write to it; 'virtstore growfs' and 'virtstore shrinkfs' resize what is in it"
)


class BlockDevice(Store):
    """One device, under the one `name` that it was asked for by; `node` is an O_PATH descriptor of
    it, which it does not own."""

    capabilities: Capabilities = Capabilities(always_raw=True, fixed=FIXED, noun="a block device")

    def __init__(self, node: int, name: str) -> None:
        self._node = node
        self._name = name

    def close(self) -> None:
        """See the contract. The device's node belongs to the session."""

    def identity(self, name: str) -> str:
        return f"block:{number_of(os.fstat(self._node))}"

    def free(self) -> int:
        return 0

    def scan(self) -> Iterator[Stored]:
        with BlockImage(self._opened(os.O_RDONLY)) as image:
            left = image.marked
            yield Stored(
                name=self._name,
                type="block",
                state="partial" if left else "complete",
                was_image="yes" if left else "no",
                size=image.size,
                allocated=image.size,
                identity=image.identity,
                fixed=FIXED,
            )

    def open(
        self, name: str, *, writable: bool = False, partial: bool = False, stored: bool = False
    ) -> BlockImage:
        self._require(name)
        if writable:
            # Nobody has a claim on it. It is not held: the tools that are to work on it claim it
            # themselves (e2fsck, mount).
            os.close(self._claimed())
        image = BlockImage(self._opened(os.O_RDWR if writable else os.O_RDONLY))
        if image.marked != partial:
            image.close()
            raise NotFound("no such image")
        return image

    def require_name(self, name: str) -> None:
        self._require(name)

    def draft(
        self,
        name: str,
        size: int,
        thin: str | None = None,
        *,
        sparse: bool = False,
        preallocate: bool = False,
        stored: bool = False,
    ) -> ImageDraft:
        raise Unsupported(FIXED)

    def rework(self, name: str, before: Callable[[Image], None] = lambda image: None) -> BlockDraft:
        self._require(name)
        draft = BlockDraft(self._claimed())
        if not draft.marked:
            draft.in_place.begin(before)
        return draft

    def remove(self, name: str, *, with_snapshots: bool = False) -> None:
        raise Unsupported(FIXED)

    def discard(self, name: str, *, was_image: bool = False) -> None:
        """See the contract. A device has no drafts. What is left of an image stays, since nothing
        is known to be right in its place."""
        if was_image:
            raise Unsupported(FIXED)

    def grow(
        self,
        name: str,
        size: int,
        *,
        in_use: bool = False,
        between: Look = nothing,
        sparse: bool = False,
    ) -> None:
        """See the contract. All space that a device has is reserved."""
        if sparse:
            raise Unsupported(FIXED)
        with self.open(name) as image:
            if size > image.size:
                raise Unsupported(FIXED)

    def shrink(self, name: str, size: int) -> None:
        with self.open(name) as image:
            if size < image.size:
                raise Unsupported(FIXED)

    def guarded(self, name: str, end: int, contents: str) -> AbstractContextManager[str]:
        """See the contract. Nothing is undone."""
        self._require(name)
        return nullcontext(name)

    def frozen(self, name: str) -> Image:
        raise Unsupported(
            "a block device has no snapshots; 'virtstore copy' without --snapshot copies it while"
            " nobody uses it"
        )

    def _require(self, name: str) -> None:
        if name != self._name:
            raise NotFound("no such image")

    def _opened(self, flags: int) -> int:
        try:
            return linux.reopen(self._node, flags)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise InUse(
                    "the kernel says that it, its disk or a partition of it is mounted, swap, or"
                    " part of another device"
                ) from None
            if error.errno == errno.EMEDIUMTYPE:
                raise Unsupported(
                    "DRBD lets nobody open it here, where it is secondary; use it on the host where"
                    " it is primary"
                ) from None
            if error.errno in (errno.ENXIO, errno.ENODEV, errno.ENOMEDIUM):
                raise NotFound(f"the device is gone: {error.strerror}") from None
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise Denied(_why_not(flags)) from None
            raise

    def _claimed(self) -> int:
        """A descriptor to write by. While it is open nobody mounts the device or the like."""
        fd = self._opened(os.O_RDWR | os.O_EXCL)
        try:
            refuse_read_only(fd)
            refuse_physical_volume(fd)
        except BaseException:
            os.close(fd)
            raise
        return fd


def _why_not(flags: int) -> str:
    doing = "read" if flags & os.O_ACCMODE == os.O_RDONLY else "write to"
    return (
        f"this host does not let the agent {doing} it; let the agent run as root"
        " (VIRTSTORE_AGENT='sudo virtstore-agent'), or give its user the device (a udev rule)"
    )
