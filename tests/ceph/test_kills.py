"""kill -9 of the agent in the middle of what it does to an image in a pool: what is left is old,
new or partial, no snapshot of ours stays, and the same command finishes it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import pytest

import virtstore
from tests.tools import kills
from tests.tools.ext_images import MIB, TORTURE, new_tree
from tests.tools.resize_images import (
    GPT,
    Made,
    check,
    check_files,
    make_filesystem,
    make_image,
    new_root,
)

from .place import VMS, Place, noise

MOMENTS: Final = 30 if TORTURE else 2
_SIZE: Final = 9 * MIB

OLD: Final = noise(_SIZE, 1)
#: What is copied: data, zeros, data.
NEW: Final = noise(4 * MIB, 2) + bytes(3 * MIB) + noise(2 * MIB, 3)


class Case(NamedTuple):
    """What is done, with x of the pool, and with the file new.img. `x`: what it holds before;
    `goal`: what it holds once it is done; None where there is no such image. `reworks`: x need not
    have its name until that is done. `snapshot`: a snapshot that is wanted."""

    act: Callable[[virtstore.Host, Place], object]
    x: bytes | None
    goal: bytes | None
    reworks: bool = False
    snapshot: str = ""


def x(host: virtstore.Host) -> virtstore.Image:
    return host.image(f"{VMS}/x")


def new(host: virtstore.Host, here: Place) -> virtstore.Image:
    return host.image(str(here.root / "new.img"))


CASES: Final = {
    "create": Case(lambda host, here: host.create(f"{VMS}/x", _SIZE), None, bytes(_SIZE)),
    "copy": Case(lambda host, here: new(host, here).copy(x(host)), None, NEW),
    "overwrite": Case(lambda host, here: new(host, here).copy(x(host), overwrite=True), OLD, NEW),
    "contents": Case(
        lambda host, here: new(host, here).copy_contents(x(host)), OLD, NEW, reworks=True
    ),
    "snapshot": Case(lambda host, here: x(host).snapshot("s"), OLD, OLD, snapshot="s"),
    "copy --snapshot": Case(
        lambda host, here: x(host).copy(
            host.image(str(here.root / "copy.img")), snapshot=True, overwrite=True
        ),
        OLD,
        OLD,
    ),
    "delete": Case(lambda host, here: x(host).delete(), OLD, None),
}


@pytest.fixture
def told() -> Iterator[list[str]]:
    """What became of each kill, printed in the end."""
    found: list[str] = []
    yield found
    print({each: found.count(each) for each in sorted(set(found))})


def chances(work: int, name: str) -> Iterator[int]:
    """Moments that nobody chose; the same in each run."""
    chance = random.Random(name)
    for _ in range(MOMENTS):
        yield chance.randrange(1, work)


def listed(here: Place) -> dict[str, set[str]]:
    """The names of the pool's images by their state, told by the agent that comes next."""
    found: dict[str, set[str]] = {"complete": set(), "partial": set()}
    with virtstore.connect(config=str(here.config)) as host:
        for image in host.list(VMS):
            found[image.state].add(image.path.removeprefix(f"{VMS}/"))
    return found


def begin(here: Place, case: Case) -> None:
    here.cluster.empty()
    if case.x is not None:
        here.image("x", case.x)


@pytest.mark.parametrize("name", CASES)
def test_what_was_killed_left_the_old_or_the_new_or_is_partial_and_is_finished_by_the_same(
    here: Place, name: str, told: list[str]
) -> None:
    case = CASES[name]
    here.file("new.img", NEW)

    def act(host: virtstore.Host) -> None:
        case.act(host, here)

    begin(here, case)
    whole = kills.run(here.config, act, "agent", None)
    assert not whole.error
    assert_done(here, case)
    for after in chances(whole.work, name):
        begin(here, case)
        ended = kills.run(here.config, act, "agent", after)
        found = state(here, case, finished=not ended.error)
        told.append(found if ended.killed else "not hit")
        if found != "new":
            kills.patiently(here.config, act)
        assert_done(here, case)


def state(here: Place, case: Case, *, finished: bool) -> str:
    """What a kill left of x, once the next agent has mended it."""
    there = listed(here)
    assert there["partial"] <= {"x"}
    snapshots = {n for n in there["complete"] if "@" in n}
    assert snapshots <= {f"x@{case.snapshot}"}
    if there["partial"]:
        assert not finished
        assert case.reworks or ("x" in there["complete"]) == (case.x is not None)
    if "x" not in there["complete"]:
        if there["partial"]:
            return "partial"
        assert None in (case.x, case.goal), "x is gone"
        return "old" if case.x is None else "new"
    assert set(here.snapshots("x")) == {name.partition("@")[2] for name in snapshots}
    held = here.contents("x")
    assert held in (case.x, case.goal)
    if case.snapshot:
        return "new" if snapshots else "old"
    if case.x == case.goal:
        return "new" if finished else "old"
    return "new" if held == case.goal else "partial" if there["partial"] else "old"


def assert_done(here: Place, case: Case) -> None:
    """It is as if nothing had been killed: no other image, no mark, no snapshot."""
    assert here.names() == ([] if case.goal is None else ["x"])
    if case.goal is not None:
        assert here.contents("x") == case.goal
        assert here.snapshots("x") == ([case.snapshot] if case.snapshot else [])
        assert here.marks("x") == {}
    copy = here.root / "copy.img"
    if copy.exists():
        assert copy.read_bytes() == case.x
        copy.unlink()


def test_a_rename_that_was_killed_left_the_image_under_one_of_its_names(
    here: Place, told: list[str]
) -> None:
    def act(host: virtstore.Host) -> None:
        x(host).rename("y")

    begin(here, Case(lambda host, here: None, OLD, None))
    whole = kills.run(here.config, act, "agent", None)
    for after in chances(whole.work, "rename"):
        here.cluster.empty()
        here.image("x", OLD)
        ended = kills.run(here.config, act, "agent", after)
        (name,) = listed(here)["complete"]
        assert here.names() == [name]
        assert here.contents(name) == OLD
        told.append(name if ended.killed else "not hit")
        if name == "x":
            kills.patiently(here.config, act)
        assert here.names() == ["y"]
        assert (here.contents("y"), here.marks("y")) == (OLD, {})


@pytest.fixture(scope="module")
def guest_disk() -> Iterator[Made]:
    """A raw disk with ext4 in its last partition, full of files."""
    with new_root() as root, new_tree(600) as tree:
        source = root.with_name("ext4")
        contents = make_filesystem(source, "ext4", tree)
        yield make_image(root.with_name("disk"), GPT, "ext4", source, contents)


@pytest.mark.parametrize("size", ["22M", "44M"])
def test_a_resize_that_was_killed_loses_nothing_and_is_finished_by_the_same(
    here: Place, guest_disk: Made, size: str, told: list[str]
) -> None:
    before, raw = guest_disk.path.read_bytes(), guest_disk._replace(path=here.root / "raw")

    def act(host: virtstore.Host) -> None:
        x(host).resize(size)

    here.image("x", before)
    whole = kills.run(here.config, act, "agent", None)
    goal = len(here.contents("x"))
    for after in chances(whole.work, size):
        here.cluster.empty()
        here.image("x", before)
        ended = kills.run(here.config, act, "agent", after)
        assert listed(here)["complete"] == {"x"}
        raw.path.write_bytes(here.contents("x"))
        check_files(raw)
        told.append(f"{raw.path.stat().st_size >> 20} MiB" if ended.killed else "not hit")
        kills.patiently(here.config, act)
        raw.path.write_bytes(here.contents("x"))
        assert raw.path.stat().st_size == goal
        check(raw)
        assert (here.snapshots("x"), here.marks("x")) == ([], {})
