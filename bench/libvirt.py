"""A libvirtd of our own, for `virsh vol-upload` and `vol-download`.

It has a socket in our directory, only the storage driver, and, for root, an empty /run,
/var/lib and /etc/libvirt of its own, so that it neither meets nor leaves anything on this
machine. A directory is its one pool, which nothing defines for longer than it runs.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.loopback import find

POOL = "bench"
_CONFIGURATION = """\
unix_sock_dir = "{sockets}"
auth_unix_rw = "none"
auth_unix_ro = "none"
log_level = 4
log_outputs = "4:stderr"
"""
_UNSHARED = """\
for directory in /run /var/lib /etc/libvirt; do
    [ ! -d "$directory" ] || mount -t tmpfs none "$directory" || exit 1
done
exec "$@"
"""


@dataclass(frozen=True)
class Server:
    """How it is reached over ssh, or why there is none."""

    uri: str = ""
    pids: tuple[int, ...] = ()
    trouble: str = ""


@contextmanager
def served(base: Path, images: Path, environment: dict[str, str]) -> Iterator[Server]:
    """A server whose pool is the directory `images`, reached as host b."""
    missing = [program for program in ("libvirtd", "virsh", "nc") if not find(program)]
    if missing:
        yield Server(trouble=f"not here: {', '.join(missing)}")
        return
    home = base / "libvirt"
    home.mkdir()
    log = home / "log"
    with log.open("wb") as errors:
        daemon = subprocess.Popen(
            _argv(home), env=_environment(home, environment), stdout=errors, stderr=errors
        )
    try:
        yield _server(daemon, home, images, environment)
    finally:
        daemon.terminate()
        daemon.wait()


def _server(
    daemon: subprocess.Popen[bytes], home: Path, images: Path, environment: dict[str, str]
) -> Server:
    socket = home / "run" / "libvirt-sock"
    deadline = time.monotonic() + 10
    while not socket.exists() and daemon.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    level = "system" if os.geteuid() == 0 else "session"
    uri = f"storage+ssh://b/{level}?socket={socket}&mode=legacy&proxy=netcat"
    argv = ["virsh", "-q", "-c", uri, "pool-create-as", POOL, "dir", "--target", str(images)]
    made = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    if made.returncode == 0:
        return Server(uri=uri, pids=(daemon.pid,))
    said = (made.stderr + (home / "log").read_text())[-600:]
    return Server(trouble=f"libvirt cannot be used here: {' '.join(said.split())}")


def _argv(home: Path) -> list[str]:
    (home / "run").mkdir()
    configuration = home / "libvirtd.conf"
    configuration.write_text(_CONFIGURATION.format(sockets=home / "run"))
    libvirtd = find("libvirtd")
    assert libvirtd
    argv = [libvirtd, "--config", str(configuration), "--pid-file", str(home / "pid")]
    if os.geteuid() != 0:
        return argv
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", _UNSHARED, "sh", *argv]


def _environment(home: Path, environment: dict[str, str]) -> dict[str, str]:
    """Only the storage driver: others want users, buses and programs that may not be here."""
    drivers = home / "drivers"
    drivers.mkdir()
    for library in Path("/usr/lib").glob("*/libvirt/connection-driver/libvirt_driver_storage.so"):
        (drivers / library.name).symlink_to(library)
    kinds = ("RUNTIME_DIR", "CONFIG_HOME", "CACHE_HOME", "DATA_HOME")
    private = {f"XDG_{kind}": str(home) for kind in kinds}
    return dict(environment, LIBVIRT_DRIVER_DIR=str(drivers), **private)
