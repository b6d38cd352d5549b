"""The commands that move images: copy, copy-contents, compress, uncompress."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Final

from cyclopts import Parameter

from virtstore.cli.images import change
from virtstore.cli.options import (
    FLAGS,
    NICE,
    PIPE_WORD,
    Changing,
    Forced,
    Jobs,
    Number,
    image_at,
    located,
    path_on_host_of,
)
from virtstore.cli.piping import PIPED, Streams
from virtstore.cli.render import copy_text
from virtstore.cli.several import Sessions, with_progress
from virtstore.client.api import Copied, Image
from virtstore.copy_options import ContentsKeywords, CopyOptions, TargetKeywords
from virtstore.errors import Error, NotFound, UsageError
from virtstore.location import Location, canonical
from virtstore.model import Compression, CopyResult
from virtstore.progress import ProgressCallback

_DEFAULTS = Changing()
#: What an image's copy in a directory loses of its name.
_SUFFIX: Final = re.compile(r"\.(zst|lz4|lzo|gz|xz)$")
_Flag = Annotated[bool, Parameter(negative=())]
_NONE: Final[ContentsKeywords] = {}
_NONE_OF_TARGET: Final[TargetKeywords] = {}
_Copying = Callable[[Image, Image, ProgressCallback | None], Copied]


def copy(
    source: str,
    target: str,
    /,
    *more: str,
    how: Annotated[ContentsKeywords, FLAGS] = _NONE,
    made: Annotated[TargetKeywords, FLAGS] = _NONE_OF_TARGET,
    jobs: Jobs = None,
    options: Changing = _DEFAULTS,
) -> int:
    """Make TARGET a copy of SOURCE, on any two hosts.

    Without --archive the target is a mountable image, even if the source is an archive. Zeros are
    skipped, and what travels between hosts is compressed whether or not it becomes an archive. Each
    copy is checked by its digest, virtstore's own (see virtstore-verify), before it has its name.

    A target that exists is refused: --overwrite replaces it, copy-contents updates it and moves
    only what differs. A copy that was cut short is listed as partial; the same command goes on with
    it.

    Parameters
    ----------
    source
        An image or archive; - is standard input, which is read to its end first.
    target
        Where the copy goes; - is standard output, and results go to standard error then. In an
        existing directory the source's name is kept, but for the suffix of an archive (.zst or the
        like), which the copy gets or loses.
    more
        With several sources the last is the target, an existing directory or volume group.
    jobs
        Of several sources so many at a time (default: 1); --bwlimit is for each of them.

    Examples
    --------
    virtstore copy a:/mnt/images/golden.img b:/mnt/images/web.img
    virtstore copy a:/dev/vg0/web a:/dev/vg0/db b:/mnt/backups/ --snapshot --archive -j 2
    virtstore copy a:/dev/vg0/web - --archive | age -r KEY -o web.img.zst.age
    """

    def run(one: Image, other: Image, progress: ProgressCallback | None) -> Copied:
        return one.copy(other, dry_run=options.dry_run, progress=progress, **how, **made)

    def plan(result: CopyResult) -> str:
        target = CopyOptions(**made).for_target(result.target)
        archive = f", as a {target.compression} archive" if target.compression else ""
        sparse = ", sparse: nothing is reserved" if target.sparse else ""
        sparse = ", which shares its blocks" if target.reflink else sparse
        replaced = ", in place of what may be there" if target.overwrite else ""
        return archive + sparse + replaced

    nice, shared = how.get("nice", False), made.get("reflink", False)
    texts = (source, target, *more)
    base = made.get("base")
    if base is not None:
        if len(texts) > 2:
            raise UsageError("one base is for one image; copy them one by one")
        made = {**made, "base": _base_beside(target, base)}
    return _between(texts, run, plan, options, nice=nice, shared=shared, jobs=jobs)


def copy_contents(
    source: str,
    target: str,
    /,
    *,
    how: Annotated[ContentsKeywords, FLAGS] = _NONE,
    options: Changing = _DEFAULTS,
) -> int:
    """Overwrite an existing image with SOURCE's contents.

    TARGET must be at least as large as SOURCE. Only the chunks that differ are moved; what TARGET
    has behind them is zeroed. The disk of a domain that is shut off is refused without
    --force-defined.

    It is written in place: a run that is cut short leaves TARGET partly old and partly new, and
    listed as partial. The same command goes on from there: what was moved does not differ any more.

    Parameters
    ----------
    source
        An image or archive.
    target
        The image to overwrite.

    Examples
    --------
    virtstore copy-contents a:/mnt/images/golden.img b:/dev/vg0/web
    """

    def run(one: Image, other: Image, progress: ProgressCallback | None) -> Copied:
        return one.copy_contents(other, dry_run=options.dry_run, progress=progress, **how)

    def plan(_: CopyResult) -> str:
        return ", over what is there, where it differs"

    return _between((source, target), run, plan, options, nice=how.get("nice", False))


def compress(
    location: str,
    /,
    *more: str,
    format: Compression = "zstd",
    level: Number = None,
    keep: _Flag = False,
    force_defined: Forced = False,
    jobs: Jobs = None,
    options: Changing = _DEFAULTS,
) -> int:
    """Make a file an archive (x.img becomes x.img.zst).

    Parameters
    ----------
    location
        The image.
    more
        Others, each for itself.
    format
        The archive's format.
    level
        The compression level.
    keep
        Keep the image beside the archive.
    force_defined
        Remove the image although a domain of libvirt, which is shut off, is defined on it.
    jobs
        So many at a time (default: 1).

    Examples
    --------
    virtstore compress a:/mnt/images/old.img
    virtstore compress a:/mnt/images/old.img --format xz --keep
    """
    return change(
        lambda image, how: (
            image.compress(
                format=format, level=level, keep=keep, force_defined=force_defined, **how
            ).result
        ),
        options,
        location,
        *more,
        jobs=jobs,
    )


def uncompress(
    location: str,
    /,
    *more: str,
    keep: _Flag = False,
    force_defined: Forced = False,
    jobs: Jobs = None,
    options: Changing = _DEFAULTS,
) -> int:
    """Make an archive an image again (x.img.zst becomes x.img).

    Parameters
    ----------
    location
        The archive.
    more
        Others, each for itself.
    keep
        Keep the archive beside the image.
    force_defined
        Remove the archive although a domain of libvirt, which is shut off, is defined on it.
    jobs
        So many at a time (default: 1).

    Examples
    --------
    virtstore uncompress a:/mnt/images/old.img.zst
    """
    return change(
        lambda image, how: image.uncompress(keep=keep, force_defined=force_defined, **how).result,
        options,
        location,
        *more,
        jobs=jobs,
    )


def _between(
    texts: Sequence[str],
    run: _Copying,
    plan: Callable[[CopyResult], str],
    options: Changing,
    *,
    nice: bool,
    shared: bool = False,
    jobs: int | None = None,
) -> int:
    """Open a session with each host, copy to the last location, and print the account of it.
    `plan`: what a dry run says becomes of the target; `shared`: it shares the source's blocks.
    Returns the exit status."""
    *sources, target = [PIPED if text == PIPE_WORD else located(text) for text in texts]
    streams = Streams(sources, target, options)
    if len(sources) > 1:
        _refuse_same_name(sources)
        # With this end it is a directory or volume group that is there, or is refused.
        target = target._replace(path=f"{(target.path or '').rstrip('/')}/")
    if nice:
        os.nice(NICE)  # and so is ssh, which encrypts

    def copied(hosts: Sessions, source: Location, progress: ProgressCallback) -> CopyResult:
        one = streams.source or image_at(hosts(source), source)
        other = streams.target or image_at(hosts(target), target)
        return run(one, other, progress).result

    def text(result: CopyResult) -> str | None:
        planned = plan(result) if options.dry_run else None
        return None if options.quiet else copy_text(result, plan=planned, shared=shared)

    def first(hosts: Sessions) -> None:
        if len(sources) > 1:
            _require_directory(hosts, target)

    return with_progress(sources, copied, text, options, jobs=jobs, others=[target], first=first)


def _base_beside(target: str, base: str) -> str:
    """The path of the archive that one at `target` is to be based on."""
    if target == PIPE_WORD:
        raise UsageError("what goes to standard output has no base; leave --base out")
    if not base:
        raise UsageError("--base is empty: name an archive, or leave --base out")
    why = "a base lies on the host of the new archive", "leave --base out, or copy the base there"
    return path_on_host_of(target, base, *why)


def _require_directory(hosts: Sessions, target: Location) -> None:
    """Raises `NotFound` where there is none at the target, once for all sources."""
    try:
        hosts(target).list(target.path)
    except NotFound as error:
        error.message += "; several sources go into a directory or volume group that is there"
        raise
    except Error:  # each copy says it in its own way, such as which access it needs
        return


def _refuse_same_name(sources: Sequence[Location]) -> None:
    """Raises `UsageError` where one copy would take another's place."""
    names: dict[str, Location] = {}
    for source in sources:
        name = _SUFFIX.sub("", canonical(source.path or "").rpartition("/")[2])
        if name in names:
            raise UsageError(
                f"{names[name]} and {source} would have the same name at the target; copy them one"
                " by one, each with a name of its own"
            )
        names[name] = source
