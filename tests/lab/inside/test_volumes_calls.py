"""How often each command asks LVM: its commands are what an operation on a volume costs.

A report is asked for once a lock is held, and after a change whose outcome only LVM knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import virtstore

from .shell import MIB, sh

#: Notes each call's subcommand, and does it.
_LVM = """#!/bin/sh
echo "$1" >>{calls}
exec {lvm} "$@"
"""


class Counted:
    """One agent, and LVM's subcommands that it has called."""

    def __init__(self, here: virtstore.Host, calls: Path) -> None:
        self.here = here
        self._calls = calls

    def image(self, name: str) -> virtstore.Image:
        return self.here.image(f"/dev/vg0/{name}")

    def of(self, operation: Callable[[], object]) -> str:
        """What it calls, in order."""
        self._calls.write_text("")
        operation()
        return self._calls.read_text().replace("fullreport", "report").replace("\n", " ").strip()


@pytest.fixture
def counted(
    here: virtstore.Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Counted]:
    calls, program = tmp_path / "calls", tmp_path / "lvm"
    program.write_text(_LVM.format(calls=calls, lvm=sh("command -v lvm")))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with virtstore.connect("local:") as agent:
        yield Counted(agent, calls)


def test_each_command_asks_lvm_no_more_often_than_it_must(counted: Counted) -> None:
    here, image, of = counted.here, counted.image, counted.of
    assert of(lambda: here.create("/dev/vg0/web", 16 * MIB)) == (
        "report lvcreate report lvrename lvchange"
    )
    sh("mkfs.ext4 -q /dev/vg0/web; udevadm settle")
    assert of(image("web").info) == "report"
    assert of(lambda: here.list("/dev/vg0", long=True)) == "report"
    assert of(lambda: image("web").grow(32 * MIB)) == (
        "report lvchange lvrename lvextend report lvchange lvrename lvchange"
    )
    assert of(image("web").growfs) == "report"
    assert of(lambda: image("web").snapshot("before")) == (
        "report report lvcreate lvrename lvchange report"
    )
    assert of(image("before").delete) == "report lvchange lvconvert report lvremove"
    assert of(lambda: image("web").copy(image("two"))) == (
        "report report lvcreate report lvrename lvchange"
    )
    assert of(lambda: image("web").copy(image("three"), snapshot=True)) == (
        "report lvcreate report report lvcreate report report lvrename lvchange"
        " report lvconvert report lvremove"
    )
    assert of(lambda: image("web").copy(image("two"), overwrite=True)) == (
        "report report lvcreate report report lvchange lvrename lvrename lvchange lvremove"
    )
    sh("printf changed | dd of=/dev/vg0/two conv=notrunc status=none; udevadm settle")
    assert of(lambda: image("web").copy_contents(image("two"))) == (
        "report report lvchange lvrename lvrename lvchange"
    )
    assert of(lambda: image("web").resize(20 * MIB)) == (
        "report report lvchange lvrename lvcreate report lvchange lvconvert report lvremove"
        " report lvrename lvchange lvreduce report"
    )
    assert of(image("two").delete) == "report lvremove"
    assert of(lambda: here.clean("/dev/vg0")) == "report"
    assert of(here.storage_info) == "report"
