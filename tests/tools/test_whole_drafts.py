"""What was copied whole is not thrown away because it cannot get its name: the same command goes
on with it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from io import BufferedRandom
from pathlib import Path

import pytest

import virtstore
from virtstore.backends.base import PARTIAL_SUFFIX
from virtstore.model import Compression
from virtstore.progress import Progress

MIB = 1 << 20
CONTENTS = random.Random(1).randbytes(3 * MIB + 512)
#: So that there is time to do something before a copy ends.
SLOWLY = "4M"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    made = tmp_path / "images"
    made.mkdir(0o700)
    (made / "x.img").write_bytes(CONTENTS)
    (tmp_path / "config.toml").write_text(f'[[directory]]\npath = "{made}"\naccess = "write"\n')
    return made


@pytest.fixture
def host(images: Path) -> Iterator[virtstore.Host]:
    with virtstore.connect(config=str(images.parent / "config.toml")) as opened:
        yield opened


def coming(path: Path) -> Callable[[Progress], None]:
    """Somebody else gives that name to something while the copy is made."""

    def come(event: Progress) -> None:
        if event.stage == "copying" and not path.exists():
            path.write_bytes(b"somebody's")

    return come


@pytest.mark.parametrize("format", [None, "zstd", "gzip"])
def test_a_copy_whose_name_is_taken_meanwhile_stays_as_partial(
    host: virtstore.Host, images: Path, format: Compression | None
) -> None:
    source, target = host.image(f"{images}/x.img"), host.image(f"{images}/y.img")
    with pytest.raises(virtstore.Exists, match="stays as partial") as refused:
        source.copy(
            target,
            archive=format is not None,
            format=format,
            bwlimit=SLOWLY,
            progress=coming(images / "y.img"),
        )
    assert refused.value.path == f"{images}/y.img"
    assert (images / "y.img").read_bytes() == b"somebody's"
    whole = (images / f"y.img{PARTIAL_SUFFIX}").stat().st_size
    assert whole >= len(CONTENTS)
    (images / "y.img").unlink()
    written = source.copy(target, archive=format is not None, format=format).written
    assert (written == 0) is (format != "gzip")  # of which no part can be used again
    assert {each.name for each in images.iterdir()} == {"x.img", "y.img"}


def test_an_image_that_somebody_begins_to_use_is_kept_and_so_is_its_replacement(
    host: virtstore.Host, images: Path
) -> None:
    (images / "y.img").write_bytes(b"old")
    source, target = host.image(f"{images}/x.img"), host.image(f"{images}/y.img")
    held: list[BufferedRandom] = []

    def use(event: Progress) -> None:
        if event.stage == "copying" and not held:
            held.append((images / "y.img").open("r+b"))

    with pytest.raises(virtstore.InUse, match="stays as partial"):
        source.copy(target, overwrite=True, bwlimit=SLOWLY, progress=use)
    held[0].close()
    assert (images / "y.img").read_bytes() == b"old"
    assert source.copy(target, overwrite=True).written == 0
    assert (images / "y.img").read_bytes() == CONTENTS
