"""The commands that resize what is inside an image: growfs, shrinkfs, resize."""

from __future__ import annotations

from typing import Annotated, Final

from cyclopts import Parameter

from virtstore.cli.images import change
from virtstore.cli.options import Changing, Forced, Number
from virtstore.units import check_size

_DEFAULTS = Changing()
_MINIMUM: Final = "minimum"


def growfs(
    location: str,
    size: str | None = None,
    /,
    *,
    partition: Number = None,
    options: Changing = _DEFAULTS,
) -> None:
    """Grow the file system in an image to fill it, or to SIZE.

    In a partitioned image its partition grows with it, as far as there is free space behind.

    Parameters
    ----------
    location
        The image.
    size
        The size that the file system is to have.
    partition
        The number of the partition that it is in (default: the one that 'resize' takes).

    Examples
    --------
    virtstore growfs a:/dev/vg0/web
    virtstore growfs a:/mnt/images/web.img 20G --partition 2
    """
    if size is not None:
        check_size(size)
    change(lambda image, how: image.growfs(size, partition=partition, **how), options, location)


def shrinkfs(
    location: str,
    size: str,
    /,
    *,
    partition: Number = None,
    force_defined: Forced = False,
    options: Changing = _DEFAULTS,
) -> None:
    """Shrink the file system in an image, and its partition.

    The image keeps its size.

    Parameters
    ----------
    location
        The image.
    size
        The size that the file system is to have, or 'minimum': as small as it goes.
    partition
        The number of the partition that it is in (default: the one that 'resize' takes).
    force_defined
        Shrink it although a domain of libvirt, which is shut off, is defined on it.

    Examples
    --------
    virtstore shrinkfs a:/dev/vg0/web minimum
    """
    _check(size, _MINIMUM)
    change(
        lambda image, how: image.shrinkfs(
            size, partition=partition, force_defined=force_defined, **how
        ),
        options,
        location,
    )


def resize(
    location: str,
    size: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    partition: Number = None,
    move_swap: Annotated[bool, Parameter(negative=())] = False,
    force_defined: Forced = False,
    options: Changing = _DEFAULTS,
) -> None:
    """Resize image, partition and file system together.

    The partition is the last one with a file system that is meant to grow: swap, recovery and
    boot partitions only where there is no other. Free space behind the last partition is cut
    whatever is in that.

    Of a libvirt domain that runs, the disk alone can grow; the guest sees that at once, and grows
    what is on it.

    They grow from the outside in and shrink from the inside out, each step checked before
    the next.

    Parameters
    ----------
    location
        The image.
    size
        The size that the image is to have, +SIZE or -SIZE, or 'minimum': the smallest that
        holds what is in it.
    partition
        The number of the partition.
    move_swap
        Where a swap partition lies between that and the end of the disk, move it to the new end.
        It keeps its number, size, UUID and label; what was swapped out is zeroed.
    force_defined
        Make it smaller although a domain of libvirt, which is shut off, is defined on it.

    Examples
    --------
    virtstore resize a:/dev/vg0/web 40G --dry-run
    virtstore resize a:/mnt/images/web.img minimum
    virtstore resize a:/mnt/images/win.img +20G --partition 3
    """
    _check(size, "+SIZE", "-SIZE", _MINIMUM)
    change(
        lambda image, how: image.resize(
            size, partition=partition, move_swap=move_swap, force_defined=force_defined, **how
        ),
        options,
        location,
    )


def _check(size: str, *others: str) -> None:
    if size != _MINIMUM:
        check_size(size, *others)
