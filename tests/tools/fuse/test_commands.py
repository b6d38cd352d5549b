"""The commands, on a file system that cannot rename without replacing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from virtstore.backends.base import PARTIAL_SUFFIX
from virtstore.backends.files.final_names import PUBLISH_SUFFIX, is_internal

from ...ours import undated
from ..test_agent_commands import MIB, told, virtstore


def there(place: Path) -> set[str]:
    return {each.name for each in place.iterdir() if not is_internal(each.name)}


def listed(place: Path) -> dict[str, str]:
    return {Path(each["path"]).name: each["state"] for each in told("list", place)}


def test_a_copy_is_whole_and_does_not_replace_an_image(images: Path, place: Path) -> None:
    told("copy", images / "x.img", place / "y.img")
    made = (images / "x.img").read_bytes()
    assert (place / "y.img").read_bytes() == made
    (images / "x.img").write_bytes(b"other" * 1000)
    assert told("copy", images / "x.img", place / "y.img", status=4)["error"]["code"] == "exists"
    assert (place / "y.img").read_bytes() == made
    told("copy", images / "x.img", place / "y.img", "--overwrite")
    assert (place / "y.img").read_bytes() == b"other" * 1000
    assert listed(place) == {"y.img": "complete"}
    assert there(place) == {"y.img"}


def test_an_image_lives_there_from_its_making_to_its_end(images: Path, place: Path) -> None:
    assert told("create", place / "y.img", "5M")["allocated"] >= 5 * MIB
    told("copy-contents", images / "x.img", place / "y.img")
    contents = (images / "x.img").read_bytes().ljust(5 * MIB, b"\0")
    told("grow", place / "y.img", "6M")
    told("compress", place / "y.img")
    assert there(place) == {"y.img.zst"}
    told("uncompress", place / "y.img.zst")
    assert (place / "y.img").read_bytes() == contents.ljust(6 * MIB, b"\0")
    assert told("snapshot", place / "y.img", status=11)["error"]["code"] == "unsupported"
    assert there(place) == {"y.img"}
    told("delete", place / "y.img")
    assert listed(place) == {}
    assert there(place) == set()


@pytest.mark.parametrize("archive", [(), ("--archive",)])
def test_what_was_cut_goes_on(images: Path, place: Path, archive: tuple[str, ...]) -> None:
    whole = told("copy", images / "x.img", place / "y.img", *archive)["written"]
    contents = (place / "y.img").read_bytes()
    (place / "y.img").unlink()
    partial = place / f"y.img{PARTIAL_SUFFIX}"
    partial.touch(0o600)
    partial.write_bytes(contents[: MIB + 5000])
    assert listed(place) == {"y.img": "partial"}
    written = told("copy", images / "x.img", place / "y.img", *archive)["written"]
    assert 0 < written < whole
    assert undated((place / "y.img").read_bytes()) == undated(contents)
    assert told("verify", place / "y.img")["size"] == (images / "x.img").stat().st_size
    assert there(place) == {"y.img"}


@pytest.mark.parametrize("command", ["list", "clean", "copy"])
def test_who_was_killed_between_two_names_has_published(
    images: Path, place: Path, command: str
) -> None:
    (place / f"y.img{PUBLISH_SUFFIX}").write_bytes(b"published")
    os.link(place / f"y.img{PUBLISH_SUFFIX}", place / "y.img")
    if command == "copy":
        told("copy", images / "x.img", place / "y.img", "--overwrite")
    else:
        told(command, place)
        assert (place / "y.img").read_bytes() == b"published"
    assert listed(place) == {"y.img": "complete"}
    assert there(place) == {"y.img"}


def test_who_was_killed_before_the_final_name_has_a_partial_image(
    images: Path, place: Path
) -> None:
    contents = (images / "x.img").read_bytes()
    (place / f"y.img{PUBLISH_SUFFIX}").touch(0o600)
    (place / f"y.img{PUBLISH_SUFFIX}").write_bytes(contents)
    assert listed(place) == {"y.img": "partial"}
    assert told("copy", images / "x.img", place / "y.img")["written"] == 0
    assert (place / "y.img").read_bytes() == contents
    assert there(place) == {"y.img"}


def test_storage_info_tells_what_is_lacking_and_what_is_done_instead(
    images: Path, place: Path
) -> None:
    [found] = [d for d in told("storage-info", "local:")["directories"] if d["path"] == str(place)]
    assert "rename without replacing" in found["lacks"]
    assert "new names" not in found["lacks"]
    text = virtstore("storage-info", "local:").stdout
    assert f"{place} lacks rename without replacing: a new image gets its name by a hard" in text
    assert there(place) == set()
