"""The two hosts: reached by name, each with a configuration of its own."""

from __future__ import annotations

from ..hosts import Hosts


def test_each_host_has_an_address_and_a_configuration_of_its_own(hosts: Hosts) -> None:
    for host in (hosts.a, hosts.b):
        host.configuration.write_text(f"# {host.name}\n")
    for host in (hosts.a, hosts.b):
        done = hosts.ssh(host, "cat /etc/virtstore/config.toml && ip -brief address show eth0")
        assert done.stdout.startswith(f"# {host.name}\n".encode()), done.stderr
        assert f" {host.address}/24".encode() in done.stdout


def test_one_host_reaches_the_other_by_name(hosts: Hosts) -> None:
    done = hosts.ssh(hosts.a, f"{hosts.rsh} b 'ip -brief address show eth0; exit 5'")
    assert done.returncode == 5, done.stderr
    assert f" {hosts.b.address}/24".encode() in done.stdout


def test_bytes_come_through_as_they_are(hosts: Hosts) -> None:
    done = hosts.ssh(hosts.b, "printf 'a\\r\\n\\0\\377'")
    assert done.stdout == b"a\r\n\0\xff"


def test_a_host_finds_the_projects_own_programs_first(hosts: Hosts) -> None:
    done = hosts.ssh(hosts.a, "python -c 'import virtstore'")
    assert done.returncode == 0, done.stderr
