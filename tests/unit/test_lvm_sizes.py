"""What a volume's size is changed with, told by the commands that LVM would get."""

from __future__ import annotations

import msgspec
import pytest

from virtstore.backends.lvm import report, volumes
from virtstore.backends.lvm.report import Group, Report, Volume
from virtstore.backends.lvm.volume_group import VolumeGroup
from virtstore.errors import Error, LeftRunning, Unsupported

GIB = 1 << 30


class Lvm:
    """Stands in for LVM: it has one volume, and notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.failure: Error | None = None
        self.volume = Volume(
            name="web", uuid="LVM-1", size=10 * GIB, allocated=10 * GIB, tags=frozenset(),
            type="lvm", origin=None, pool=None, active=True, open=False, device=(253, 5),
            invalid=False, zeroes=False, transaction=None, partial=False,
        )  # fmt: skip

    def run(self, *command: str) -> None:
        self.asked.append(command)
        tags = self.volume.tags
        match command:
            case ["lvchange", "--addtag", tag, _]:
                self.volume = msgspec.structs.replace(self.volume, tags=tags | {tag})
            case ["lvchange", "--deltag", tag, _]:
                self.volume = msgspec.structs.replace(self.volume, tags=tags - {tag})
            case ["lvrename", _, _, name]:
                self.volume = msgspec.structs.replace(self.volume, name=name)
            case ["lvextend", *_] if self.failure:
                raise self.failure


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Lvm:
    fake = Lvm()
    room = Group(100 * GIB, 50 * GIB, 4 << 20, "")
    monkeypatch.setattr(report, "report", lambda name: Report(room, (fake.volume,)))
    monkeypatch.setattr(volumes, "lvm", fake.run)
    return fake


def test_the_exception_store_of_a_thick_snapshot_is_left_alone(fake: Lvm) -> None:
    """LVM's size of a snapshot is that of its exception store: here 4 GiB, its origin 10."""
    fake.volume = msgspec.structs.replace(
        fake.volume, type="lvm-snapshot", origin="other", allocated=4 * GIB
    )
    group = VolumeGroup("vg0")
    for change in (group.grow, group.shrink):
        for size in (2 * GIB, 6 * GIB, 9 * GIB, 12 * GIB):
            if (size > 10 * GIB) == (change == group.grow):
                with pytest.raises(Unsupported, match="virtstore copy"):
                    change("web", size)
    group.grow("web", 10 * GIB)
    assert fake.asked == []
    [listed] = group.scan()
    assert listed.fixed


@pytest.mark.parametrize("kind", ["lvm", "lvm-thin", "lvm-thin-snapshot"])
def test_all_other_volumes_are_cut(fake: Lvm, kind: str) -> None:
    pool = "pool" if "thin" in kind else None
    fake.volume = msgspec.structs.replace(fake.volume, type=kind, pool=pool)
    group = VolumeGroup("vg0")
    group.shrink("web", 2 * GIB)
    assert [command[0] for command in fake.asked] == ["lvreduce"]
    assert [listed.fixed for listed in group.scan()] == [None]


@pytest.mark.parametrize(
    ("failure", "tags"),
    [(Error("it failed"), set()), (LeftRunning("it goes on"), {f"virtstore.zero.{10 * GIB}"})],
)
@pytest.mark.parametrize("in_use", [False, True])
def test_what_an_extension_that_goes_on_will_add_stays_marked(
    fake: Lvm, failure: Error, tags: set[str], in_use: bool
) -> None:
    """Or nobody would zero it, and it shows old data of others."""
    fake.failure = failure
    with pytest.raises(type(failure), match=failure.message):
        VolumeGroup("vg0").grow("web", 12 * GIB, in_use=in_use)
    assert fake.volume.tags == tags


def test_what_is_made_inactive_again_is_the_volume_and_not_who_has_its_name_now(fake: Lvm) -> None:
    """The locks are gone by then: another agent may have put a new volume in its place."""
    fake.volume = msgspec.structs.replace(fake.volume, active=False)
    group = VolumeGroup("vg0")
    with pytest.raises(FileNotFoundError):  # there is no such device here
        group.open("web")
    assert ("lvchange", "-ay", "-K", "vg0/web") in fake.asked
    fake.volume = msgspec.structs.replace(fake.volume, active=True)
    group.refresh()
    assert [listed.active for listed in group.scan()] == [True]
    fake.volume = msgspec.structs.replace(fake.volume, name="web.virtstore-replaced")
    fake.asked.clear()
    group.close()
    assert fake.asked == [("lvchange", "-an", "vg0/web.virtstore-replaced")]
