"""Mounting privately: the exact command, and what is refused without it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from virtstore import run
from virtstore.errors import Unsupported
from virtstore.filesystems import mounted
from virtstore.filesystems.base import Device
from virtstore.filesystems.complaints import first_complaint

DEVICE = Device(7, 10_000, lock=8)
XFS = mounted.Mounting("xfs", ("nouuid",))


def test_a_tool_is_run_in_namespaces_of_its_own_and_varies_nothing_that_a_shell_reads() -> None:
    argv = mounted.argv(DEVICE, XFS, "xfs_growfs", "; reboot")
    assert argv[: argv.index("timeout")] == (
        *("unshare", "--mount", "--propagation", "private", "--net"),
        *("--pid", "--fork", "--kill-child", "--mount-proc"),
    )
    script = argv[argv.index("-c") + 1]
    assert argv[argv.index(script) + 1 :] == (
        *("xfs", "nosuid,nodev,noexec,noatime,nouuid", "/proc/self/fd/7"),
        *("xfs_growfs", "; reboot"),
    )
    assert "xfs" not in script


class Ran:
    """Stands in for `run.run`."""

    def __init__(self, status: int, stderr: bytes = b"") -> None:
        self.status, self.stderr = status, stderr
        self.options: dict[str, object] = {}

    def __call__(self, argv: Sequence[str], **options: object) -> run.Completed:
        self.options = options
        return run.Completed(tuple(argv), self.status, b"", self.stderr)


def test_the_tool_outlives_the_agent_and_keeps_device_and_lock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran = Ran(0)
    monkeypatch.setattr(run, "run", ran)
    assert mounted.run_mounted(DEVICE, XFS, "true").status == 0
    assert ran.options["pass_fds"] == (7, 8)
    assert ran.options["outlives_us"] is True


def test_what_the_kernel_does_not_mount_is_unsupported_in_mounts_first_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = b"mount: /tmp: unknown filesystem type 'xfs'.\n       dmesg(1) may have more\n"
    monkeypatch.setattr(run, "run", Ran(200, said))
    with pytest.raises(Unsupported, match="unknown filesystem type 'xfs'"):
        mounted.run_mounted(DEVICE, XFS, "true")


def test_a_tools_own_failure_is_its_callers_to_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "run", Ran(1, b"it says why\n"))
    assert mounted.run_mounted(DEVICE, XFS, "false").complaint == "it says why"


def test_a_checker_is_confined(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = Ran(0)
    monkeypatch.setattr(run, "run", ran)
    mounted.run_check(DEVICE, "xfs_repair", "-n")
    assert ran.options["confined"] is True
    assert ran.options["pass_fds"] == (7, 8)


def test_where_it_is_mounted_is_a_directory_that_is_there() -> None:
    assert Path(mounted.POINT).is_dir()


def test_a_complaint_is_the_first_line_that_can_be_printed() -> None:
    assert first_complaint(b"\n  a\x1b[31m b\nc\n") == "a?[31m b"
    assert first_complaint(b"") == "it does not say why"
