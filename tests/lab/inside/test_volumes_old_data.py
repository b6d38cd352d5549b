"""Old data never comes back: there is some wherever LVM makes volumes in these tests.

Sizes are odd on purpose: what LVM adds to make whole extents is read, too.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import virtstore

from .shell import MIB, fill, is_zero, sh

EXTENT = 4 * MIB
#: Bytes of old data: more than these volumes take, with their pool.
FULL = 84 * MIB
POOLS = {"thick": None, "thin": "pool", "thin-unzeroed": "unzeroed"}


# A pool that zeroes what it maps hides what one that does not has to show.
@pytest.fixture(
    params=["thick", pytest.param("thin", marks=pytest.mark.torture), "thin-unzeroed"],
)
def pool(request: pytest.FixtureRequest, here: virtstore.Host) -> str | None:
    """A pool for `--thin`, in which old data lies; or none."""
    sh(f"lvcreate -qq -y -Wn -L {FULL}b -n old vg0")
    fill("/dev/vg0/old", FULL)
    sh("lvremove -qq -y vg0/old")
    # LVM gives out what is free from its start.
    sh("lvcreate -qq -y -Wn -Zn -L 84M -n probe vg0")
    with Path("/dev/vg0/probe").open("rb") as probe:
        probe.seek(80 * MIB)
        assert probe.read() == b"\xee" * (4 * MIB)
    sh("lvremove -qq -y vg0/probe")
    kind: str = request.param
    made = POOLS[kind]
    if made:
        options = "-Zn" if made == "unzeroed" else ""
        sh(f"lvcreate -qq -y --type thin-pool {options} -L 64M -n {made} vg0")
    if made == "unzeroed":
        # Whatever it maps shows what was there, or this would prove nothing.
        sh("lvcreate -qq -y -Wn -V 4M --thinpool unzeroed -n probe vg0")
        sh("dd if=/dev/zero of=/dev/vg0/probe bs=4k count=1 conv=fsync status=none")
        assert not is_zero("/dev/vg0/probe")
        sh("lvremove -qq -y vg0/probe")
    return made


def test_new_volumes_are_zeros_to_their_last_byte(here: virtstore.Host, pool: str | None) -> None:
    for name, size in (("one", 1), ("two", 5 * MIB + 1), ("three", 17 * MIB + 513)):
        made = here.create(f"/dev/vg0/{name}", size, thin=pool)
        told = made.info().size
        assert told == -(-size // EXTENT) * EXTENT
        assert told == int(sh(f"blockdev --getsize64 {made.path}"))
        assert is_zero(made.path)


def test_what_grow_adds_is_zeros_also_where_a_shrink_took_data_away(
    here: virtstore.Host, pool: str | None
) -> None:
    image = here.create("/dev/vg0/web", 8 * MIB, thin=pool)
    fill(image.path, 8 * MIB)
    assert image.grow(13 * MIB + 77).size == 16 * MIB
    assert is_zero(image.path, 8 * MIB)
    fill(image.path, 16 * MIB)
    assert image.shrink(3 * MIB + 1, discard_data=True).size == 4 * MIB
    assert image.grow("+7M").size == 12 * MIB
    with Path(image.path).open("rb") as file:
        assert file.read(4 * MIB) == b"\xee" * (4 * MIB)
    assert is_zero(image.path, 4 * MIB)


def test_behind_a_short_image_there_is_nothing(here: virtstore.Host, pool: str | None) -> None:
    short = Path("/mnt/images/short.img")
    short.write_bytes(b"\x11" * (3 * MIB + 777))
    source = here.image(str(short))
    targets: list[virtstore.Image] = [here.create("/dev/vg0/old", 9 * MIB, thin=pool)]
    fill(targets[0].path, 12 * MIB)
    source.copy_contents(targets[0])
    if pool is None:
        targets.append(source.copy(here.image("/dev/vg0/new")))
    for target in targets:
        with Path(target.path).open("rb") as file:
            assert file.read(3 * MIB + 777) == short.read_bytes()
        assert is_zero(target.path, 3 * MIB + 777)
