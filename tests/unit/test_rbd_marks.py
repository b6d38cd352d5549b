"""Names that say what is not finished, and whose a copy's snapshot is."""

from __future__ import annotations

import pytest

from virtstore.backends.rbd import marks
from virtstore.errors import UsageError


@pytest.mark.parametrize(
    "suffix", [".virtstore-partial", ".virtstore-rework", ".virtstore-shrinking"]
)
def test_the_name_of_what_is_not_finished_leads_to_its_final_one(suffix: str) -> None:
    assert marks.image_name(f"web{suffix}") == "web"
    assert marks.image_name(f"web{suffix}.old") == f"web{suffix}.old"
    with pytest.raises(UsageError):
        marks.check_name(f"web{suffix}")


@pytest.mark.parametrize("name", ["", "-x", ".", "..", "a b", "a/b", "a@b@c", "ü", "x" * 101, "x@"])
def test_what_ceph_would_read_otherwise_is_no_name(name: str) -> None:
    with pytest.raises(UsageError):
        marks.check_name(name)


@pytest.mark.parametrize("name", ["web", "web@s1", "vm-100-disk-0", "a+b_c.d:e=f,g", "x" * 100])
def test_what_ceph_reads_as_it_stands_is_a_name(name: str) -> None:
    marks.check_name(name)


def test_a_snapshot_for_a_copy_belongs_to_this_process_while_it_lives() -> None:
    name = marks.copying()
    assert marks.is_ours(name)
    assert not marks.is_orphaned(name)
    head, _, start = name.rpartition(".")
    assert marks.is_orphaned(f"{head}.{int(start) + 1}")  # another process had the number
    with pytest.raises(UsageError):
        marks.check_name(f"web@{name}")


def test_of_another_hosts_copy_nobody_here_knows_whether_it_goes_on() -> None:
    host, dot, rest = marks.copying().partition(".")
    assert not marks.is_orphaned(f"{host[:-1]}x{dot}{rest}0")
    assert not marks.is_orphaned("s1")
    assert not marks.is_orphaned("virtstore-copying-")
