"""Nights of backups between hosts: what goes wrong in one concerns no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import processes
from .command import Client
from .conftest import FILE_LIMIT, Hosts, random_image
from .sshd import Remote
from .trees import MIB


@pytest.fixture
def backups(b: Remote) -> Path:
    """The directory for backups on b."""
    (b.images / "backups").mkdir(mode=0o755)
    return b.images / "backups"


def test_images_of_several_hosts_are_backed_up_and_restored(
    client: Client, hosts: Hosts, backups: Path
) -> None:
    one, two = random_image(hosts.a.images / "one.img", MIB), hosts.local / "two.img"
    random_image(two, 2 * MIB, seed=2)
    logins = hosts.a.logins(), hosts.b.logins()
    target = hosts.b.at(backups)
    rows = client.json("backup", hosts.a.at(one), two, target, "--verify", "-j", "2")
    assert (hosts.a.logins(), hosts.b.logins()) == (logins[0] + 1, logins[1] + 1)
    assert [row["error"] for row in rows] == [None, None]
    assert all(row["target"].startswith(f"{target}/") for row in rows)
    assert rows[0]["transferred"] >= MIB
    client.json("restore", f"{target}/two", hosts.a.at(hosts.a.images / "two.img"))
    assert (hosts.a.images / "two.img").read_bytes() == two.read_bytes()
    random_image(two, 2 * MIB, seed=3)
    done = client.json("restore", f"{target}/one", two, "--overwrite")
    assert two.read_bytes() == one.read_bytes() + bytes(MIB)
    assert done["source"] == rows[0]["target"]


def test_a_host_that_cannot_be_reached_stops_no_other(
    client: Client, hosts: Hosts, backups: Path
) -> None:
    one = random_image(hosts.a.images / "one.img", MIB)
    sources = "nowhere:/images/x.img", hosts.a.at(one), "nowhere:/images/y.img"
    done = client.run("backup", *sources, hosts.b.at(backups), "--json")
    assert done.status == 10
    codes = [row["error"] and row["error"]["code"] for row in done.json]
    assert codes == ["connection", None, "connection"]
    assert [row["source"] for row in done.json] == [*map(str, sources)]
    client.run("backup", hosts.a.at(one), "nowhere:/images", "--json").error("connection")


def test_a_night_that_was_cut_leaves_no_backup_and_no_room_taken_after_the_next(
    client: Client, hosts: Hosts, backups: Path
) -> None:
    one = random_image(hosts.a.images / "one.img", 16 * MIB)
    words = ("backup", hosts.a.at(one), hosts.b.at(backups))
    cut = client.under_way(*words, "--bwlimit", "4M", until=2 * MIB)
    cut.ctrl_c()
    cut.end().error("interrupted")
    assert not processes.are_gone(hosts.directory)  # the agents end by themselves
    [left] = client.json("list", hosts.b.at(backups))
    assert left["state"] == "partial"
    [row] = client.json(*words)
    assert [f"{hosts.b.at(path)}" for path in backups.iterdir()] == [row["target"]]


def test_what_has_no_room_removes_nothing_and_stops_no_other(
    client: Client, hosts: Hosts, backups: Path
) -> None:
    small = random_image(hosts.a.images / "small.img", MIB)
    large = random_image(hosts.a.images / "large.img", MIB)
    target = hosts.b.at(backups).replace("b:", "b-limited:")
    words = ("backup", hosts.a.at(large), hosts.a.at(small), target, "--keep-last", "1")
    client.json(*words)
    before = {*backups.iterdir()}
    random_image(large, FILE_LIMIT + MIB)
    done = client.run(*words, "--json")
    assert done.status == 7
    assert [row["error"] and row["error"]["code"] for row in done.json] == ["no-space", None]
    assert {path for path in before if path.name.startswith("large")} <= {*backups.iterdir()}
    assert len([*backups.iterdir()]) == 2


def test_who_may_only_add_backups_adds_them_and_is_told_at_once_that_none_can_be_removed(
    client: Client, hosts: Hosts, backups: Path
) -> None:
    one = random_image(hosts.a.images / "one.img", MIB)
    target = hosts.b.at(backups).replace("b:", "b-append:")
    (backups / "one.2020-01-01T020000Z.img.zst.virtstore-partial").write_bytes(b"x")
    [row] = client.json("backup", hosts.a.at(one), target)
    assert row["error"] is None
    error = client.run("backup", hosts.a.at(one), target, "--keep-last", "1", "--json").error(
        "denied"
    )
    assert "virtstore prune" in error["message"]
    assert len([*backups.iterdir()]) == 2


def test_images_of_one_name_on_two_hosts_never_mix(
    client: Client, hosts: Hosts, backups: Path
) -> None:
    one = random_image(hosts.a.images / "web.img", MIB)
    two = random_image(hosts.b.images / "web.img", MIB, seed=2)
    sources = [hosts.a.at(one), hosts.b.at(two)]
    target = hosts.b.at(backups)
    for words in (sources, sources[::-1], sources[1:], sources[:1]):
        client.json("backup", *words, target, "--keep-last", "2")
    for name, image in (("web", one), ("web@b", two)):
        restored = hosts.local / f"{name}.img"
        client.json("restore", f"{target}/{name}", hosts.local)
        assert restored.read_bytes() == image.read_bytes()
        assert len([*backups.glob(f"{name}.*")]) == 2
    assert len([*backups.iterdir()]) == 4


def test_a_base_that_is_written_to_meanwhile_costs_time_and_no_backup(
    client: Client, hosts: Hosts, backups: Path
) -> None:
    one = random_image(hosts.a.images / "one.img", 16 * MIB)
    words = ("backup", hosts.a.at(one), hosts.b.at(backups))
    client.json(*words)
    [base] = backups.iterdir()
    with one.open("r+b") as file:
        file.write(random_image(hosts.local / "new", 8 * MIB, seed=2).read_bytes())
    night = client.under_way(*words, "--bwlimit", "6M", until=2 * MIB)
    with base.open("r+b") as file:
        file.seek(10 * MIB)
        file.write(bytes(4 * MIB))
    [row] = night.end().json
    assert (row["error"], row["base"]) == (None, None)
    client.json("verify", row["target"])
    client.json("restore", row["target"], f"{hosts.local}/back.img")
    assert (hosts.local / "back.img").read_bytes() == one.read_bytes()
