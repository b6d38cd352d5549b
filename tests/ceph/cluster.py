"""One Ceph cluster: from nothing to answering, asked by its own tools, and gone.

`running` starts a monitor, a manager without modules (for what it counts: without it Ceph knows of
no free space, and of no quota that is used up) and an OSD whose store is in memory. The processes
are children of ours, in the foreground, and die with us. The OSD does not end on SIGTERM once
nobody answers it as monitor, so all are killed: there is nothing to lose.

Host tools needed: ceph-mon, ceph-mgr, ceph-osd, ceph-common, qemu-block-extra, util-linux.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests import waiting
from tests.hosts.sshd import free_port
from tests.waiting import PATIENCE

from .configuration import OF_DAEMONS, OF_HOSTS
from .keys import Caps, keyring, new_key

#: The pool that a cluster begins with, of which its users may use nothing but this.
POOL: Final = "vms"

#: Who there is from the beginning. `vms` may do what an administrator's how-to allows a host,
#: `reader` only reads, `nobody` may ask the monitors, and do nothing else.
USERS: Final[dict[str, Caps]] = {
    "admin": {"mon": "allow *", "mgr": "allow *", "osd": "allow *"},
    "vms": {"mon": "profile rbd", "osd": f"profile rbd pool={POOL}"},
    "reader": {"mon": "profile rbd-read-only", "osd": f"profile rbd-read-only pool={POOL}"},
    "nobody": {"mon": "allow r"},
    "rgw": {"mon": "allow rwx", "osd": "allow rwx"},
}
_DAEMONS: Final[dict[str, Caps]] = {
    "mon.": {"mon": "allow *"},
    "mgr.a": {"mon": "allow profile mgr", "osd": "allow *"},
    "osd.0": {"mon": "allow profile osd", "mgr": "allow profile osd", "osd": "allow *"},
}

#: The Debian package of each program.
PACKAGES: Final = {
    "ceph-mon": "ceph-mon",
    "ceph-mgr": "ceph-mgr",
    "ceph-osd": "ceph-osd",
    "ceph": "ceph-common",
    "rbd": "ceph-common",
    "setpriv": "util-linux",
}


class Failed(Exception):
    """One of Ceph's tools failed; the message is what it said."""


@dataclass(frozen=True)
class User:
    """Somebody who may use the cluster from a host: `conf` and `keyring` are what the host has."""

    name: str
    conf: Path
    keyring: Path

    def table(self, pool: str = POOL, access: str = "write", *more: str) -> str:
        """The table of virtstore's configuration that allows a pool."""
        keys = f'conf = "{self.conf}"\nuser = "{self.name}"\nkeyring = "{self.keyring}"\n'
        head = f'[[rbd_pool]]\nname = "{pool}"\naccess = "{access}"\n'
        return head + keys + "".join(f"{line}\n" for line in more)


@dataclass(frozen=True)
class Cluster:
    """A cluster that answers. `processes`: its daemons, by `mon`, `mgr`, `osd`."""

    directory: Path
    address: str
    port: int
    fsid: str
    processes: dict[str, subprocess.Popen[bytes]]

    @property
    def conf(self) -> Path:
        """The configuration of its daemons, and of its administrator."""
        return self.directory / "ceph.conf"

    def user(self, name: str = "vms") -> User:
        """One of `USERS`, or of those who were added."""
        return User(name, self.directory / "hosts.conf", self.keyring(name))

    def keyring(self, name: str) -> Path:
        return self.keyring_of(f"client.{name}")

    def keyring_of(self, entity: str) -> Path:
        return self.directory / "keyrings" / entity

    def add_user(self, name: str, caps: Caps) -> User:
        """A further user."""
        words = [word for cap in caps.items() for word in cap]
        self.keyring(name).write_text(
            self.ceph("auth", "get-or-create", f"client.{name}", *words) + "\n"
        )
        return self.user(name)

    def ceph(self, *words: str, user: str = "admin") -> str:
        """What `ceph` prints. Raises `Failed`."""
        return self.call("ceph", *words, user=user)

    def rbd(self, *words: str | Path, user: str = "admin") -> str:
        """What `rbd` prints. Raises `Failed`."""
        return self.call("rbd", *words, user=user)

    def json(self, *words: str, user: str = "admin") -> Any:
        """What `ceph`, or another tool, says as JSON; None where it says nothing."""
        return json.loads(self.call(*words, "--format", "json", user=user) or "null")

    def call(self, tool: str, *words: str | Path, user: str = "admin") -> str:
        return _run([tool, "--conf", str(self.conf), "--id", user, *map(str, words)])

    def make_pool(self, name: str) -> None:
        """A further pool for images."""
        self.ceph("osd", "pool", "create", name)
        self.rbd("pool", "init", name)

    def room(self) -> int:
        """The bytes that the first pool has room for, once the cluster knows."""

        def told() -> int:
            pools = self.json("ceph", "df")["pools"]
            return max((p["stats"]["max_avail"] for p in pools if p["name"] == POOL), default=0)

        waiting.until(told, "the cluster to know its room")
        return told()

    def empty(self, pool: str = POOL) -> None:
        """Remove every object of a pool, in whatever state its images are. What was written after
        a snapshot of its image stays for that: then the pool is made anew, which takes longer."""
        self.call("rados", "purge", pool, "--yes-i-really-really-mean-it")
        if self.call("rados", "--pool", pool, "ls", "--all"):
            self.ceph("osd", "pool", "rm", pool, pool, "--yes-i-really-really-mean-it")
            self.make_pool(pool)

    def delay(self, seconds: float) -> None:
        """Have the OSD take in what its clients say late, by up to so many seconds, as one that is
        far away does. That goes for who connects from now on; 0 ends it."""
        self.ceph("config", "set", "osd", "ms_inject_delay_type", "client")
        self.ceph("config", "set", "osd", "ms_inject_delay_max", str(seconds))
        self.ceph("config", "set", "osd", "ms_inject_delay_probability", "1" if seconds else "0")

    @contextmanager
    def stopped(self, daemon: str) -> Iterator[None]:
        """A daemon of it answers nobody meanwhile, and then goes on."""
        process = self.processes[daemon]
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def complaint(self) -> str:
        """Why a daemon of it has ended, if one has."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                logs = self.directory.glob(f"{name}.*")
                said = "\n".join(log.read_text(errors="replace")[-2000:] for log in logs)
                return f"{name} has ended, status {process.returncode}: {said}"
        return ""


def missing() -> tuple[str, ...]:
    """The Debian packages that a cluster would need here and that are not installed."""
    lacking = {package for program, package in PACKAGES.items() if shutil.which(program) is None}
    return tuple(sorted(lacking))


@contextmanager
def running(
    directory: Path, address: str = "127.0.0.1", memory: int = 1 << 30
) -> Iterator[Cluster]:
    """A cluster in an empty `directory`, from answering to gone. `memory`: the bytes that its OSD
    has room for."""
    cluster = Cluster(directory, address, free_port(), str(uuid.uuid4()), {})
    _lay_out(cluster, memory)
    with ExitStack() as stack:
        stack.callback(_end, cluster)
        _start(cluster)
        yield cluster


def _lay_out(cluster: Cluster, memory: int) -> None:
    directory = cluster.directory
    for each in ("mon", "mgr", "osd", "keyrings"):
        (directory / each).mkdir()
    values = {
        "fsid": cluster.fsid,
        "address": cluster.address,
        "port": cluster.port,
        "directory": directory,
        "memory": memory,
        "grace": _grace(),
    }
    cluster.conf.write_text(OF_DAEMONS.format(**values))
    (directory / "hosts.conf").write_text(OF_HOSTS.format(**values))
    entities = {**_DAEMONS, **{f"client.{name}": caps for name, caps in USERS.items()}}
    sections = {entity: keyring(entity, new_key(), caps) for entity, caps in entities.items()}
    for entity, text in {**sections, "all": "".join(sections.values())}.items():
        cluster.keyring_of(entity).touch(mode=0o600)
        cluster.keyring_of(entity).write_text(text)


def _grace() -> int:
    """The seconds after which the monitor takes a manager for gone that says nothing. It subtracts
    them from those since the machine's start, and if these are fewer, takes it for gone at once,
    again and again."""
    return min(600, int(time.monotonic() / 2))


def _start(cluster: Cluster) -> None:
    osd, all_keys = str(uuid.uuid4()), str(cluster.keyring_of("all"))
    _make("ceph-mon", cluster, "-i", "a", "--monmap", _map(cluster), "--keyring", all_keys)
    _daemon(cluster, "mon", "ceph-mon", "-i", "a")
    _answer(cluster, [f"osd new {osd}", "osd crush add osd.0 1.0 host=here root=default"])
    _daemon(cluster, "mgr", "ceph-mgr", "-i", "a")
    _make("ceph-osd", cluster, "-i", "0", "--osd-uuid", osd)
    _daemon(cluster, "osd", "ceph-osd", "-i", "0")
    _answer(cluster, [f"osd pool create {POOL}"])
    cluster.rbd("pool", "init", POOL)  # answers once the OSD is there


def _map(cluster: Cluster) -> str:
    """A map of the monitor that there is, in a file."""
    path, fsid = str(cluster.directory / "monmap"), cluster.fsid
    monitor = ("--addv", "a", f"[v2:{cluster.address}:{cluster.port}]")
    _run(["monmaptool", "--create", "--fsid", fsid, *monitor, path])
    return path


def _make(program: str, cluster: Cluster, *words: str) -> None:
    """Make what a daemon keeps."""
    _run([program, "--mkfs", "--conf", str(cluster.conf), *words])


def _run(argv: Sequence[str]) -> str:
    done = subprocess.run(
        argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE
    )
    if done.returncode:
        raise Failed(f"{' '.join(argv)}: {done.stderr or done.stdout}")
    return done.stdout.strip()


def _daemon(cluster: Cluster, name: str, *argv: str) -> None:
    """Start one in the foreground. However we end, it ends with us."""
    with (cluster.directory / f"{name}.said").open("wb") as said:
        cluster.processes[name] = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *argv, "-f", "--conf", str(cluster.conf)],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )


def _answer(cluster: Cluster, commands: Sequence[str]) -> None:
    """Have the monitor carry out commands, by one `ceph`, whose start takes longer than they do.
    It reads them as somebody would type them, and ends with 0 whatever becomes of them."""
    assert not cluster.complaint(), cluster.complaint()
    argv = ["ceph", "--conf", str(cluster.conf), "--connect-timeout", str(int(PATIENCE))]
    said = "".join(f"{command}\n" for command in commands)
    done = subprocess.run(argv, input=said, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode or "Error" in done.stderr + done.stdout:
        raise Failed(f"{said}: {done.stdout}{done.stderr}{cluster.complaint()}")


def _end(cluster: Cluster) -> None:
    for process in cluster.processes.values():
        process.kill()
    for process in cluster.processes.values():
        process.wait(PATIENCE)


def wait_for_nothing(cluster: Cluster, pool: str = POOL) -> None:
    """Until the cluster counts as good as nothing in a pool, of which all images were removed: it
    counts late, and would find a quota used up by what is gone."""

    def is_counted() -> bool:
        pools = cluster.json("ceph", "df")["pools"]
        stored = [each["stats"]["stored"] for each in pools if each["name"] == pool]
        return bool(stored) and stored[0] < 1 << 20

    waiting.until(is_counted, "the pool's contents")


def wait_for_room(cluster: Cluster, *, full: bool, pool: str = POOL) -> None:
    """Until the cluster says of a pool that it is full, or no more."""

    def flags() -> set[str]:
        pools = cluster.json("ceph", "osd", "dump")["pools"]
        (found,) = (each for each in pools if each["pool_name"] == pool)
        return set(found["flags_names"].split(","))

    waiting.until(lambda: bool(flags() & {"full", "full_quota"}) is full, "the pool's flags")
