"""`--nice`: whoever works on a copy leaves processor and disks to others, at both ends and
between them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from . import processes
from .command import Client
from .conftest import Hosts, random_image
from .trees import MIB

_USUAL = os.getpriority(os.PRIO_PROCESS, 0)


def _niceness(pid: int) -> set[int]:
    """Of all its threads."""
    return {
        os.getpriority(os.PRIO_PROCESS, int(thread.name))
        for thread in Path(f"/proc/{pid}/task").iterdir()
    }


@pytest.mark.parametrize("options", [[], ["--nice"]], ids=["usual", "nice"])
@pytest.mark.parametrize("where", ["between hosts", "within a host"])
def test_all_processes_of_a_copy_are_nice_when_asked(
    client: Client, hosts: Hosts, options: list[str], where: str
) -> None:
    source = hosts.a.images / "x.img"
    random_image(source, 8 * MIB)
    host = hosts.b if where == "between hosts" else hosts.a
    words = ["--bwlimit", "4M", *options, hosts.a.at(source), host.at(host.images / "y.img")]
    copy = client.under_way("copy", *words, until=2 * MIB)
    agents = processes.agents(hosts.directory)
    assert len(agents) == (2 if where == "between hosts" else 1)
    for agent in agents:
        assert _niceness(agent.pid) == {max(_USUAL, 10) if options else _USUAL}
    ours = [p for p in processes.of(hosts.directory) if p.name in ("virtstore", "ssh")]
    assert {p.name for p in ours} == {"virtstore", "ssh"}
    for each in ours:
        assert _niceness(each.pid) == {min(_USUAL + 10, 19) if options else _USUAL}
    assert copy.end().status == 0
