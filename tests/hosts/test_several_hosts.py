"""One command line for several hosts: what is asked of each, and what moves between them."""

from __future__ import annotations

import subprocess

from ..waiting import PATIENCE
from . import processes
from .command import Client
from .conftest import Hosts, random_image
from .trees import MIB


def test_several_hosts_tell_of_their_storage(client: Client, hosts: Hosts) -> None:
    done = client.run("storage-info", "a:", "nowhere:", "b:", "--json")
    assert done.status == 10
    one, missing, other = done.json
    assert (one["host"], other["host"]) == ("a", "b")
    assert missing["error"]["code"] == "connection"
    paths = {each["path"] for each in client.json("list", "a:", "b:")}
    assert {str(hosts.a.images), str(hosts.b.images)} <= paths


def test_images_of_several_hosts_are_gathered_in_one_directory(
    client: Client, hosts: Hosts
) -> None:
    sources = [
        random_image(hosts.a.images / "one", MIB),
        random_image(hosts.b.images / "two", MIB, seed=2),
        random_image(hosts.local / "three", MIB, seed=3),
    ]
    (hosts.b.images / "all").mkdir(mode=0o755)
    target = hosts.b.at(hosts.b.images / "all")
    there = [hosts.a.at(sources[0]), hosts.b.at(sources[1]), str(sources[2])]
    results = client.json("-q", "copy", *there, target)
    assert [each["target"] for each in results] == [f"{target}/{p.name}" for p in sources]
    for source in sources:
        copied = hosts.b.images / "all" / source.name
        assert copied.read_bytes() == source.read_bytes()
    assert not processes.are_gone(hosts.directory)


def test_what_one_host_gives_by_a_pipe_another_takes(client: Client, hosts: Hosts) -> None:
    source = random_image(hosts.a.images / "disk", MIB)
    target = hosts.b.images / "disk"
    given = client.start("copy", hosts.a.at(source), "-", "--archive")
    assert isinstance(given.args, list)
    argv = [*given.args[: given.args.index("copy")], "copy", "-", hosts.b.at(target)]
    taken = subprocess.Popen(argv, stdin=given.stdout, env=client.environment)
    assert given.stdout
    given.stdout.close()  # ours, so that the one hears where the other goes
    assert (taken.wait(PATIENCE), given.wait(PATIENCE)) == (0, 0)
    assert given.stderr
    given.stderr.close()
    assert target.read_bytes() == source.read_bytes()


def test_a_session_serves_all_locations_of_its_host(client: Client, hosts: Hosts) -> None:
    paths = [random_image(hosts.a.images / name, MIB) for name in ("one", "two", "three")]
    before = hosts.a.logins()
    assert len(client.json("info", *(hosts.a.at(path) for path in paths))) == 3
    assert hosts.a.logins() == before + 1
