"""The commands that make, change and remove images: create, delete, grow, shrink,
snapshot, clean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypedDict

from cyclopts import Parameter

from virtstore.cli.options import Changing, Forced, image_at, located, path_on_host_of
from virtstore.cli.render import changed_text, lines_text, on
from virtstore.cli.several import Sessions, with_progress
from virtstore.client.api import Image
from virtstore.location import Location
from virtstore.model import Changed, Cleaned
from virtstore.progress import ProgressCallback
from virtstore.units import check_size, format_size

_DEFAULTS = Changing()
_SignedSize = Annotated[str, Parameter(allow_leading_hyphen=True)]


def create(
    location: str,
    size: str,
    /,
    *,
    thin: str | None = None,
    sparse: Annotated[bool, Parameter(negative=())] = False,
    preallocate: Annotated[bool, Parameter(negative=())] = False,
    backing: str | None = None,
    options: Changing = _DEFAULTS,
) -> None:
    """Make a new image, wholly zeroed and wholly allocated.

    Its path and its real size are printed. A name that ends in .qcow2 makes a qcow2, which takes
    room only as the guest writes to it.

    Parameters
    ----------
    location
        Where; the directory above must exist, the name must not.
    size
        Bytes, or with K, M, G, T, P, also KiB to PiB (10G); KB to PB for powers of 1000.
    thin
        In a volume group: allocate from this thin pool.
    sparse
        In a directory: allocate nothing. It takes room as the guest writes to it, and where there
        is none any more the guest's writes fail.
    preallocate
        Of a qcow2: reserve all of its space now, as for any other image.
    backing
        Of a qcow2: lie over this image of the same host, and read as that. It takes room for what
        the guest writes to it, and needs that image as it is now.

    Examples
    --------
    virtstore create a:/mnt/images/scratch.img 1T --sparse
    virtstore create a:/mnt/images/web.qcow2 10G --backing a:/mnt/images/golden.qcow2
    virtstore create a:/dev/vg0/web 10G --thin pool
    """
    check_size(size)
    under = _path_under(location, backing) if backing is not None else None
    change(
        lambda image, how: (
            image.host.create(
                image.path,
                size,
                thin=thin,
                sparse=sparse,
                preallocate=preallocate,
                backing=under,
                **how,
            ).result
        ),
        options,
        location,
    )


def _path_under(location: str, backing: str) -> str:
    """The path of the image that a new one at `location` is to lie over."""
    why = "an overlay lies on the host of the image under it", "copy that image there first"
    return path_on_host_of(location, backing, *why)


def delete(
    location: str,
    /,
    *more: str,
    with_snapshots: Annotated[bool, Parameter(negative=())] = False,
    force_defined: Forced = False,
    options: Changing = _DEFAULTS,
) -> int:
    """Remove images that nobody uses.

    Parameters
    ----------
    location
        The image.
    more
        Others, each for itself.
    with_snapshots
        Remove its snapshots, too.
    force_defined
        Remove it although a domain of libvirt, which is shut off, is defined on it.

    Examples
    --------
    virtstore delete a:/mnt/images/old.img
    virtstore delete a:/dev/vg0/web --with-snapshots
    """
    return change(
        lambda image, how: image.delete(
            with_snapshots=with_snapshots, force_defined=force_defined, **how
        ),
        options,
        location,
        *more,
    )


def rename(
    location: str,
    name: str,
    /,
    *,
    force_defined: Forced = False,
    options: Changing = _DEFAULTS,
) -> None:
    """Give an image that nobody uses another name, in the same place.

    Parameters
    ----------
    location
        The image.
    name
        What it is to be called there.
    force_defined
        Rename it although a domain of libvirt, which is shut off, is defined on it.

    Examples
    --------
    virtstore rename a:/mnt/images/web.img web-old.img
    virtstore rename a:/dev/vg0/web web-old
    """
    was = str(located(location))
    change(
        lambda image, how: image.rename(name, force_defined=force_defined, **how),
        options,
        location,
        was=was,
    )


def grow(
    location: str,
    size: _SignedSize,
    /,
    *,
    sparse: Annotated[bool, Parameter(negative=())] = False,
    options: Changing = _DEFAULTS,
) -> None:
    """Make an image larger; the new space reads as zeros.

    The new space is allocated. A sparse image keeps the holes that it has.
    The guest of a libvirt domain that runs sees that at once. What is on the disk is its to grow.

    Parameters
    ----------
    location
        The image.
    size
        The size that it is to have, or +SIZE for so much more.
    sparse
        In a directory: allocate nothing of the new space. Where the disk is full the guest's writes
        fail.

    Examples
    --------
    virtstore grow a:/mnt/images/web.img 20G
    virtstore grow a:/dev/vg0/web +5G
    """
    check_size(size, "+SIZE")
    change(lambda image, how: image.grow(size, sparse=sparse, **how), options, location)


def shrink(
    location: str,
    size: _SignedSize,
    /,
    *,
    discard_data: Annotated[bool, Parameter(negative=())] = False,
    force_defined: Forced = False,
    options: Changing = _DEFAULTS,
) -> None:
    """Make an image smaller.

    Refused where that would cut a file system, a partition or data: 'virtstore resize' shrinks
    what is in the image first.

    Parameters
    ----------
    location
        The image.
    size
        The size that it is to have, or -SIZE for so much less.
    discard_data
        Cut whatever is there.
    force_defined
        Cut it although a domain of libvirt, which is shut off, is defined on it.

    Examples
    --------
    virtstore shrink a:/mnt/images/web.img 10G
    virtstore shrink a:/dev/vg0/scratch -2G --discard-data
    """
    check_size(size, "-SIZE")
    change(
        lambda image, how: image.shrink(
            size, discard_data=discard_data, force_defined=force_defined, **how
        ),
        options,
        location,
    )


def snapshot(
    location: str,
    name: str | None = None,
    /,
    *,
    size: str | None = None,
    options: Changing = _DEFAULTS,
) -> None:
    """Make a point-in-time snapshot beside an image.

    Its path is printed.

    Parameters
    ----------
    location
        The image.
    name
        The snapshot's name (default: the image's with -s1, -s2, …).
    size
        Of a volume's snapshot: how much of the origin may change.

    Examples
    --------
    virtstore snapshot a:/dev/vg0/web
    virtstore snapshot a:/dev/vg0/web before-upgrade --size 2G
    """
    change(lambda image, how: image.snapshot(name, size=size, **how).result, options, location)


def clean(location: str, /, *more: str, options: Changing = _DEFAULTS) -> int:
    """Remove what interrupted operations left.

    That is partial images, and snapshots that nobody copies from any more. What has to stay is
    named, with the reason.

    Parameters
    ----------
    location
        A directory, a volume group, or an image.
    more
        Others, each for itself.

    Examples
    --------
    virtstore clean a:/mnt/images --dry-run
    virtstore clean a:/dev/vg0 a:/mnt/images
    """

    def cleaned(hosts: Sessions, at: Location, progress: ProgressCallback) -> Cleaned:
        return hosts(at).clean(at.path or "", dry_run=options.dry_run, progress=progress)

    return with_progress(
        [located(text) for text in (location, *more)],
        cleaned,
        lambda done: None if options.quiet else _cleaned_text(done),
        options,
    )


def _cleaned_text(cleaned: Cleaned) -> str:
    verb, freed = ("would remove", "to be freed") if cleaned.dry_run else ("removed", "freed")
    lines = [f"{verb} what was left of {on(cleaned.host, path)}" for path in cleaned.removed]
    if lines:
        lines.append(f"{format_size(cleaned.freed)} {freed}")
    else:
        nothing = "nothing is removed" if cleaned.warnings else "nothing was left behind"
        lines = [f"{on(cleaned.host, cleaned.path)}: {nothing}"]
    return lines_text(lines, cleaned.warnings)


class How(TypedDict):
    """The keywords that every method takes which changes an image."""

    dry_run: bool
    progress: ProgressCallback


def change(
    do: Callable[[Image, How], Changed],
    options: Changing,
    *locations: str,
    jobs: int | None = None,
    was: str = "",
) -> int:
    """Change the image at each location, `jobs` at a time, and print what that led to. `was`: as
    `changed_text` has it. Returns the exit status."""

    def done(hosts: Sessions, at: Location, progress: ProgressCallback) -> Changed:
        return do(image_at(hosts(at), at), How(dry_run=options.dry_run, progress=progress))

    places = [located(text) for text in locations]
    return with_progress(
        places,
        done,
        lambda changed: None if options.quiet else changed_text(changed, was=was),
        options,
        jobs=jobs,
    )
