"""`make demo-lvm`: the same day's work on logical volumes, in the lab.

It runs inside: a kernel of its own, LVM on its own disks, two hosts with a network, an
sshd and a configuration each. A volume is backed up while its file system is mounted and
being written to; the restored one is as it was at the moment of the snapshot.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.hosts import two_hosts

from demo.terminal import Terminal, say

VOLUME = Path("/dev/vg0/newimage")
MOUNTED = Path("/mnt/guest")
ON_A = """
[[volume_group]]
name = "vg0"
access = "write"
[[directory]]
path = "/run/demo/a"
access = "read"
volatile = true
"""
ON_B = '[[directory]]\npath = "/run/demo/b"\naccess = "append"\nvolatile = true\n'


def main() -> None:
    started = time.monotonic()
    for name in ("a", "b"):
        Path(f"/run/demo/{name}").mkdir(parents=True)
    _call("pvcreate", "-qq", "/dev/ubda")
    _call("vgcreate", "-qq", "vg0", "/dev/ubda")
    golden = (
        "-L",
        "golden",
        "-d",
        str(Path(json.__file__).parent),
        "/run/demo/a/FC7default.img",
        "48M",
    )
    _call("mke2fs", "-q", "-t", "ext4", *golden)
    with tempfile.TemporaryDirectory() as directory, two_hosts(Path(directory)) as hosts:
        hosts.a.configuration.write_text(ON_A)
        hosts.b.configuration.write_text(ON_B)
        agent = Path(sys.executable).parent / "virtstore-agent"
        environment = dict(os.environ, VIRTSTORE_RSH=hosts.rsh, VIRTSTORE_AGENT=str(agent))
        _tell_the_story(Terminal(environment, {"A/": "a:/run/demo/a/", "B/": "b:/run/demo/b/"}))
    print(f"\nAll of it held. {time.monotonic() - started:.0f} s.")


def _tell_the_story(demo: Terminal) -> None:
    say("What does host a offer?")
    demo.run("storage-info a:")
    say("A volume, filled from the golden image; its file system grown to fit.")
    demo.run("create a:/dev/vg0/newimage 100M")
    demo.run("copy-contents A/FC7default.img a:/dev/vg0/newimage")
    demo.run("growfs a:/dev/vg0/newimage")
    say("It is mounted, and a guest writes to it; the backup is of one moment all the same.")
    with _mounted(), _guest() as written:
        demo.run("info a:/dev/vg0/newimage")
        demo.run("copy a:/dev/vg0/newimage B/backup23image --archive", expect=6)
        before = written()
        demo.run("copy a:/dev/vg0/newimage B/backup23image --snapshot --archive")
        after = written()
    demo.run("list -l a:/dev/vg0")
    say("Back into the volume; then larger, and its file system too.")
    demo.run("copy-contents B/backup23image a:/dev/vg0/newimage")
    demo.run("diff B/backup23image a:/dev/vg0/newimage")
    demo.run("grow a:/dev/vg0/newimage 200M")
    demo.run("growfs a:/dev/vg0/newimage")
    _prove(before, after)


def _prove(before: int, after: int) -> None:
    say("The proof.")
    print(f"$ e2fsck -fn {VOLUME}", flush=True)
    _call("e2fsck", "-fn", str(VOLUME))
    with _mounted():
        lines = (MOUNTED / "log").read_text().splitlines()
    print(
        f"The guest had written {before} lines when the backup began and {after} when it had"
        f" ended; the restored volume has {len(lines)}."
    )
    if lines != [str(n) for n in range(len(lines))] or not before <= len(lines) <= after:
        raise SystemExit("that is not what it was at one moment in between")


@contextmanager
def _mounted() -> Iterator[None]:
    MOUNTED.mkdir(exist_ok=True)
    _call("mount", str(VOLUME), str(MOUNTED))
    try:
        yield
    finally:
        _call("umount", str(MOUNTED))


@contextmanager
def _guest() -> Iterator[Callable[[], int]]:
    """Appends numbered lines, each on the disk before the next; gives how many there are."""
    stop = threading.Event()
    count = 0

    def write() -> None:
        nonlocal count
        with (MOUNTED / "log").open("w") as log:
            while not stop.wait(0.01):
                log.write(f"{count}\n")
                log.flush()
                os.fsync(log.fileno())
                count += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield lambda: count
    finally:
        stop.set()
        thread.join()


def _call(*argv: str) -> None:
    subprocess.run(argv, check=True)


if __name__ == "__main__":
    main()
