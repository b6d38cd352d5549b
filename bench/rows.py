"""The table: every job, and what is demanded of it. What is typed for each is in
`commands`; a row that is more than a race is a study of its own."""

from __future__ import annotations

from functools import partial
from typing import Protocol

from bench import commands, containers, demands, inputs, on_ceph, on_s3, remarks
from bench.create import measure_create
from bench.incremental import measure_incremental
from bench.model import Result
from bench.neighbour import measure_bandwidth, measure_page_cache
from bench.place import Place
from bench.race import Command, Race, shell
from bench.restoring import measure_update_from_archive
from bench.resume import measure_resume
from bench.sizes import measure_sizes
from bench.study import Study
from bench.warm import measure_warm_info


class Row(Protocol):
    """One row: `measure` takes `runs` figures of each command."""

    @property
    def name(self) -> str: ...

    def measure(self, place: Place, runs: int) -> Result: ...


def rows(scale: int) -> tuple[Row, ...]:
    """All rows, in the order of the report."""
    return (
        _archive("archive", "sparse.img", holes="seek"),
        _archive("archive-full", "full.img", holes="raw"),
        _copy(),
        _restore(),
        _update("update", "changed.img", "full.img", scale),
        _update("revert", "full.img", "changed.img", scale),
        Study("update-archive", measure_update_from_archive),
        _copy_here(),
        _compress(),
        _uncompress(),
        _huge(),
        *containers.rows(),
        *on_ceph.rows(),
        *on_s3.rows(),
        Study("create", measure_create),
        _info(),
        Study("info-warm", measure_warm_info),
        _list(scale),
        Study("resume-image", partial(measure_resume, archive=False)),
        Study("resume-archive", partial(measure_resume, archive=True)),
        Study("incremental", measure_incremental),
        Study("bwlimit", measure_bandwidth),
        Study("page-cache", measure_page_cache),
        Study("sizes", measure_sizes),
    )


#: What a pipeline does not do that `copy --archive` does.
_UNVERIFIED = (
    "virtstore checks that each frame decompresses to what was read, and digests of all; a pipeline"
    " checks nothing: what goes wrong before or behind ssh stays in the archive until it is needed."
)


def _archive(name: str, image: str, *, holes: str) -> Race:
    return Race(
        name,
        f"copy {image} to an archive on another host",
        commands.archiving(image, holes=holes),
        (
            demands.faster(commands.LZOP, 3),
            demands.faster(commands.ZSTD, 2),
            demands.faster(commands.TAR_AES, 1),
            demands.smaller(commands.LZOP, 0.85),
            demands.memory,
        ),
        remarks=(
            remarks.beside(commands.ZSTD_AES, ""),
            remarks.beside(commands.TAR_AES, _UNVERIFIED),
        ),
    )


def _copy() -> Race:
    return Race(
        "copy",
        "copy sparse.img to an image on another host, wholly allocated and flushed",
        commands.COPYING,
        (
            demands.faster(commands.COPY_LZOP, 4),
            demands.faster(commands.RSYNC, 3),
            demands.faster(commands.UPLOAD, 3),
            demands.memory,
        ),
    )


def _restore() -> Race:
    return Race(
        "restore",
        "restore sparse.img from an archive on another host into an existing image",
        commands.restoring(),
        (demands.faster(commands.RESTORE, 3), demands.memory),
        ("The existing image is full of other data before every run.",),
        after=shell("rm -f {a}/old.img {b}/kept.zst {b}/kept.lzo {b}/kept.img {b}/ours.zst"),
    )


def _update(name: str, source: str, target: str, scale: int) -> Race:
    differs = len(inputs.different_blocks(scale)) * inputs.BLOCK
    limit = 1.5 * differs + 0.0005 * inputs.SIZE / scale
    return Race(
        name,
        f"copy-contents of {source} onto an image on another host that is like {target}",
        commands.updating(f"{{a}}/{source}", f"{{a}}/{target}"),
        (demands.faster(commands.RSYNC, 4), demands.moved(limit), demands.memory),
        (f"1 % differs, {differs / 1e6:.1f} MB.",),
        after=shell("rm -f {b}/near.img"),
    )


def _copy_here() -> Race:
    return Race(
        "copy-here",
        "copy sparse.img on one host, wholly allocated and flushed",
        commands.COPYING_HERE,
        (demands.faster_than_best((commands.CP, commands.CONVERT), 1), demands.memory),
    )


def _compress() -> Race:
    return Race(
        "compress",
        "compress sparse.img",
        commands.COMPRESSING,
        (
            demands.faster(commands.COMPRESS, 1.2),
            demands.faster(commands.TAR_COMPRESS, 1),
            demands.memory,
        ),
        remarks=(remarks.beside(commands.TAR_COMPRESS, _UNVERIFIED),),
    )


def _uncompress() -> Race:
    return Race(
        "uncompress",
        "uncompress the archive of sparse.img, wholly allocated and flushed",
        commands.UNCOMPRESSING,
        (demands.faster(commands.UNCOMPRESS, 1.5), demands.memory),
        after=shell("rm -f {a}/kept.img.zst"),
    )


def _huge() -> Race:
    return Race(
        "huge",
        "copy a 1 TiB image with 1 GiB of data to an archive on another host",
        commands.huge(),
        (demands.no_slower(commands.SAME, 1.5), demands.memory),
        ("`zstd -l` reads the archive's index, and `zstd -d` the archive.",),
    )


def _info() -> Race:
    return Race(
        "info",
        "info of an image on this host",
        (Command("virtstore", "virtstore info {a}/sparse.img"),),
        (demands.within(0.25), demands.memory),
    )


def _list(scale: int) -> Race:
    lines = inputs.MANY // scale
    command = Command(
        "virtstore",
        "virtstore list -l {a}/many",
        check=shell(f"[ $(virtstore list -l {{a}}/many | wc -l) -gt {lines} ]"),
    )
    judges = (demands.within(1.5), demands.memory)
    return Race("list", f"list -l of {lines:,} images", (command,), judges)
