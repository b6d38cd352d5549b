"""A copy that is cut short, in whatever way: nothing half-done has a final name, no process
stays, and the same command goes on from where it was."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import pytest

from . import processes
from .command import STATUS, Client, UnderWay
from .conftest import Hosts, random_image
from .trees import MIB

_SIZE: Final = 8 * MIB
_MOVED: Final = 5 * MIB  # when it is cut
_RATE: Final = "8M"

Cut = Callable[[Hosts, UnderWay], None]


def _ctrl_c(hosts: Hosts, copy: UnderWay) -> None:
    copy.ctrl_c()


def _kill_the_client(hosts: Hosts, copy: UnderWay) -> None:
    os.kill(copy.pid, signal.SIGKILL)


def _kill_ssh(hosts: Hosts, copy: UnderWay) -> None:
    _kill([p.pid for p in processes.of(hosts.directory) if p.name == "ssh"])


def _cut_the_connection_to_the_source(hosts: Hosts, copy: UnderWay) -> None:
    _kill(processes.connections(hosts.a.sshd))


def _cut_the_connection_to_the_target(hosts: Hosts, copy: UnderWay) -> None:
    _kill(processes.connections(hosts.b.sshd))


def _kill_the_agent_of_the_source(hosts: Hosts, copy: UnderWay) -> None:
    _kill([p.pid for p in processes.agents(hosts.directory, str(hosts.a.configuration))])


def _kill_the_agent_of_the_target(hosts: Hosts, copy: UnderWay) -> None:
    _kill([p.pid for p in processes.agents(hosts.directory, str(hosts.b.configuration))])


def _kill(pids: list[int]) -> None:
    assert pids
    for pid in pids:
        with suppress(ProcessLookupError):  # those that share a connection end with its master
            os.kill(pid, signal.SIGKILL)


_CUTS: Final[dict[Cut, str | None]] = {
    _ctrl_c: "interrupted",
    _kill_the_client: None,
    _kill_ssh: "connection",
    _cut_the_connection_to_the_source: "connection",
    _cut_the_connection_to_the_target: "connection",
    _kill_the_agent_of_the_source: "connection",
    _kill_the_agent_of_the_target: "connection",
}
_cuts: Final = pytest.mark.parametrize("cut", _CUTS, ids=lambda cut: cut.__name__.strip("_"))


def _cut_short(hosts: Hosts, copy: UnderWay, cut: Cut) -> None:
    """Cut it, and see to it that it says so and that nothing of it runs on."""
    cut(hosts, copy)
    ended = copy.end()
    left = processes.are_gone(hosts.directory)
    assert not left, left
    code = _CUTS[cut]
    if code is None:
        assert ended.status == -signal.SIGKILL
    else:
        assert ended.status == STATUS[code], ended
        assert ended.error(code)["message"]


@_cuts
def test_an_image_that_was_cut_short_is_partial_and_goes_on(
    client: Client, hosts: Hosts, cut: Cut
) -> None:
    source = random_image(hosts.a.images / "disk", _SIZE)
    target = hosts.b.images / "disk"
    words = ("copy", hosts.a.at(source), hosts.b.at(target))
    _cut_short(hosts, client.under_way(*words, "--bwlimit", _RATE, until=_MOVED), cut)
    assert not target.exists()
    [entry] = client.json("list", hosts.b.at(hosts.b.images))
    assert (entry["path"], entry["state"]) == (str(target), "partial")
    told = client.json(*words)
    assert target.read_bytes() == source.read_bytes()
    assert told["transferred"] < _SIZE - _MOVED / 2
    assert [p.name for p in hosts.b.images.iterdir()] == ["disk"]


@pytest.mark.parametrize("cut", [_ctrl_c, _kill_the_agent_of_the_source])
def test_an_image_that_was_being_overwritten_is_partial_until_it_is_whole(
    client: Client, hosts: Hosts, cut: Cut
) -> None:
    source = random_image(hosts.a.images / "disk", _SIZE)
    target = random_image(hosts.b.images / "disk", _SIZE, seed=2)
    words = ("copy-contents", hosts.a.at(source), hosts.b.at(target))
    _cut_short(hosts, client.under_way(*words, "--bwlimit", _RATE, until=_MOVED), cut)
    assert not target.exists(), "neither the old contents nor the new"
    assert client.json("info", hosts.b.at(target))["state"] == "partial"
    told = client.json(*words)
    assert target.read_bytes() == source.read_bytes()
    assert told["transferred"] < _SIZE - _MOVED / 2


@pytest.mark.parametrize("cut", [_ctrl_c, _kill_the_client, _kill_the_agent_of_the_target])
def test_an_archive_that_was_cut_short_is_partial_and_goes_on(
    client: Client, hosts: Hosts, cut: Cut
) -> None:
    source = random_image(hosts.a.images / "disk", _SIZE)
    archive = hosts.b.images / "archive"
    words = ("copy", "--archive", hosts.a.at(source), hosts.b.at(archive))
    _cut_short(hosts, client.under_way(*words, "--bwlimit", _RATE, until=_MOVED), cut)
    assert not archive.exists()
    [entry] = client.json("list", hosts.b.at(hosts.b.images))
    assert (entry["path"], entry["state"]) == (str(archive), "partial")
    told = client.json(*words)
    assert told["transferred"] < _SIZE - _MOVED / 2
    assert client.json("verify", hosts.b.at(archive))["checked"] == "digest"
    assert client.json("diff", hosts.a.at(source), hosts.b.at(archive))["different"] == 0


@pytest.mark.parametrize("cut", [_ctrl_c, _kill_the_agent_of_the_target])
def test_an_archive_that_was_cut_twice_while_its_source_changed_goes_on(
    client: Client, hosts: Hosts, cut: Cut
) -> None:
    source = random_image(hosts.a.images / "disk", _SIZE)
    archive = hosts.b.images / "archive"
    words = ("copy", "--archive", hosts.a.at(source), hosts.b.at(archive))
    for change in (b"first", b"second"):
        _cut_short(hosts, client.under_way(*words, "--bwlimit", _RATE, until=_MOVED), cut)
        assert [p.name for p in hosts.b.images.iterdir()] == ["archive.virtstore-partial"]
        with source.open("r+b") as file:
            file.write(change)  # so all of it is written anew
    client.json(*words)
    assert client.json("verify", hosts.b.at(archive))["checked"] == "digest"
    assert client.json("diff", hosts.a.at(source), hosts.b.at(archive))["different"] == 0


@pytest.mark.parametrize("cut", [_ctrl_c, _kill_the_client])
def test_an_archive_of_another_format_that_was_cut_short_is_made_again(
    client: Client, hosts: Hosts, cut: Cut
) -> None:
    source = random_image(hosts.a.images / "disk", 4 * MIB)
    archive = hosts.b.images / "archive"
    words = ("copy", "--archive", "--format", "lzop", hosts.a.at(source), hosts.b.at(archive))
    _cut_short(hosts, client.under_way(*words, "--bwlimit", "4M", until=2 * MIB), cut)
    assert not list(hosts.b.images.iterdir())
    client.json(*words)
    assert client.json("diff", hosts.a.at(source), hosts.b.at(archive))["different"] == 0


def test_a_copy_within_one_host_ends_with_its_client(client: Client, hosts: Hosts) -> None:
    source = random_image(hosts.a.images / "disk", _SIZE)
    words = ("copy", hosts.a.at(source), hosts.a.at(hosts.a.images / "again"))
    copy = client.under_way(*words, "--bwlimit", _RATE, until=_MOVED)
    _cut_short(hosts, copy, _kill_the_client)
    assert not (hosts.a.images / "again").exists()


def test_a_local_copy_is_interrupted_as_well(client: Client, hosts: Hosts) -> None:
    source = random_image(hosts.local / "disk", _SIZE)
    words = ("copy", source, hosts.local / "again")
    copy = client.under_way(*words, "--bwlimit", _RATE, until=_MOVED)
    _cut_short(hosts, copy, _ctrl_c)
    assert not (hosts.local / "again").exists()
    client.json(*words)
    assert (hosts.local / "again").read_bytes() == source.read_bytes()


def test_clean_removes_what_a_cut_copy_left_and_nothing_else(client: Client, hosts: Hosts) -> None:
    source = random_image(hosts.a.images / "disk", _SIZE)
    other = random_image(hosts.b.images / "other", MIB)
    words = ("copy", hosts.a.at(source), hosts.b.at(hosts.b.images / "disk"))
    _cut_short(hosts, client.under_way(*words, "--bwlimit", _RATE, until=2 * MIB), _kill_the_client)
    cleaned = client.json("clean", hosts.b.at(hosts.b.images))
    assert cleaned["removed"] == [str(hosts.b.images / "disk")]
    assert cleaned["freed"] >= _SIZE
    assert list(hosts.b.images.iterdir()) == [other]
