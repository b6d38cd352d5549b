"""What a power cut within an lvcreate or lvremove of a thin volume leaves is put right.

LVM writes down what the kernel is to do in the pool, and it is not done: that state is made
here by hand, in LVM's metadata and the pool's.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import virtstore

from .shell import MIB, fill, is_zero, lvs, sh

_POOL = "vg0-pool-tpool"


@pytest.fixture
def here(here: virtstore.Host) -> virtstore.Host:
    """With a pool of 32 MiB."""
    sh("lvcreate -qq -y --type thin-pool -L 32M -Zn -n pool vg0")
    sh("lvchange -qq -y --errorwhenfull y vg0/pool")
    return here


@pytest.mark.parametrize("others", [[], ["other"]])
def test_the_room_of_a_volume_that_was_being_removed_is_free_again(
    here: virtstore.Host, others: list[str]
) -> None:
    """Also in a pool that is full, and has no other volume."""
    size = 32 // (1 + len(others)) * MIB
    for name in ["web", *others]:
        sh(f"lvcreate -qq -y -V {size}b --thinpool pool -n {name} vg0")
        fill(f"/dev/vg0/{name}", size)
    _cut_a_removal("web")
    assert _used() == 100
    assert [image.path for image in here.list("/dev/vg0")] == [f"/dev/vg0/{n}" for n in others]
    assert _used() == 50 * len(others)
    assert lvs() == {"pool", *others}
    here.create("/dev/vg0/web", 16 * MIB, thin="pool")
    assert is_zero("/dev/vg0/web")
    for name in others:
        assert Path(f"/dev/vg0/{name}").read_bytes() == b"\xee" * size


def test_a_create_that_was_cut_short_can_be_run_again(here: virtstore.Host) -> None:
    sh("lvcreate -qq -y -V 8M --thinpool pool --addtag virtstore.partial"
       " -n web.virtstore-partial vg0")  # fmt: skip
    _cut_a_creation("web.virtstore-partial")
    image = here.create("/dev/vg0/web", 8 * MIB, thin="pool")
    assert image.info().state == "complete"
    assert is_zero(image.path)
    assert lvs() == {"pool", "web"}


def test_a_snapshot_that_was_cut_short_can_be_taken_again(here: virtstore.Host) -> None:
    image = here.create("/dev/vg0/web", 8 * MIB, thin="pool")
    fill(image.path, 8 * MIB, b"\x11")
    sh("lvcreate -qq -y -kn -s --addtag virtstore.partial -n s1.virtstore-partial vg0/web")
    _cut_a_creation("s1.virtstore-partial")
    taken = image.snapshot("s1")
    fill(image.path, 8 * MIB, b"\x22")
    assert Path(taken.path).read_bytes() == b"\x11" * (8 * MIB)
    assert lvs() == {"pool", "web", "s1"}


def test_a_snapshot_that_a_pool_has_yet_to_make_is_made_of_its_origin(
    here: virtstore.Host,
) -> None:
    image = here.create("/dev/vg0/web", 8 * MIB, thin="pool")
    fill(image.path, 8 * MIB, b"\x11")
    sh("lvcreate -qq -y -kn -s -n mine vg0/web")
    _cut_a_creation("mine")
    here.list("/dev/vg0")
    sh("lvchange -qq -ay vg0/mine")
    assert Path("/dev/vg0/mine").read_bytes() == b"\x11" * (8 * MIB)


def test_what_a_pool_has_yet_to_make_is_made_for_the_next_who_asks_for_it(
    here: virtstore.Host,
) -> None:
    """Also in a session that has looked for what was cut before, and found nothing."""
    image = here.create("/dev/vg0/web", 8 * MIB, thin="pool")
    fill(image.path, 8 * MIB, b"\x11")
    sh("lvcreate -qq -y -kn -s -n mine vg0/web")
    image.grow(8 * MIB)
    _cut_a_creation("mine")
    copy = here.image("/dev/vg0/mine").copy(here.image("/mnt/images/copy.img"))
    assert Path(copy.path).read_bytes() == b"\x11" * (8 * MIB)
    assert lvs() == {"pool", "web", "mine"}


def test_what_putting_a_pool_right_leaves_if_that_is_cut_short_is_cleaned(
    here: virtstore.Host,
) -> None:
    kept = here.create("/dev/vg0/web", 8 * MIB, thin="pool")
    sh("lvcreate -qq -y -V 4M --thinpool pool --addtag virtstore.partial"
       " -n pool.virtstore-partial vg0")  # fmt: skip
    here.clean("/dev/vg0")
    assert lvs() == {"pool", "web"}
    assert is_zero(kept.path)


def test_a_volume_that_is_called_like_it_is_none_of_ours(here: virtstore.Host) -> None:
    sh("lvcreate -qq -y -V 4M --thinpool pool -n pool.virtstore-partial vg0")
    fill("/dev/vg0/pool.virtstore-partial", 4 * MIB)
    sh("lvcreate -qq -y -V 4M --thinpool pool -n web vg0")
    _cut_a_removal("web")
    here.list("/dev/vg0")
    assert Path("/dev/vg0/pool.virtstore-partial").read_bytes() == b"\xee" * (4 * MIB)
    assert lvs() == {"pool", "pool.virtstore-partial"}


def _used() -> float:
    return float(sh("lvs --noheadings -o data_percent vg0/pool"))


def _number(column: str, name: str) -> int:
    return int(sh(f"lvs --noheadings -o {column} vg0/{name}"))


def _cut_a_removal(name: str) -> None:
    """LVM has the volume no more, and the kernel was not told."""
    device, transaction = _number("thin_id", name), _number("transaction_id", "pool")
    sh(f"lvchange -qq -an vg0/{name}")
    _write_down(f"delete = {device}", transaction + 1, rf"/^\t\t{name} {{/,/^\t\t}}/d")


def _cut_a_creation(name: str) -> None:
    """LVM has the volume already, and the kernel was not told."""
    device, transaction = _number("thin_id", name), _number("transaction_id", "pool")
    sh(f"lvchange -qq -an -K vg0/{name}")
    sh(f"dmsetup message {_POOL} 0 'delete {device}'")
    sh(f"dmsetup message {_POOL} 0 'set_transaction_id {transaction} {transaction - 1}'")
    _write_down(f'create = "{name}"', transaction)


def _write_down(message: str, transaction: int, edit: str = "") -> None:
    """Put a message that the kernel has not got into the pool's segment."""
    new = rf"transaction_id = {transaction}\nmessage1 {{\n{message}\n}}"
    pool = rf"/^\t\tpool {{/,/^\t\t}}/s/transaction_id = .*/{new}/"
    sh("vgcfgbackup -qq -f /run/metadata vg0")
    sh(f"sed -i '{edit};{pool}' /run/metadata")
    sh("vgcfgrestore -qq --yes --force -f /run/metadata vg0")
    assert int(sh(f"dmsetup status {_POOL}").split()[3]) == transaction - 1
