"""A run authenticates once at each host, whatever number of sessions it needs."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .command import Client
from .conftest import Hosts, random_image
from .sshd import ssh_config
from .trees import MIB


def test_a_copy_logs_in_once_at_each_host(client: Client, hosts: Hosts) -> None:
    source = random_image(hosts.a.images / "disk", MIB)
    before = hosts.a.logins(), hosts.b.logins()
    client.json("copy", hosts.a.at(source), hosts.b.at(hosts.b.images / "disk"))
    assert (hosts.a.logins(), hosts.b.logins()) == (before[0] + 1, before[1] + 1)


def test_a_copy_within_a_host_logs_in_once(client: Client, hosts: Hosts) -> None:
    source = random_image(hosts.a.images / "disk", MIB)
    before = hosts.a.logins()
    client.json("diff", hosts.a.at(source), hosts.a.at(source))
    # Two hosts are two sessions to the client, even where they are the same one.
    assert hosts.a.logins() <= before + 2


def test_several_copies_at_once_log_in_once_at_each_host(client: Client, hosts: Hosts) -> None:
    sources = [random_image(hosts.a.images / name, MIB) for name in ("one", "two", "three")]
    before = hosts.a.logins(), hosts.b.logins()
    there = [hosts.a.at(source) for source in sources]
    results = client.json("copy", *there, hosts.b.at(hosts.b.images), "-j", "3")
    assert [each["source"] for each in results] == there
    assert (hosts.a.logins(), hosts.b.logins()) == (before[0] + 1, before[1] + 1)
    for source in sources:
        assert (hosts.b.images / source.name).read_bytes() == source.read_bytes()


def test_a_connection_that_the_user_shares_already_is_used_and_left_alone(
    client: Client, hosts: Hosts, tmp_path: Path
) -> None:
    config = hosts.directory / "client" / "sharing"
    more = f"    ControlMaster auto\n    ControlPath {hosts.directory}/c-%n\n"
    config.write_text(ssh_config((hosts.a, hosts.b), hosts.keys, more=more))
    ssh = ["ssh", "-F", str(config)]
    master = subprocess.Popen([*ssh, "-M", "-N", "a"], stdin=subprocess.DEVNULL)
    try:
        _wait_for_master(ssh, "a")
        before = hosts.a.logins(still_open=1)
        sharing = client.having(VIRTSTORE_RSH=" ".join(ssh))
        source = random_image(hosts.a.images / "disk", MIB)
        sharing.json("copy", hosts.a.at(source), hosts.b.at(hosts.b.images / "disk"))
        assert hosts.a.logins(still_open=1) == before
        assert subprocess.run([*ssh, "-O", "check", "a"], capture_output=True).returncode == 0
    finally:
        master.terminate()
        master.wait(10)


def test_a_long_path_for_temporary_files_is_no_obstacle(
    client: Client, hosts: Hosts, tmp_path: Path
) -> None:
    """A socket's path has 108 bytes at most, and a directory's many more."""
    long = tmp_path / ("x" * 100)
    long.mkdir()
    assert client.having(TMPDIR=str(long)).json("list", "a:")
    assert not list(long.iterdir())


def _wait_for_master(ssh: list[str], name: str) -> None:
    for _ in range(200):
        if subprocess.run([*ssh, "-O", "check", name], capture_output=True).returncode == 0:
            return
    raise AssertionError("the user's own connection did not come up")
