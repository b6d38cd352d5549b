"""A base that somebody changes, cuts, replaces or removes while a copy takes frames from it: what
gets the copy's name is whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.tools.meanwhile import Meanwhile
from tests.tools.test_based_archives import ROOT, free, plain, root, xfs

from virtstore import connect
from virtstore.copy_options import CopyKeywords
from virtstore.errors import InUse, NoSpace

__all__ = ["plain", "root", "xfs"]  # fixtures

Change = Callable[[Path], object]


def copied(root: Path, name: str, **options: object) -> tuple[str, ...]:
    """Copy x.img to an archive of this name. Returns what was warned of."""
    wish = CopyKeywords(archive=True, **options)  # type: ignore[typeddict-item]
    with connect("local:") as here:
        result = here.image(f"{root}/x.img").copy(here.image(f"{root}/{name}"), **wish)
        here.image(f"{root}/{name}").verify()
        return result.warnings


def overwrite(base: Path) -> None:
    with base.open("r+b") as file:
        file.seek(base.stat().st_size // 2)
        file.write(os.urandom(base.stat().st_size // 3))


def overwrite_secretly(base: Path) -> None:
    """As `rsync --inplace --times` does, which sets the time of modification back."""
    before = base.stat()
    overwrite(base)
    os.utime(base, ns=(before.st_atime_ns, before.st_mtime_ns))


def cut(base: Path) -> None:
    os.truncate(base, base.stat().st_size // 2)


def replace(base: Path) -> None:
    other = base.with_name("other")
    other.write_bytes(os.urandom(5000))
    other.replace(base)


def chmod(base: Path) -> None:
    base.chmod(0o640)


@pytest.mark.parametrize("change", [overwrite, overwrite_secretly, cut])
def test_no_archive_is_made_of_frames_of_a_base_that_is_written_to_meanwhile(
    root: Path, meanwhile: Meanwhile, change: Change
) -> None:
    base = root / "1.img.zst"
    copied(root, base.name)
    with pytest.raises(InUse, match="wrote to it, the base") as refused:
        copied(
            root, "2.img.zst", base=str(base), progress=meanwhile(lambda: change(base), part=0.1)
        )
    assert refused.value.path == str(base)
    assert sorted(path.name for path in root.iterdir()) == [base.name, "x.img"]


@pytest.mark.parametrize("change", [replace, Path.unlink, chmod])
def test_a_base_that_loses_its_name_or_mode_meanwhile_is_as_good_as_before(
    root: Path, meanwhile: Meanwhile, change: Change
) -> None:
    base = root / "1.img.zst"
    copied(root, base.name)
    act = meanwhile(lambda: change(base), part=0.1)
    assert copied(root, "2.img.zst", base=str(base), progress=act) == ()


@ROOT
def test_a_full_disk_is_no_fault_of_the_base(
    xfs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[[directory]]\npath = "{xfs}"\naccess = "write"\n')
    monkeypatch.setenv("VIRTSTORE_CONFIG", str(config))
    (xfs / "x.img").write_bytes(os.urandom(40 << 20))
    copied(xfs, "1.img.zst")
    (xfs / "x.img").write_bytes(os.urandom(40 << 20))
    with (xfs / "others").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free(xfs) - (20 << 20))
    with pytest.raises(NoSpace) as refused:
        copied(xfs, "2.img.zst", base=f"{xfs}/1.img.zst")
    assert refused.value.path == f"{xfs}/2.img.zst"
    assert sorted(path.name for path in xfs.iterdir()) == ["1.img.zst", "others", "x.img"]
