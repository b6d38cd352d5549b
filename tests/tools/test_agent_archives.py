"""Archives that other tools made, dropped into a directory by hand, are as good as our own."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import virtstore

MIB = 1 << 20
CONTENTS = random.Random(3).randbytes(MIB + 77) + bytes(MIB) + b"the end"
MADE_BY = {
    "zstd": ["zstd", "-q", "-c"],
    "lzop": ["lzop", "-c"],
    "gzip": ["gzip", "-c"],
    "xz": ["xz", "-0", "-c"],
    "lz4": ["lz4", "-q", "-c"],
}
ENDINGS = {"zstd": ".zst", "lzop": ".lzo", "gzip": ".gz", "xz": ".xz", "lz4": ".lz4"}
READ_BY = {"zstd": "zstd", "lzop": "lzop", "gzip": "gzip", "xz": "xz", "lz4": "lz4"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (made := tmp_path / "images").mkdir(mode=0o700)
    return made


@pytest.fixture
def host(root: Path, tmp_path: Path) -> Iterator[virtstore.Host]:
    config = tmp_path / "config.toml"
    config.write_text(f'[[directory]]\npath = "{root}"\naccess = "write"\n')
    with virtstore.connect("local:", config=str(config)) as host:
        yield host


def dropped(root: Path, form: str, name: str) -> Path:
    """An archive of CONTENTS by that format's own tool, put there with a plain copy."""
    (elsewhere := root.parent / "elsewhere").mkdir(exist_ok=True)
    (elsewhere / "image").write_bytes(CONTENTS)
    with (elsewhere / "archive").open("wb") as archive:
        subprocess.run([*MADE_BY[form], str(elsewhere / "image")], stdout=archive, check=True)
    return Path(shutil.copy(elsewhere / "archive", root / name))


@pytest.mark.parametrize("form", MADE_BY)
@pytest.mark.parametrize("right", [True, False], ids=["named right", "named .img"])
def test_an_archive_is_known_by_its_contents_and_can_be_used(
    host: virtstore.Host, root: Path, form: str, right: bool
) -> None:
    path = dropped(root, form, f"x.img{ENDINGS[form]}" if right else "x.img")
    image = host.image(str(path))
    info = image.info()
    assert (info.compression, info.state) == (form, "complete")
    assert info.size in (len(CONTENTS), None)
    assert info.stored == path.stat().st_size
    found = image.verify()
    assert (found.size, found.checked) == (len(CONTENTS), "checksums")
    copied = image.copy(host.image(f"{root}/y.img"))
    assert (root / "y.img").read_bytes() == CONTENTS
    assert copied.result.digest == found.digest
    assert image.diff(copied).different == 0
    with pytest.raises(virtstore.Unsupported, match="compressed"):
        image.grow("+1M")
    made = image.uncompress()
    assert made.path == f"{root}/x.img"
    assert (root / "x.img").read_bytes() == CONTENTS
    assert {path.name for path in root.iterdir()} == {"x.img", "y.img"}


@pytest.mark.parametrize("form", MADE_BY)
def test_our_archives_are_restored_by_the_formats_own_tool(
    host: virtstore.Host, root: Path, form: str
) -> None:
    (root / "x.img").write_bytes(CONTENTS)
    target = host.image(f"{root}/x{ENDINGS[form]}")
    host.image(f"{root}/x.img").copy(target, archive=True, format=form)  # type: ignore[arg-type]
    argv = [READ_BY[form], "-d", "-c", target.path]
    assert subprocess.run(argv, capture_output=True, check=True).stdout == CONTENTS


def test_an_archive_is_copied_as_an_archive_without_losing_anything(
    host: virtstore.Host, root: Path
) -> None:
    image = host.image(str(dropped(root, "lzop", "x.lzo")))
    archive = image.copy(host.image(f"{root}/x.zst"), archive=True)
    again = archive.copy(host.image(f"{root}/y.gz"), archive=True, format="gzip")
    assert archive.result.digest == again.result.digest == again.verify().digest


@pytest.mark.parametrize("form", MADE_BY)
def test_a_damaged_archive_overwrites_nothing(host: virtstore.Host, root: Path, form: str) -> None:
    path = dropped(root, form, "x.arc")
    with path.open("r+b") as archive:
        archive.truncate(path.stat().st_size - 9)
    old = bytes(range(256)) * 12 * 1024
    (root / "y.img").write_bytes(old)
    image, target = host.image(str(path)), host.image(f"{root}/y.img")
    for work in (
        image.verify,
        image.uncompress,
        lambda: image.copy(target, overwrite=True),
        lambda: image.copy_contents(target),
        lambda: image.copy(host.image(f"{root}/z.img")),
    ):
        with pytest.raises(virtstore.Corrupt):
            work()
        assert (root / "y.img").read_bytes() == old
        assert {path.name for path in root.iterdir()} == {"x.arc", "y.img"}
