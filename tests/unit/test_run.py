"""The door to the host's tools: how a command is made, and what a tool's words become."""

from __future__ import annotations

import errno
import os
import platform
import struct
import subprocess
import time

import pytest

from virtstore import programs, run, seccomp
from virtstore.errors import Unsupported


def test_a_missing_tool_is_named_with_the_package_that_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(programs, "find", lambda tool: None)
    with pytest.raises(Unsupported, match=r"resize2fs is not installed .*\(Debian: e2fsprogs\)"):
        run.run(["resize2fs"])
    assert programs.missing("resize2fs", "blkid") == ("resize2fs", "blkid")


def test_confinement_that_is_not_installed_is_not_done_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(programs, "find", lambda tool: None if tool == "bwrap" else f"/bin/{tool}")
    with pytest.raises(Unsupported, match="bubblewrap"):
        run.run(["true"], confined=True)


@pytest.mark.parametrize(
    ("stdout", "stderr", "complaint"),
    [
        (b"", b"tool 1.0\ntool: it is bad\n\n", "tool: it is bad"),
        (b"said here\n", b"  \n", "said here"),
        (b"", b"", "no message, exit status 3"),
        (b"", b"a\x1b[31m\xff", "a?[31m\N{REPLACEMENT CHARACTER}"),
        (b"", b"x" * 1000, "x" * 300),
    ],
)
def test_a_complaint_is_one_line_that_can_be_printed(
    stdout: bytes, stderr: bytes, complaint: str
) -> None:
    assert run.Completed(("tool",), 3, stdout, stderr).complaint == complaint


Instruction = tuple[int, int, int, int]


def _judge(program: list[Instruction], arch: int, number: int) -> int:
    """What a seccomp filter returns for a system call: the few instructions that ours has."""
    at, loaded = 0, 0
    while True:
        code, if_equal, if_not, value = program[at]
        at += 1
        if code == 0x06:
            return value
        if code == 0x20:
            loaded = {0: number, 4: arch}[value]
        else:
            assert code == 0x15
            at += if_equal if loaded == value else if_not


@pytest.mark.parametrize(
    ("machine", "arch", "refused"),
    [("x86_64", 0xC000003E, {76, 77}), ("aarch64", 0xC00000B7, {45, 46})],
)
def test_the_filter_refuses_truncation_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, machine: str, arch: int, refused: set[int]
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    fd = seccomp.length_filter()
    assert fd is not None
    program = list(struct.iter_unpack("=HBBI", os.read(fd, 4096)))
    os.close(fd)
    verdicts = {n: _judge(program, arch, n) for n in range(500)}
    assert {n for n, verdict in verdicts.items() if verdict != 0x7FFF0000} == refused
    assert {verdicts[n] & 0xFFFF for n in refused} == {errno.EPERM}
    assert _judge(program, 0x40000003, min(refused)) == 0x7FFF0000


def test_on_a_processor_that_is_not_known_there_is_no_filter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "vax")
    assert seccomp.length_filter() is None
    assert not seccomp.keeps_length()


def test_a_program_that_is_looked_after_is_told_of_when_it_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever looks now and then whether it has ended would see it later each time."""
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("looked, and slept"))
    assert run.run(["sleep", "0.05"], give_up=lambda seconds: None).status == 0
    assert run.run(["sleep", "0.05"], watch=lambda output: None).status == 0


def test_whether_a_program_ends_is_waited_for_as_long_as_it_may_take() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        assert not run.ended_within(process, 0.01)
        assert process.stdin
        process.stdin.close()
        assert run.ended_within(process, 60)
        assert run.ended_within(process, 60)  # also once it was waited for
