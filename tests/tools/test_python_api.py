"""The Python API with a real agent: wrong arguments, closed sessions, progress, values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import virtstore

from .test_agent_commands import MIB, images, told

__all__ = ["images"]  # a fixture

_WRONG: dict[str, Callable[[virtstore.Host, Any], object]] = {
    "a format that is none": lambda host, image: image.compress(format="rar"),
    "a level that is text": lambda host, image: image.compress(level="high"),
    "a level beyond 64 bits": lambda host, image: image.compress(level=1 << 70),
    "a partition that is text": lambda host, image: image.growfs(partition="last"),
    "a name that is a number": lambda host, image: image.snapshot(5),
    "a path that is a number": lambda host, image: host.image(5).info(),  # type: ignore[arg-type]
    "a path that is bytes": lambda host, image: host.image(b"/x").info(),  # type: ignore[arg-type]
    "a path that is no text": lambda host, image: host.image("/\udcff").info(),
    "a path without end": lambda host, image: host.image("/" + "x" * (1 << 22)).info(),
    "a size that is a float": lambda host, image: host.create("/new", 1.5),  # type: ignore[arg-type]
    "a size that is a truth": lambda host, image: image.grow(True),
    "a copy to a number": lambda host, image: image.copy(host.image(5)),  # type: ignore[arg-type]
    "a diff with a number": lambda host, image: image.diff(host.image(5)),  # type: ignore[arg-type]
    "a rate without a unit": lambda host, image: image.copy(host.image("/x"), bwlimit=5000),
}


@pytest.mark.parametrize("wrong", _WRONG)
def test_a_wrong_argument_is_refused_and_the_session_goes_on(images: Path, wrong: str) -> None:
    with virtstore.connect() as host:
        image = host.image(str(images / "x.img"))
        with pytest.raises(virtstore.UsageError):
            _WRONG[wrong](host, image)
        assert image.info().size == 3 * MIB


def test_a_session_that_was_closed_says_so(images: Path) -> None:
    with virtstore.connect() as host:
        image = host.image(str(images / "x.img"))
    for ask in (image.info, lambda: image.copy(host.image(str(images / "y.img")))):
        with pytest.raises(virtstore.UsageError, match="was closed"):
            ask()


def test_a_session_goes_on_after_a_callback_that_failed(images: Path) -> None:
    def fail(event: virtstore.Progress) -> None:
        raise ZeroDivisionError

    with virtstore.connect() as host:
        image = host.image(str(images / "x.img"))
        with pytest.raises(ZeroDivisionError):
            image.verify(progress=fail)
        assert image.info().size == 3 * MIB


def test_images_are_equal_where_host_and_path_are(images: Path) -> None:
    path = str(images / "x.img")
    with virtstore.connect() as one, virtstore.connect() as other:
        assert one.image(path) == other.image(path)
        assert len({one.image(path), other.image(path), other.image(f"{path}2")}) == 2


def test_what_was_made_is_the_image_at_its_path(images: Path) -> None:
    with virtstore.connect() as host:
        new = host.create(str(images / "new.img"), "1M")
        assert new == host.image(new.path) == new
        assert (new.result.path, new.result.size) == (new.path, MIB)
        packed = new.compress(keep=True)
        copied = new.copy(host.image(str(images / "y.img")))
        assert len({new, host.image(new.path), packed, copied, host.image(copied.path)}) == 3


def test_a_dry_run_tells_of_what_is_not_there(images: Path) -> None:
    before = sorted(images.iterdir())
    with virtstore.connect() as host:
        image = host.image(str(images / "x.img"))
        made = host.create(str(images / "new.img"), "1M", dry_run=True)
        assert (made.result.dry_run, made.result.size) == (True, MIB)
        assert image.compress(dry_run=True).path == str(images / "x.img.zst")
        assert image.grow("+1M", dry_run=True).plan
        assert image.delete(dry_run=True).plan
    assert sorted(images.iterdir()) == before


def test_a_copy_has_the_fields_of_its_json(images: Path) -> None:
    with virtstore.connect() as host:
        copied = host.image(str(images / "x.img")).copy(host.image(str(images / "y.img")))
        assert (copied.source, copied.target) == (str(images / "x.img"), str(images / "y.img"))
        assert copied.size == 3 * MIB
        assert copied.digest == copied.verify().digest
        json = told("copy", "--overwrite", images / "x.img", images / "y.img")
        assert set(json) == set(copied.result.__struct_fields__) - {"warnings"}


def test_create_and_diff_tell_how_far_they_are(images: Path) -> None:
    events: list[virtstore.Progress] = []
    with virtstore.connect() as host:
        new = host.create(str(images / "new.img"), "3M", progress=events.append)
        assert events[-1] == virtstore.Progress("create", 3 * MIB, 3 * MIB)
        events.clear()
        host.image(str(images / "x.img")).diff(new, progress=events.append)
    assert events[-1] == virtstore.Progress("diff", 3 * MIB, 3 * MIB)
    assert [e.done for e in events] == sorted(e.done for e in events)


def test_growing_by_nothing_changes_nothing(images: Path) -> None:
    assert told("grow", images / "x.img", "+0")["changed"] is False
    assert told("shrink", images / "x.img", "-0")["changed"] is False
    assert told("grow", images / "x.img", "0", status=2)["error"]["code"] == "usage"


def test_what_the_module_shows_is_what_is_public() -> None:
    assert set(dir(virtstore)) == set(virtstore.__all__)
