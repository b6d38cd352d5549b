"""Each complaint of ssh and sudo has its own remedy; of others nothing is made up."""

from __future__ import annotations

import pytest

from virtstore.client import complaints


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("sudo: a password is required", "asks for a password"),
        ("sudo: sorry, you must have a tty to run sudo", "requiretty"),
        ("alice is not in the sudoers file.", "may not run the agent by sudo"),
        ("Sorry, user alice is not allowed to execute '/usr/bin/x' as root on a.", "may not run"),
        ("sudo: virtstore-agent: command not found", "secure_path"),
        ("sh: 1: sudo: not found", "sudo is not installed"),
        ("bash: line 1: sudo: command not found", "sudo is not installed"),
        ("/usr/bin/python3: No module named virtstore", "another Python"),
        ("u@a: Permission denied (publickey).", "ssh -v"),
        ("ssh: Could not resolve hostname file: Name or service not known", "/path or ./name"),
        ("Host key verification failed.", "run ssh to that host once"),
        ("ssh: connect to host a port 22: Connection refused", "an sshd runs there"),
        ("Connection timed out during banner exchange", "ConnectTimeout"),
        ("ssh: connect to host a port 22: No route to host", "it is up"),
        ("hostname contains invalid characters", "several words"),
        ("kex_exchange_identification: Connection closed by remote host", "MaxStartups"),
        ("ssh: what nobody has seen before", ""),
    ],
)
def test_a_complaint_has_the_remedy_for_it(said: str, remedy: str) -> None:
    told = complaints.remedy(["a banner", said])
    assert remedy in told
    assert bool(told) == bool(remedy)


def test_of_what_was_said_the_end_is_shown_and_a_warning_whole() -> None:
    lines = [f"line {number}" for number in range(30)]
    assert complaints.shown(lines) == "line 27; line 28; line 29"
    warning = ["@@@@@@@@@@", "@ WARNING @", *lines]
    assert complaints.shown(["banner", *warning]) == "\n" + "\n".join(warning)


def test_text_is_shown_by_lines_and_cut_where_there_is_much() -> None:
    told = complaints.amid(b"one\n\n\x1b[2Jtwo\n" + b"x" * 999 + b"\nmore\n" * 50)
    lines = told.splitlines()
    assert lines[1:3] == ["    one", "    ?[2Jtwo"]
    assert all(line.isprintable() and len(line) < 400 for line in lines)
    assert "    …" in lines


@pytest.mark.parametrize("said", [b"going down\n", b"going down"])
def test_of_what_an_agent_sends_behind_such_text_nothing_is_shown(said: bytes) -> None:
    told = complaints.amid(said + bytes(7) + b"\x93Data\nof the image\n" * 9)
    assert told.splitlines()[1] == "    going down"
    assert "image" not in told
    assert "Data" in complaints.amid(bytes(7) + b"\x93Data\n" * 9)
