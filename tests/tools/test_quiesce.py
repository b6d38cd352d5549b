"""`--quiesce`: a guest's file systems are frozen for the moment of a copy, and thawed whatever
happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.guest_agent import CHANNEL, GuestAgent, guest_agent
from tests.libvirt_host import IMAGES, LibvirtHost
from tests.tools.live_copies import Backups, backups, guards, job
from tests.waiting import until

import virtstore

__all__ = ["backups"]  # a fixture

FROZEN_AND_THAWED = ["guest-fsfreeze-freeze", "guest-fsfreeze-thaw"]

#: Freezes a domain, says so, and does what it is told in one line.
_FREEZE = """
import sys
from virtstore.libvirt.freeze import Freeze
from virtstore.libvirt.guard import Guard
guard = Guard(Freeze(sys.argv[1], True))
print("frozen", flush=True)
sys.stdin.readline()
print(guard.end(), flush=True)
"""


@pytest.fixture
def agent(libvirt: LibvirtHost) -> Iterator[GuestAgent]:
    """The agent in the guest of the domain web, which runs."""
    with guest_agent(libvirt) as agent:
        libvirt.start("web", libvirt.disk("web.img"), devices=CHANNEL)
        libvirt.wait_for_writes("web.img")
        yield agent
        libvirt.virsh("destroy", "web")


def frozen(libvirt: LibvirtHost) -> subprocess.Popen[str]:
    """A process that has the guest's file systems frozen."""
    argv = libvirt.inside(sys.executable, "-c", _FREEZE, libvirt.virsh("domuuid", "web"))
    pipe = subprocess.PIPE
    process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True)
    assert process.stdout
    assert process.stdout.readline() == "frozen\n"
    return process


def test_a_live_copy_begins_while_the_guests_file_systems_are_frozen(
    libvirt: LibvirtHost, backups: Backups, agent: GuestAgent
) -> None:
    seen: list[list[str]] = []
    copied = backups.copy("web.img", quiesce=True, middle=lambda: seen.append(agent.freezes))
    assert seen == [FROZEN_AND_THAWED]  # long before the copy is done
    assert agent.freezes == FROZEN_AND_THAWED
    assert copied.warnings == ()


def test_a_guest_without_an_agent_is_refused_and_copied_with_a_warning_where_that_is_enough(
    libvirt: LibvirtHost, backups: Backups
) -> None:
    libvirt.start("web", libvirt.disk("web.img"))
    libvirt.wait_for_writes("web.img")
    with pytest.raises(virtstore.Unsupported, match=r"could not be frozen .*--quiesce=try"):
        backups.copy("web.img", quiesce=True)
    assert job(libvirt, "web") is None
    (warning,) = backups.copy("web.img", quiesce="try").warnings
    assert warning.startswith("it is not quiesced: the guest's file systems could not be frozen")


def test_a_guest_is_thawed_when_its_snapshot_cannot_be_made(
    libvirt: LibvirtHost, backups: Backups, agent: GuestAgent
) -> None:
    with virtstore.connect("local:") as host:
        image, target = host.image(f"{IMAGES}/web.img"), host.image(f"{backups.path}/copy.img")
        with pytest.raises(virtstore.Unsupported, match="no blocks can be shared"):
            image.copy(target, snapshot=True, quiesce=True)
    assert agent.freezes == FROZEN_AND_THAWED


def test_a_snapshot_of_an_image_that_no_domain_runs_on_is_not_quiesced(
    libvirt: LibvirtHost, backups: Backups
) -> None:
    libvirt.disk("web.img")
    with virtstore.connect("local:") as host:
        image, target = host.image(f"{IMAGES}/web.img"), host.image(f"{backups.path}/copy.img")
        with pytest.raises(virtstore.Unsupported, match="leave --quiesce out"):
            image.copy(target, snapshot=True, quiesce=True)


def test_a_guest_is_thawed_when_the_agent_that_had_it_frozen_is_killed(
    libvirt: LibvirtHost, agent: GuestAgent
) -> None:
    with frozen(libvirt) as process:
        assert agent.freezes == FROZEN_AND_THAWED[:1]
        process.send_signal(signal.SIGKILL)
    until(lambda: agent.freezes == FROZEN_AND_THAWED, "the guest to be thawed")


def test_a_guest_is_thawed_by_the_agent_where_the_process_was_killed_that_was_to_do_it(
    libvirt: LibvirtHost, agent: GuestAgent
) -> None:
    with frozen(libvirt) as process:
        os.kill(guards()[0], signal.SIGKILL)
        said, _ = process.communicate("\n")
    assert said == "None\n"
    assert agent.freezes == FROZEN_AND_THAWED


def test_a_guest_is_thawed_after_ten_seconds_whatever_takes_longer(
    libvirt: LibvirtHost, agent: GuestAgent
) -> None:
    with frozen(libvirt) as process:
        until(lambda: agent.freezes == FROZEN_AND_THAWED, "the guest to be thawed")
        said, _ = process.communicate("\n")
    assert "it was not quiesced" in said


def test_a_guest_is_thawed_when_the_agent_is_killed_while_it_freezes(
    libvirt: LibvirtHost, agent: GuestAgent
) -> None:
    agent.goes_on.clear()
    argv = libvirt.inside(sys.executable, "-c", _FREEZE, libvirt.virsh("domuuid", "web"))
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        until(lambda: agent.freezes, "the guest to be asked")
        os.kill(process.pid, signal.SIGKILL)
    agent.goes_on.set()
    until(lambda: agent.freezes[-1] == "guest-fsfreeze-thaw", "the guest to be thawed")
