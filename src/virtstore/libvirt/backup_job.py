"""The backup job of a running domain: QEMU shows a disk as it is when the job begins, while the
guest goes on writing.

The job is libvirt's, in pull mode: QEMU serves the disk as an NBD export on a unix socket. What the
guest overwrites meanwhile is kept in a scratch file, and so long as the job runs. The socket lies
in the directory that libvirt makes for each running domain, as that belongs to QEMU's user, and
AppArmor and SELinux let QEMU make it there and nowhere else.

Where the scratch file's disk is full, QEMU pauses the guest, as its write waits for what it
overwrites. So the room is watched, and the job ended before that.

Sources: libvirt's "Backup XML format"; virsh(1) on backup-begin, backup-dumpxml, domjobabort.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape, glob
from typing import Final
from xml.etree import ElementTree

import msgspec

from virtstore.copy_options import Quiesce
from virtstore.errors import Error, InUse, NoSpace, Unsupported
from virtstore.libvirt import virsh
from virtstore.libvirt.freeze import while_frozen
from virtstore.units import format_size

#: Where libvirt makes a directory for each domain that runs (`domain-ID-NAME`).
_DIRECTORIES: Final = "/var/lib/libvirt/qemu"
#: How our sockets are called: by the agent that sees to the job, and when that was started.
_OURS: Final = re.compile(r".*/virtstore-(\d+)-(\d+)\.sock")
#: Seconds within which libvirt has ended a job.
_PATIENCE: Final = 60.0


class Backup(msgspec.Struct, frozen=True, tag="backup"):
    """A job for one disk (`target`, as libvirt calls it) of the domain `uuid`, and the targets of
    all of its disks. `socket`: where the disk is to be exported as `target` (`socket_for`).
    `scratch`: the path of the file, which there is not yet; `floor`: bytes of its file system that
    are to stay free. `quiesce`: the guest's file systems are frozen while it begins."""

    uuid: str
    target: str
    disks: tuple[str, ...]
    socket: str
    scratch: str
    floor: int
    quiesce: Quiesce = False

    def begin(self) -> str:
        """Begin the job. Returns a warning where it was to be quiesced if possible. Raises `InUse`
        where the domain has a job."""
        _refuse_other(self.uuid)
        if _paused_by_an_error(self.uuid):
            raise InUse(
                "the domain is paused because of an I/O error of one of its disks; mend that and"
                " resume it first ('virsh domblkerror' shows the disk)"
            )
        if self.quiesce:
            return while_frozen(self.uuid, self.quiesce, self._begin)
        self._begin(_PATIENCE)
        return ""

    def _begin(self, within: float) -> None:
        with _in_memory(_description(self)) as file:
            try:
                virsh.call("backup-begin", self.uuid, file, timeout=within)
            except Error as error:
                raise _explained(error) from None

    def look(self) -> None:
        """Raises `NoSpace` where the guest would soon be paused for want of room."""
        directory = os.path.dirname(self.scratch)
        left = free(directory)
        if left < self.floor:
            raise NoSpace(
                f"the guest has changed so much meanwhile that {format_size(left)} are left in"
                f" {directory}, where what it overwrites is kept; the copy was ended before the"
                " guest had to wait. Make room there, and copy again"
            )

    def end(self) -> None:
        """End the job, if it runs, and leave nothing of it. Raises `Error` where it cannot be
        ended."""
        _end(self.uuid, self.socket)
        if _paused_by_an_error(self.uuid):  # the room went faster than anybody looked
            virsh.call("resume", self.uuid)
        for left in (self.socket, self.scratch):
            with suppress(FileNotFoundError):
                os.unlink(left)


def socket_for(uuid: str) -> str:
    """The path of a socket for a job that this process sees to. Raises `Unsupported`."""
    number = virsh.call("domid", uuid).strip()
    found = glob(f"{escape(_DIRECTORIES)}/domain-{number}-*") if number.isdigit() else []
    if len(found) != 1:
        raise Unsupported(
            f"libvirt has no directory for this domain in {_DIRECTORIES}, in which QEMU could serve"
            " its disk"
        )
    return f"{found[0]}/{_name_of(os.getpid())}"


def free(directory: str) -> int:
    """Bytes that files in a directory can still take."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def capacity(uuid: str, target: str) -> int:
    """Bytes of a domain's disk, as its guest sees them."""
    for line in virsh.call("domblkinfo", uuid, target).splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "Capacity" and value.strip().isdigit():
            return int(value)
    raise Error(f"libvirt does not tell how large the disk {target} is")


def _description(backup: Backup) -> bytes:
    root = ElementTree.Element("domainbackup", mode="pull")
    ElementTree.SubElement(root, "server", transport="unix", socket=backup.socket)
    disks = ElementTree.SubElement(root, "disks")
    for target in backup.disks:
        if target != backup.target:
            ElementTree.SubElement(disks, "disk", name=target, backup="no")
            continue
        disk = ElementTree.SubElement(disks, "disk", name=target, backup="yes", type="file")
        ElementTree.SubElement(disk, "driver", type="qcow2")
        ElementTree.SubElement(disk, "scratch", file=backup.scratch)
    return ElementTree.tostring(root)


@contextmanager
def _in_memory(contents: bytes) -> Iterator[str]:
    """The path of a file with these contents, for a child."""
    fd = os.memfd_create("domainbackup")
    try:
        os.write(fd, contents)
        yield f"/proc/{os.getpid()}/fd/{fd}"
    finally:
        os.close(fd)


def _refuse_other(uuid: str) -> None:
    """Raises `InUse` if the domain has a backup job already. One of ours that nobody ends any more
    is ended."""
    socket = _socket_of_job(uuid)
    if socket is None:
        return
    ours = _OURS.fullmatch(socket)
    if ours and _name_of(int(ours[1])) == os.path.basename(socket):
        raise InUse(
            "another live copy of this domain is running, and it can have one at a time; try again"
            " when that has ended ('virtstore jobs' shows it)"
        )
    if not ours:
        raise InUse(
            "somebody else's backup job of this domain is running, and it can have one at a time;"
            " it was left alone; try again when it has ended ('virsh domjobinfo' shows it)"
        )
    _end(uuid, socket)


def _name_of(pid: int) -> str:
    """What the socket of a process is called; of one that is gone, like no other."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            started = file.read().rpartition(")")[2].split()[19]  # proc(5): starttime
    except OSError:
        started = "gone"
    return f"virtstore-{pid}-{started}.sock"


def _socket_of_job(uuid: str) -> str | None:
    """The socket of the domain's backup job, "" of one that has none; None where none runs."""
    try:
        told = virsh.call("backup-dumpxml", uuid)
    except Error as error:
        if "no domain backup job" in error.message or virsh.says_gone(error):
            return None
        raise
    try:
        server = ElementTree.fromstring(told).find("server")
    except ElementTree.ParseError as error:
        raise Error(f"libvirt's description of the backup job cannot be read: {error}") from None
    return "" if server is None else server.get("socket", "")


def _end(uuid: str, socket: str) -> None:
    """End the job that has this socket, and no other. libvirt may still be beginning it."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        failed: Error | None = None
        try:
            if _socket_of_job(uuid) != socket:
                return
            virsh.call("domjobabort", uuid)
        except Error as error:
            failed = error
        if time.monotonic() > deadline:
            raise Error(
                "the domain's backup job could not be ended"
                f" ({failed.message if failed else 'it goes on'});"
                f" 'virsh domjobabort {uuid}' ends it"
            )
        time.sleep(0.05)


def _paused_by_an_error(uuid: str) -> bool:
    try:
        return "I/O error" in virsh.call("domstate", uuid, "--reason")
    except Error:
        return False


def _explained(error: Error) -> Error:
    if "not supported" not in error.message:
        return error
    return Unsupported(
        f"{error.message}; a live copy needs libvirt 7.2 and QEMU 5.2 or newer, and a disk that"
        " they can back up; --snapshot copies it where its storage has snapshots"
    )
