"""File systems that only the host's kernel can resize: mounted where nobody else sees it.

The kernel then reads what a guest wrote, which is why the host's configuration has to allow
it; whoever calls this has asked. A few processes, in namespaces of their own, mount it, run
one tool and unmount it. Were any of them killed, the tool would end and the mount be gone:
with the first process of a PID namespace the kernel kills all others in it, and with the
last of a mount namespace its mounts. These are seen in no other namespace, and cover a
directory instead of making one, so that nothing can be left over. The processes keep the loop
device and the image's lock, and go on if the agent dies. Killing them does no harm to the
image, since what these file systems change is old or new at any moment.

Volumes go through a loop device as files do. mount(8) takes a name, and what was locked and
checked is a descriptor; and a volume that the agent holds with O_EXCL could not be mounted.

What was seen of the tools (util-linux 2.38): mount's last line is always that dmesg may know
more, and its first says what happened; unmounting by letting the namespace end can come late,
when somebody else reads /proc/PID/mountinfo at that moment, so it is done by name.

Sources: unshare(1), mount(8), mount_namespaces(7), pid_namespaces(7). Host tools needed:
mount, umount, unshare, prlimit (util-linux), timeout (coreutils), a shell, and root.
"""

from __future__ import annotations

from typing import Final

import msgspec

from virtstore import run
from virtstore.errors import Unsupported
from virtstore.filesystems.base import CHANGE_TIMEOUT, CHECK_TIMEOUT, Device
from virtstore.filesystems.complaints import first_complaint

#: Where the tool finds it. Every host has this directory, and no tool that is run here uses it.
POINT: Final = "/tmp"
TOOLS: Final = ("mount", "umount", "unshare", "prlimit", "timeout", "bwrap")

_NOT_MOUNTED: Final = 200
_NOT_UNMOUNTED: Final = 201
_OPTIONS: Final = ("nosuid", "nodev", "noexec", "noatime")
#: No part of it comes from outside: everything that varies is an argument.
_SCRIPT: Final = f"""
mount --no-mtab --internal-only --types "$0" --options "$1" "$2" {POINT} || exit {_NOT_MOUNTED}
shift 2
"$@"
status=$?
umount --no-mtab --internal-only {POINT} || exit {_NOT_UNMOUNTED}
exit $status
"""


class Mounting(msgspec.Struct, frozen=True):
    """How a kind of file system is mounted: the kernel's name of it, and the `options` that
    it needs beside those that all get."""

    type: str
    options: tuple[str, ...]


def argv(device: Device, mounting: Mounting, *tool: str) -> tuple[str, ...]:
    return (
        *("unshare", "--mount", "--propagation", "private", "--net"),
        *("--pid", "--fork", "--kill-child", "--mount-proc"),
        *("timeout", "--signal=KILL", str(CHANGE_TIMEOUT)),
        *("prlimit", f"--as={run.MEMORY_LIMIT}", "--core=0"),
        *("sh", "-c", _SCRIPT),
        *(mounting.type, ",".join(_OPTIONS + mounting.options), device.path),
        *tool,
    )


def run_mounted(device: Device, mounting: Mounting, *tool: str) -> run.Completed:
    """Run a tool on a loop device's file system, mounted on `POINT` for as long as it runs.

    Raises `Unsupported` where the kernel does not mount it. Otherwise it is unmounted again
    when this returns, unless the tool hangs where even the kernel cannot kill it.
    """
    said = run.run(
        argv(device, mounting, *tool),
        pass_fds=device.pass_fds,
        outlives_us=True,
        timeout=CHANGE_TIMEOUT + 60,
    )
    if said.status == _NOT_MOUNTED:
        raise Unsupported(
            f"this host's kernel does not mount the file system ({first_complaint(said.stderr)});"
            " dmesg on the host says more"
        )
    return said


def run_check(device: Device, *tool: str) -> run.Completed:
    """Run a checker, which only reads, on a device that is not mounted."""
    return run.run(tool, pass_fds=device.pass_fds, confined=True, timeout=CHECK_TIMEOUT)
