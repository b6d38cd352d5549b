"""Two operations on one image: one has it, the other is told, and the result is whole."""

from __future__ import annotations

from ..waiting import PATIENCE
from .command import Client, ended
from .conftest import Hosts, random_image
from .trees import MIB


def test_of_two_copies_to_one_target_one_wins(client: Client, hosts: Hosts) -> None:
    first = random_image(hosts.a.images / "first", 8 * MIB)
    second = random_image(hosts.a.images / "second", 8 * MIB, seed=2)
    target = hosts.b.at(hosts.b.images / "disk")
    copy = client.under_way("copy", hosts.a.at(first), target, "--bwlimit", "1M", until=MIB)
    commands = (["copy"], ["copy", "--archive"], ["copy-contents"], ["delete"])
    rivals = [
        client.start(
            *words, *([] if words == ["delete"] else [hosts.a.at(second)]), target, "--json"
        )
        for words in commands
    ]
    for rival in rivals:
        assert "another virtstore operation" in ended(rival).error("in-use")["message"]
    assert copy.end().status == 0
    assert (hosts.b.images / "disk").read_bytes() == first.read_bytes()
    assert [p.name for p in hosts.b.images.iterdir()] == ["disk"]


def test_two_copies_started_at_the_same_moment_leave_one_whole_image(
    client: Client, hosts: Hosts
) -> None:
    sources = [random_image(hosts.a.images / f"{n}", 8 * MIB, seed=n) for n in (1, 2)]
    target = hosts.b.images / "disk"
    started = [client.start("copy", hosts.a.at(s), hosts.b.at(target)) for s in sources]
    for process in started:
        process.communicate(timeout=PATIENCE)
    statuses = [process.returncode for process in started]
    assert sorted(statuses) in ([0, 4], [0, 6])
    winner = sources[statuses.index(0)]
    assert target.read_bytes() == winner.read_bytes()


def test_an_image_that_is_being_read_is_neither_deleted_nor_changed(
    client: Client, hosts: Hosts
) -> None:
    source = random_image(hosts.a.images / "disk", 6 * MIB)
    at, other = hosts.a.at(source), random_image(hosts.a.images / "other", MIB, seed=2)
    copy = client.under_way(
        "copy", at, hosts.b.at(hosts.b.images / "disk"), "--bwlimit", "640K", until=MIB
    )
    rivals = [
        client.start(*words, "--json")
        for words in (
            ["delete", at],
            ["grow", at, "9M"],
            ["copy-contents", hosts.a.at(other), at],
            ["compress", at],
        )
    ]
    for rival in rivals:
        ended(rival).error("in-use")
    assert client.json("info", at)["size"] == 6 * MIB, "looking is always possible"
    assert copy.end().status == 0
    assert (hosts.b.images / "disk").read_bytes() == source.read_bytes()


def test_two_may_read_the_same_image(client: Client, hosts: Hosts) -> None:
    source = random_image(hosts.a.images / "disk", 4 * MIB)
    at = hosts.a.at(source)
    copy = client.under_way(
        "copy", at, hosts.b.at(hosts.b.images / "one"), "--bwlimit", "640K", until=MIB
    )
    client.json("copy", at, hosts.b.at(hosts.b.images / "two"))
    assert copy.end().status == 0
    assert (hosts.b.images / "one").read_bytes() == (hosts.b.images / "two").read_bytes()
