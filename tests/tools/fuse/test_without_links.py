"""The commands, on a file system that has no hard links either: nothing new is begun."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..test_agent_commands import told, virtstore


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
@pytest.mark.parametrize("command", ["copy", "copy --archive", "create"])
def test_nothing_new_is_begun(
    images: Path, place: Path, command: str, dry: tuple[str, ...]
) -> None:
    verb, *options = command.split()
    rest = ("4M",) if verb == "create" else ()
    source = () if verb == "create" else (images / "x.img",)
    error = told(verb, *source, place / "y.img", *rest, *options, *dry, status=11)["error"]
    assert (error["code"], error["path"]) == ("unsupported", str(place / "y.img"))
    assert "copy --overwrite" in error["message"]
    assert list(place.iterdir()) == []


def test_who_says_that_something_may_be_replaced_can_copy(images: Path, place: Path) -> None:
    told("copy", images / "x.img", place / "y.img", "--overwrite")
    assert (place / "y.img").read_bytes() == (images / "x.img").read_bytes()


@pytest.mark.parametrize("command", ["copy-contents", "compress", "compress --keep"])
def test_an_image_keeps_its_name_and_contents(images: Path, place: Path, command: str) -> None:
    (place / "y.img").write_bytes(b"old" * (2 << 20))
    verb, *options = command.split()
    source = (images / "x.img",) if verb == "copy-contents" else ()
    error = told(verb, *source, place / "y.img", *options, status=11)["error"]
    assert error["code"] == "unsupported"
    assert (place / "y.img").read_bytes() == b"old" * (2 << 20)
    assert [each.name for each in place.iterdir()] == ["y.img"]


def test_storage_info_tells_that_nothing_new_can_be_made(images: Path, place: Path) -> None:
    assert (
        f"{place} lacks new names: nothing new can be made"
        in virtstore("storage-info", "local:").stdout
    )
