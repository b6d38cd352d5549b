"""A volume that is only called like one of virtstore's own is somebody else's: it is shown,
never removed, and whatever needs its name is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import virtstore

from .shell import MIB, fill, lvs, sh

Ask = Callable[[], object]

#: Without the tag that virtstore gives its own.
STRANGERS = ("web.virtstore-partial", "web.virtstore-replaced")


@pytest.fixture(params=STRANGERS)
def stranger(request: pytest.FixtureRequest, here: virtstore.Host) -> str:
    name: str = request.param
    sh(f"lvcreate -qq -y -L 8M -n {name} vg0")
    fill(f"/dev/vg0/{name}", 8 * MIB, b"\x77")
    return name


@pytest.fixture
def source(here: virtstore.Host) -> virtstore.Image:
    image = here.create("/dev/vg0/source", 8 * MIB)
    fill(image.path, 8 * MIB, b"\x55")
    return image


def check_untouched(name: str) -> None:
    assert Path(f"/dev/vg0/{name}").read_bytes() == b"\x77" * (8 * MIB)
    assert sh("lvs --noheadings -o lv_tags vg0") == ""


def test_it_is_listed_by_its_own_name_and_not_cleaned(here: virtstore.Host, stranger: str) -> None:
    for _ in range(2):
        listed = here.list("/dev/vg0", long=True)
        assert [(e.path, e.state) for e in listed] == [(f"/dev/vg0/{stranger}", "complete")]
        assert here.clean("/dev/vg0").removed == ()
    check_untouched(stranger)


def test_beside_it_nothing_is_made_for_which_its_name_is_needed(
    here: virtstore.Host, stranger: str, source: virtstore.Image
) -> None:
    target = here.image("/dev/vg0/web")
    if stranger.endswith("partial"):
        asks: list[Ask] = [
            lambda: here.create(target.path, 8 * MIB),
            lambda: source.copy(target),
            lambda: source.snapshot("web"),
        ]
        for ask in asks:
            with pytest.raises(virtstore.Exists, match=stranger):
                ask()
        assert lvs() == {"source", stranger}
    else:
        here.create(target.path, 8 * MIB).delete()
        source.copy(target)
        assert Path(target.path).read_bytes() == b"\x55" * (8 * MIB)
    check_untouched(stranger)


def test_an_image_beside_it_is_not_overwritten_over_it(
    here: virtstore.Host, stranger: str, source: virtstore.Image
) -> None:
    sh("lvcreate -qq -y -L 8M -n web vg0")
    target = here.image("/dev/vg0/web")
    fill(target.path, 8 * MIB, b"\x66")
    asks: list[Ask] = [lambda: source.copy(target, overwrite=True)]
    if stranger.endswith("partial"):
        asks.append(lambda: source.copy_contents(target))
    for ask in asks:
        with pytest.raises(virtstore.Exists, match=stranger):
            ask()
    assert Path(target.path).read_bytes() == b"\x66" * (8 * MIB)
    assert lvs() == {"web", "source", stranger}
    target.delete()
    check_untouched(stranger)


def test_an_image_is_not_given_such_a_name(here: virtstore.Host, source: virtstore.Image) -> None:
    for name in STRANGERS:
        with pytest.raises(virtstore.Error):
            source.copy(here.image(f"/dev/vg0/{name}"))
    assert lvs() == {"source"}
