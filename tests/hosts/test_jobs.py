"""Both ends of a copy between two hosts are told while it runs, and who runs it."""

from __future__ import annotations

from typing import Any

from ..waiting import until
from .command import Client
from .conftest import Hosts, random_image
from .trees import MIB


def test_both_ends_of_a_copy_are_told_with_the_user_and_the_address(
    hosts: Hosts, client: Client
) -> None:
    source = hosts.a.at(random_image(hosts.a.images / "disk", 16 * MIB))
    target = hosts.b.at(hosts.b.images / "disk")
    copy = client.under_way("copy", source, target, "--bwlimit", "2M", until=MIB)
    told: list[dict[str, Any]] = []
    mine = {str(hosts.a.images / "disk"), str(hosts.b.images / "disk")}

    def both() -> bool:
        told[:] = [job for job in client.json("jobs", "a:", "b:") if job["path"] in mine]
        return len(told) == 2 and all(job["done"] for job in told)

    until(both, "both ends to be told of")
    copy.ctrl_c()
    copy.end()
    for job in told:
        assert (job["verb"], job["stage"], job["total"]) == ("copy", "copying", 16 * MIB)
        assert job["from"] in ("127.0.0.1", "::1")
        assert job["user"]
    until(lambda: not client.json("jobs", "a:"), "the job to end with its agent")
