"""What was copied whole is not thrown away because it cannot get its name: the same command goes
on with it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.tools.meanwhile import Meanwhile

import virtstore
from virtstore.backends.base import PARTIAL_SUFFIX
from virtstore.model import Compression

MIB = 1 << 20
CONTENTS = random.Random(1).randbytes(3 * MIB + 512)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    made = tmp_path / "images"
    made.mkdir(0o700)
    (made / "x.img").write_bytes(CONTENTS)
    (tmp_path / "config.toml").write_text(f'[[directory]]\npath = "{made}"\naccess = "write"\n')
    return made


@pytest.fixture
def host(images: Path, meanwhile: Meanwhile) -> Iterator[virtstore.Host]:
    with virtstore.connect(config=str(images.parent / "config.toml")) as opened:
        yield opened


@pytest.mark.parametrize("format", [None, "zstd", "gzip"])
def test_a_copy_whose_name_is_taken_meanwhile_stays_as_partial(
    host: virtstore.Host, meanwhile: Meanwhile, images: Path, format: Compression | None
) -> None:
    source, target = host.image(f"{images}/x.img"), host.image(f"{images}/y.img")
    with pytest.raises(virtstore.Exists, match="stays as partial") as refused:
        source.copy(
            target,
            archive=format is not None,
            format=format,
            progress=meanwhile(lambda: (images / "y.img").write_bytes(b"somebody's")),
        )
    assert refused.value.path == f"{images}/y.img"
    assert (images / "y.img").read_bytes() == b"somebody's"
    whole = (images / f"y.img{PARTIAL_SUFFIX}").stat().st_size
    assert whole >= len(CONTENTS)
    (images / "y.img").unlink()
    written = source.copy(target, archive=format is not None, format=format).written
    # Of gzip no part can be used again; ours says when it was made, which is another second.
    assert (written < 5000) is (format != "gzip")
    assert {each.name for each in images.iterdir()} == {"x.img", "y.img"}


def test_an_image_that_somebody_begins_to_use_is_kept_and_so_is_its_replacement(
    host: virtstore.Host, meanwhile: Meanwhile, images: Path
) -> None:
    (images / "y.img").write_bytes(b"old")
    source, target = host.image(f"{images}/x.img"), host.image(f"{images}/y.img")
    with ExitStack() as held:

        def use() -> None:
            held.enter_context((images / "y.img").open("r+b"))

        with pytest.raises(virtstore.InUse, match="stays as partial"):
            source.copy(target, overwrite=True, progress=meanwhile(use))
    assert (images / "y.img").read_bytes() == b"old"
    assert source.copy(target, overwrite=True).written == 0
    assert (images / "y.img").read_bytes() == CONTENTS
