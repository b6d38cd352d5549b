"""An image of another host is read here, as far as that host allows; and nothing stays of that on
either side."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from ..waiting import until
from . import processes
from .command import Client, ended
from .conftest import Hosts, random_image
from .sshd import Remote
from .trees import MIB


def test_a_backup_elsewhere_is_compared_with_its_image_here(client: Client, hosts: Hosts) -> None:
    disk = random_image(hosts.local / "disk.img", 5 * MIB + 1000)
    backup = f"b:{hosts.b.images}/disk.img.zst"
    client.json("copy", "--archive", disk, backup)
    compare = f'nbdcopy "$uri" - | cmp - {disk}'
    done = client.run("export", backup, "--run", compare)
    assert (done.status, done.stdout, done.stderr) == (0, "", "")


def test_a_key_for_one_directory_exports_what_is_in_it(client: Client, hosts: Hosts) -> None:
    backups = hosts.b.images / "backups"
    backups.mkdir()
    random_image(backups / "old", MIB)
    random_image(hosts.b.images / "secret", MIB)
    for key in ("b-append", "b-read"):
        old = hosts.b.at(backups / "old", key)
        assert client.run("export", old, "--run", "nbdinfo --size $uri").stdout == f"{MIB}\n"
    secret = hosts.b.at(hosts.b.images / "secret", "b-append")
    assert client.run("export", secret, "--json").error("denied")


@pytest.mark.parametrize("victim", ["virtstore", "ssh", "agent"])
def test_a_session_that_ends_leaves_nothing_on_either_side(
    client: Client, hosts: Hosts, a: Remote, victim: str
) -> None:
    disk = random_image(a.images / "disk.img", 3 * MIB)
    process = client.start("export", a.at(disk))
    assert process.stdout
    uri = process.stdout.readline().decode().strip()
    subprocess.run(["nbdinfo", "--size", uri], check=True, capture_output=True)
    if victim == "virtstore":
        pid = process.pid
    elif victim == "agent":
        [pid] = [each.pid for each in processes.agents(hosts.directory)]
    else:
        [pid] = [each.pid for each in processes.of(hosts.directory) if each.name == "ssh"]
    os.kill(pid, signal.SIGKILL)
    done = ended(process)
    assert done.status == (-9 if victim == "virtstore" else 10)
    assert "Traceback" not in done.stderr
    assert ("virtstore: a: the agent went away" in done.stderr) == (victim != "virtstore")
    assert "partial" not in done.stderr  # nothing was being written
    until(lambda: not processes.of(hosts.directory), "the end of all processes")
    assert not os.path.exists(os.path.dirname(uri.partition("=")[2]))
