"""docs/scale.md is what its program makes of the figures that were measured, and the program adds
up."""

from __future__ import annotations

import pytest
from bench.scale import requests
from bench.scale.__main__ import PAGE
from bench.scale.figures import HOST, TARGET, Costs, Figure, Fleet, Machine, load, renewed
from bench.scale.page import KINDS, markdown
from bench.scale.simulate import Kind, Load, limit_of_target, load_of, night, sizes, targets_needed
from msgspec.structs import replace

SMALL = Fleet(hosts=10, images=200, size=1e13)


def test_the_page_is_made_of_the_figures() -> None:
    assert PAGE.read_text() == markdown(load(), Fleet()), "python -m bench.scale --write"


def test_a_smaller_run_leaves_what_was_measured_with_more_and_what_it_does_not_measure() -> None:
    def told(value: float, count: int | None) -> Figure:
        return Figure(value, "s", "a thing", "a command", "2026-11-29", count)

    kept = Costs(
        {"more": told(1, 9), "less": told(1, 2), "none": told(1, None), "other": told(1, 9)}
    )
    new = Costs({"more": told(2, 3), "less": told(2, 3), "none": told(2, None)})
    found = renewed(kept, new)
    assert {name: found[name] for name in kept.figures} == {
        "more": 1,
        "less": 2,
        "none": 2,
        "other": 1,
    }
    assert renewed(kept, new, replace=True)["more"] == 2


def test_the_images_of_a_fleet_are_as_many_and_as_large_as_was_said() -> None:
    dealt = sizes(SMALL)
    assert [len(images) for images in dealt] == [20] * 10
    assert sum(map(sum, dealt)) == pytest.approx(SMALL.size)
    assert dealt == sizes(SMALL)


def test_a_target_that_is_the_limit_ends_when_it_has_taken_all() -> None:
    slow = Machine(read=1e9, write=1e8, network=1e9, cores=32)
    cost = Load(host_cpu=1e-9, target_cpu=1e-9, wire=0.5)
    found = night(SMALL, cost, HOST, slow, 1)
    assert found.target == limit_of_target(cost, slow)
    assert found.target.by == "disks"
    assert found.ended == pytest.approx(SMALL.size / 2e8, rel=0.02)
    assert found.busy > 0.95


def test_hosts_that_are_the_limit_are_not_helped_by_targets() -> None:
    cost = Load(host_cpu=1e-6, target_cpu=1e-12, wire=0.1)
    assert targets_needed(SMALL, cost, HOST, TARGET) is None
    longest = max(sum(images) for images in sizes(SMALL))
    found = night(SMALL, cost, HOST, TARGET, 10)
    assert found.host.by == "processors"
    assert found.ended >= longest / found.host.rate


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_one_target_less_than_is_needed_does_not_do(kind: Kind) -> None:
    cost = load_of(load(), kind)
    fleet = replace(Fleet(), hosts=100, images=2000, size=4e14)
    needed = targets_needed(fleet, cost, HOST, TARGET)
    assert needed
    assert night(fleet, cost, HOST, TARGET, needed).ended <= fleet.window
    if needed > 1:
        assert night(fleet, cost, HOST, TARGET, needed - 1).ended > fleet.window


def test_a_backup_to_a_bucket_sends_no_more_than_a_whole_one() -> None:
    whole = requests.of_backup(5e10, 0.3, None)
    shares = (0.0001, 0.01, 0.03, 0.1, 1.0)
    sent = [requests.of_backup(5e10, 0.3, share) for share in shares]
    assert sent == sorted(sent, key=lambda each: each.sent)
    assert all(each.requests <= whole.requests for each in sent)
    assert sent[-1] == whole
