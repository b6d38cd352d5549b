"""A host with libvirt: a real libvirtd, which starts real QEMUs without KVM.

It has a mount namespace of its own, in which its directories are ours, and its sockets are where
they are on every host. Whatever has to see it, an agent for example, is started in that namespace
(`inside`). QEMU runs as the user libvirt-qemu, as Debian has it. An image's path in it is below
`IMAGES`; the same file is below `images` for the tests.

Host tools needed: libvirt-daemon, libvirt-daemon-driver-qemu, libvirt-clients, qemu-system-x86,
util-linux (`unshare`, `nsenter`), and root.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from . import guest, waiting

#: Where images are for whoever runs on that host: libvirt's default pool.
IMAGES: Final = Path("/var/lib/libvirt/images")
#: Debian's user and group for QEMU.
QEMU_USER: Final = 64055

_OWN: Final = ("/run", "/var/lib", "/var/cache", "/var/log", "/etc/libvirt")

_QEMU_CONF: Final = """
user = "libvirt-qemu"
group = "libvirt-qemu"
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
"""

_LIBVIRTD_CONF: Final = """
auth_unix_rw = "none"
"""

#: Starts a program, and ends with its standard input: then it ends all that this left as well.
#: What loses its parent becomes its child, and is waited for at once, which libvirt relies on.
_PARENT: Final = """
import ctypes, os, signal, sys, threading
ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
first = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
def end():
    sys.stdin.read()
    os.kill(first, signal.SIGTERM)
threading.Thread(target=end, daemon=True).start()
while os.wait()[0] != first:
    pass
while True:
    for pid in open(f"/proc/self/task/{os.getpid()}/children").read().split():
        os.kill(int(pid), signal.SIGKILL)
    try:
        os.wait()
    except ChildProcessError:
        break
"""

_DOMAIN: Final = """
<domain type="qemu">
  <name>{name}</name>
  <memory unit="MiB">32</memory>
  <os><type arch="x86_64" machine="pc">hvm</type></os>
  <features><acpi/></features>
  <on_reboot>destroy</on_reboot>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    {disks}
    <controller type="usb" model="none"/>
    <memballoon model="none"/>
    {devices}
  </devices>
</domain>
"""


@dataclass(frozen=True)
class LibvirtHost:
    """A host whose libvirtd answers. `pid`: the libvirtd, which is in the namespace."""

    pid: int
    directory: Path

    @property
    def images(self) -> Path:
        """The directory `IMAGES` of that host, by a path of this one."""
        return self.directory / "var-lib" / "libvirt" / "images"

    def inside(self, *words: str | Path) -> list[str]:
        """The command line that runs a program on that host."""
        return ["nsenter", "-m", "-t", str(self.pid), "--", *map(str, words)]

    def agent(self, *words: str | Path) -> str:
        """A value for VIRTSTORE_AGENT, or of `agent` in hosts.toml: this tree's agent there."""
        program = shutil.which("virtstore-agent", path=os.path.dirname(sys.executable))
        assert program, "virtstore-agent is not installed beside the tests' Python"
        return shlex.join(self.inside(program, *words))

    def virsh(self, *words: str | Path) -> str:
        """What virsh says there. An AssertionError where it fails."""
        argv = self.inside("virsh", "-q", "-c", "qemu:///system", *words)
        done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, f"{shlex.join(argv)}: {done.stderr}"
        return done.stdout.strip()

    def disk(self, name: str, size: int = guest.NEEDED + guest.FIRST) -> Path:
        """A raw image in the pool, which boots the guest, by its path on that host."""
        guest.make_disk(self.images / name, size)
        return IMAGES / name

    def define(self, name: str, *disks: str | Path, devices: str = "") -> str:
        """A domain that is shut off. Of each disk the path on that host, or its XML; a path that
        ends in .qcow2 is one. Answers its UUID."""
        described = "".join(_disk(each, n) for n, each in enumerate(disks))
        xml = _DOMAIN.format(name=escape(name), disks=described, devices=devices)
        with tempfile.NamedTemporaryFile("w", dir=self.directory, suffix=".xml") as file:
            file.write(xml)
            file.flush()
            self.virsh("define", file.name)
        return self.virsh("domuuid", "--domain", name)

    def start(self, name: str, *disks: str | Path, devices: str = "") -> str:
        """A domain that runs. Answers its UUID."""
        uuid = self.define(name, *disks, devices=devices)
        self.virsh("start", "--domain", uuid)
        return uuid

    def written(self, image: str) -> list[int]:
        """What the guest has written to a raw image of the pool so far."""
        return guest.counts((self.images / image).read_bytes())

    def wait_for_writes(self, image: str, more: int = 1) -> None:
        """Until the guest has written as often again."""
        before = max(self.written(image), default=0)
        waiting.until(
            lambda: max(self.written(image), default=0) >= before + more, "the guest to write"
        )

    def clear(self) -> None:
        """Removes all domains and images."""
        for uuid in self.virsh("list", "--all", "--uuid").split():
            with suppress(AssertionError):  # it does not run
                self.virsh("destroy", "--domain", uuid)
            with suppress(AssertionError):  # a transient one is gone by now
                self.virsh("undefine", "--domain", uuid, "--checkpoints-metadata")
        for left in self.images.iterdir():
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()


def missing() -> str:
    """Why there can be no such host here; empty if there can be one."""
    if os.geteuid() != 0:
        return "libvirtd in a mount namespace of its own needs root"
    tools = {"libvirtd": "libvirt-daemon", "virsh": "libvirt-clients"}
    tools["qemu-system-x86_64"] = "qemu-system-x86"
    lacking = [package for tool, package in tools.items() if shutil.which(tool) is None]
    return f"apt-get install {' '.join(lacking)}" if lacking else ""


@contextmanager
def running(directory: Path) -> Iterator[LibvirtHost]:
    """A host in an empty `directory`, from answering to gone, with all that it started."""
    _lay_out(directory)
    with (directory / "libvirtd.log").open("wb") as log:
        parent = subprocess.Popen(
            [sys.executable, "-c", _PARENT, "unshare", "-m", "sh", "-euc", _inner(directory)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
        )
    try:
        waiting.until(lambda: _answers(directory, parent), "libvirtd to answer")
        yield LibvirtHost(_libvirtd(directory), directory)
    finally:
        parent.communicate()


def _lay_out(directory: Path) -> None:
    for each in _OWN:
        (directory / _ours(each)).mkdir()
    images = directory / "var-lib" / "libvirt" / "images"
    images.mkdir(parents=True)
    images.chmod(0o711)
    (directory / "no-kvm").touch(mode=0o600)
    (directory / "etc-libvirt" / "qemu.conf").write_text(_QEMU_CONF)
    (directory / "etc-libvirt" / "libvirtd.conf").write_text(_LIBVIRTD_CONF)
    for file, line in (("passwd", "x:{0}:{0}::/:/usr/sbin/nologin"), ("group", "x:{0}:")):
        present = Path("/etc", file).read_text().splitlines()
        kept = [each for each in present if not each.startswith("libvirt-qemu:")]
        ours = f"libvirt-qemu:{line.format(QEMU_USER)}"
        (directory / file).write_text("\n".join((*kept, ours, "")))


def _inner(directory: Path) -> str:
    """The shell's words that turn a new mount namespace into the host's, and then into libvirtd."""
    mounts = [
        *((directory / file, f"/etc/{file}") for file in ("passwd", "group")),
        *((directory / _ours(each), each) for each in _OWN),
    ]
    if os.path.exists("/dev/kvm"):  # or libvirt looks again and again for what its user cannot use
        mounts.append((directory / "no-kvm", "/dev/kvm"))
    if os.path.exists("/run/udev"):  # LVM waits for udev
        (directory / "run" / "udev").mkdir()
        mounts.insert(0, (Path("/run/udev"), f"{directory}/run/udev"))
    words = (shlex.join(["mount", "--rbind", str(ours), there]) for ours, there in mounts)
    return "; ".join((*_unmounting_of_others(directory), *words, "exec libvirtd"))


def _unmounting_of_others(directory: Path) -> Iterator[str]:
    """The words that let go of what other workers of the same run have mounted: it would stay
    mounted here, with its loop device, when they are done with it."""
    own = next((each for each in directory.parents if each.name.startswith("popen-")), None)
    if own:
        others = f'index($2, "{own.parent}/") == 1 && index($2, "{own}/") != 1 {{ print $2 }}'
        yield f"awk {shlex.quote(others)} /proc/self/mounts | tac | xargs -r umount -l || true"


def _ours(path: str) -> str:
    return path.strip("/").replace("/", "-")


def _answers(directory: Path, parent: subprocess.Popen[bytes]) -> bool:
    said = (directory / "libvirtd.log").read_text(errors="replace")
    assert parent.poll() is None, f"libvirtd did not start: {said}"
    if not (directory / "run" / "libvirt" / "libvirt-sock").exists():
        return False
    with suppress(AssertionError):
        LibvirtHost(_libvirtd(directory), directory).virsh("list")
        return True
    return False


def _libvirtd(directory: Path) -> int:
    return int((directory / "run" / "libvirtd.pid").read_text())


def _disk(disk: str | Path, number: int) -> str:
    if isinstance(disk, str) and disk.lstrip().startswith("<"):
        return disk
    path = str(disk)
    kind, key = ("block", "dev") if path.startswith("/dev/") else ("file", "file")
    form = "qcow2" if path.endswith(".qcow2") else "raw"
    return (
        f'<disk type="{kind}" device="disk"><driver name="qemu" type="{form}"/>'
        f'<source {key}={quoteattr(path)}/><target dev="vd{"abcdefgh"[number]}" bus="virtio"/>'
        "</disk>"
    )
