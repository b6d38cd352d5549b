"""Several hosts are examined by one command, of which one cannot be reached."""

from __future__ import annotations

from .command import Client
from .conftest import Hosts


def test_a_host_that_cannot_be_reached_is_a_problem_and_stops_no_other(
    hosts: Hosts, client: Client
) -> None:
    done = client.run("doctor", "a:", "nowhere:", "b:", "--json")
    assert done.status == 1
    first, *others = done.json
    assert (first["host"], first["severity"]) == ("nowhere", "problem")
    assert "virtstore.invalid" in first["what"]
    assert "'virtstore doctor --verbose HOST:'" in first["remedy"]
    assert {each["host"] for each in others} == {"a", "b"}
    assert not [each for each in others if each["severity"] in ("warning", "problem")]
    whats = {each["what"] for each in others}
    assert "its clock and this machine's agree" in whats


def test_two_healthy_hosts_leave_the_status_0(hosts: Hosts, client: Client) -> None:
    done = client.run("doctor", "a", "b:")
    assert done.status == 0, done
    assert done.stdout.endswith("other things are in order (--verbose shows them)\n")
