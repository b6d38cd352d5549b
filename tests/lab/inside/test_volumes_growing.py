"""What a volume gains by growing is zero before it can be used, and is a guest's after that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import virtstore
from virtstore.backends.lvm.volume_group import VolumeGroup

from .shell import MIB, fill, is_zero, lvs, sh
from .test_volumes_use import running

OLD, NEW = 16 * MIB, 24 * MIB
TAG = f"virtstore.zero.{OLD}"


@pytest.fixture
def image(here: virtstore.Host) -> virtstore.Image:
    return here.create("/dev/vg0/web", OLD)


def cut_in_use() -> None:
    """What is left of a growth of a volume that was in use: its new space holds old data."""
    sh(f"lvchange -qq --addtag {TAG} vg0/web && lvextend -qq -L {NEW}b vg0/web")
    spoil("/dev/vg0/web")


def cut_unused() -> None:
    """The same of one that nobody used."""
    sh(f"lvchange -qq --addtag {TAG} vg0/web && lvrename -qq vg0 web web.virtstore-growing")
    sh(f"lvextend -qq -L {NEW}b vg0/web.virtstore-growing")
    spoil("/dev/vg0/web.virtstore-growing")


def spoil(path: str) -> None:
    with Path(path).open("r+b") as file:
        file.seek(OLD)
        file.write(b"\xee" * (NEW - OLD))


def tags() -> list[str]:
    return sh("lvs --noheadings -o lv_tags vg0").split()


def tail(path: str = "/dev/vg0/web") -> bytes:
    with Path(path).open("rb") as file:
        file.seek(OLD)
        return file.read()


def test_a_volume_that_nobody_uses_is_hidden_until_its_new_space_is_zero(
    image: virtstore.Image, here: virtstore.Host
) -> None:
    cut_unused()
    assert [(e.path, e.state) for e in here.list("/dev/vg0")] == [("/dev/vg0/web", "complete")]
    assert is_zero("/dev/vg0/web")
    assert (lvs(), tags()) == ({"web"}, [])


def test_a_growth_that_was_cut_is_finished_by_the_next_who_asks_for_the_image(
    image: virtstore.Image, here: virtstore.Host
) -> None:
    image.grow(OLD)  # so that this session has looked for what was cut, and found nothing
    cut_unused()
    assert image.copy(here.image("/mnt/images/copy.img")).size == NEW
    assert is_zero("/dev/vg0/web")
    assert (lvs(), tags()) == ({"web"}, [])


def test_what_is_hidden_and_open_all_the_same_is_left_alone(
    image: virtstore.Image, here: virtstore.Host
) -> None:
    cut_unused()
    hidden = "/dev/vg0/web.virtstore-growing"
    with running("sh", "-c", f"exec 7<{hidden}; echo ready; exec sleep 60"):
        assert [e.state for e in here.list("/dev/vg0")] == ["partial"]
        assert tail(hidden) == b"\xee" * (NEW - OLD)
        with pytest.raises(virtstore.NotFound):
            image.grow("+4M")
        # It is neither removed nor taken for somebody else's.
        assert here.clean("/dev/vg0").removed == ()
        with pytest.raises(virtstore.InUse, match="size is being changed"):
            here.create(image.path, MIB)
        assert tail(hidden) == b"\xee" * (NEW - OLD)
    assert [e.state for e in here.list("/dev/vg0")] == ["complete"]
    assert is_zero("/dev/vg0/web")


def test_what_was_in_use_is_never_zeroed_behind_a_guests_back(
    image: virtstore.Image, here: virtstore.Host
) -> None:
    cut_in_use()
    here.list("/dev/vg0", long=True)
    assert any("old data" in warning for warning in image.info().warnings)
    asks: list[Callable[[], object]] = [
        lambda: image.copy(here.image("/mnt/images/copy.img")),
        lambda: image.snapshot("s1", size="4M"),
        lambda: here.create("/mnt/images/x.img", MIB).copy_contents(image),
        image.growfs,
        lambda: image.resize("32M"),
    ]
    for ask in asks:
        with pytest.raises(virtstore.Unsafe, match="old data"):
            ask()
    assert tail() == b"\xee" * (NEW - OLD)
    assert image.grow(NEW).changed
    assert is_zero("/dev/vg0/web")
    assert tags() == []
    assert not image.info().warnings


def test_what_a_guest_may_have_written_is_not_zeroed_when_it_is_asked_for_either(
    image: virtstore.Image, here: virtstore.Host
) -> None:
    cut_in_use()
    with (
        running("sh", "-c", f"exec 7<>{image.path}; echo ready; exec sleep 60"),
        pytest.raises(virtstore.InUse),
    ):
        image.grow(NEW)
    sh("mkfs.ext4 -q -d /usr/share/perl5/Debconf /dev/vg0/web")
    with pytest.raises(virtstore.Unsafe, match="--deltag"):
        image.grow("+8M")
    sh("e2fsck -fn /dev/vg0/web")
    sh(f"lvchange -qq --deltag {TAG} vg0/web")
    assert image.copy(here.image("/mnt/images/copy.img")).size == NEW


def test_data_that_nobody_recognises_keeps_it_from_being_zeroed(image: virtstore.Image) -> None:
    fill(image.path, MIB, b"\x77")
    cut_in_use()
    with pytest.raises(virtstore.Unsafe):
        image.grow(NEW)
    assert tail() == b"\xee" * (NEW - OLD)
    assert image.shrink(OLD, discard_data=True).size == OLD
    assert tags() == []
    assert image.grow(NEW).size == NEW
    assert is_zero(image.path, MIB)


def test_a_volume_grows_while_somebody_has_it_open(image: virtstore.Image) -> None:
    with running("sh", "-c", f"exec 7<>{image.path}; echo ready; exec sleep 60"):
        assert image.grow(NEW).size == NEW
        assert Path(image.path).exists()
    assert is_zero(image.path)
    assert (lvs(), tags()) == ({"web"}, [])


def give_up() -> None:
    raise virtstore.Interrupted("the client went away")


def test_a_growth_that_is_given_up_leaves_the_old_size_and_the_name(
    image: virtstore.Image,
) -> None:
    fill(image.path, OLD, b"\x77")
    with pytest.raises(virtstore.Interrupted):
        VolumeGroup("vg0").grow("web", NEW, between=give_up)
    assert image.info().size == OLD
    assert Path(image.path).read_bytes() == b"\x77" * OLD
    assert (lvs(), tags()) == ({"web"}, [])


def test_one_that_is_given_up_while_it_is_in_use_is_remembered(image: virtstore.Image) -> None:
    fill(image.path, OLD, b"\x77")
    with pytest.raises(virtstore.Interrupted):
        VolumeGroup("vg0").grow("web", NEW, in_use=True, between=give_up)
    assert Path(image.path).read_bytes()[:OLD] == b"\x77" * OLD
    assert (lvs(), tags()) == ({"web"}, [TAG])
    with pytest.raises(virtstore.Unsafe, match="old data"):
        image.snapshot("s1", size="4M")


def test_a_size_between_two_extents_is_that_of_the_next_and_no_change(
    image: virtstore.Image,
) -> None:
    between = OLD - MIB
    assert not image.grow(between).changed
    assert not image.shrink(between, dry_run=True).changed
    assert not image.shrink(between).changed
    assert image.shrink(f"-{5 * MIB}", dry_run=True).size == OLD - 4 * MIB
