"""What real NBD servers export reads as the image that they serve: qemu-nbd's, and those of QEMU's
storage daemon, which a running QEMU has as well."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.waiting import until

from virtstore.backends.nbd.export import Export
from virtstore.errors import ConnectionFailed, NotFound
from virtstore.transfer.hashing import check
from virtstore.transfer.sources import RawSource

MIB = 1 << 20
SIZE = 64 * MIB


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A disk with data at its start, in its middle and at its end, and holes between."""
    raw = tmp_path / "disk.raw"
    with raw.open("wb") as file:
        file.truncate(SIZE)
        for offset in (0, 20 * MIB + 512, SIZE - 3 * 4096):
            file.seek(offset)
            file.write(os.urandom(3 * 4096))
    return raw


@pytest.fixture
def qcow2(raw: Path) -> Path:
    qcow2 = raw.with_suffix(".qcow2")
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, qcow2], check=True)
    return qcow2


def listens(socket: Path) -> bool:
    """Whether a server listens on a socket: it is there a moment before that."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    # proc(5): the fourth column has __SO_ACCEPTCON, the last one the path.
    return any(line.endswith(f" {socket}") and line.split()[3] == "00010000" for line in lines)


@contextmanager
def served(argv: list[str], socket: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as server:
        try:
            until(lambda: listens(socket) or server.poll() is not None, "the NBD server")
            yield server
        finally:
            server.kill()


@contextmanager
def qemu_nbd(image: Path, kind: str, *options: str) -> Iterator[str]:
    socket = image.with_name("nbd.sock")
    where = ["--socket", str(socket), "--format", kind, "--read-only", "--persistent"]
    with served(["qemu-nbd", *where, *options, str(image)], socket):
        yield str(socket)


@contextmanager
def storage_daemon(image: Path, kind: str) -> Iterator[str]:
    socket = image.with_name("qsd.sock")
    file = f"driver=file,filename={image},node-name=file,read-only=on"
    with served(
        [
            *("qemu-storage-daemon", "--blockdev", file),
            *("--blockdev", f"driver={kind},file=file,node-name=disk,read-only=on"),
            *("--nbd-server", f"addr.type=unix,addr.path={socket}"),
            *("--export", "type=nbd,id=e,node-name=disk,name=vda"),
        ],
        socket,
    ):
        yield str(socket)


def contents(export: Export) -> bytes:
    """All of it, where the extents say that there is something."""
    read = bytearray(export.size)
    for extent in export.extents():
        if extent.kind != "zero":
            read[extent.offset : extent.end] = export.read_whole(extent.offset, extent.length)
    return bytes(read)


@pytest.mark.parametrize("connections", ["--shared=1", "--shared=8"])
@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_what_qemu_nbd_serves_reads_as_the_disk(
    request: pytest.FixtureRequest, raw: Path, kind: str, connections: str
) -> None:
    with qemu_nbd(request.getfixturevalue(kind), kind, connections) as socket:
        with Export(socket) as export:
            assert contents(export) == raw.read_bytes()
            assert sum(e.length for e in export.extents() if e.kind == "data") < MIB
            with ThreadPoolExecutor(6) as threads:  # side by side as well
                parts = list(threads.map(lambda at: export.read_at(at, MIB), range(0, SIZE, MIB)))
        assert b"".join(parts) == raw.read_bytes()


def test_a_disk_of_an_odd_size_is_read_to_its_end(tmp_path: Path) -> None:
    odd = tmp_path / "odd.raw"
    odd.write_bytes(os.urandom(MIB + 1000))
    with qemu_nbd(odd, "raw") as socket, Export(socket) as export:
        told = export.read_at(MIB - 7, 5000)
        assert told.startswith(odd.read_bytes()[MIB - 7 :])
        assert not told[1007:].strip(b"\0")  # it is served in whole sectors


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_a_copy_of_what_qemus_storage_daemon_exports_has_the_disks_digest(
    request: pytest.FixtureRequest, raw: Path, kind: str
) -> None:
    with storage_daemon(request.getfixturevalue(kind), kind) as socket:
        with Export(socket, "vda") as export:
            digest = check(RawSource(export, export.size, steady=True), lambda done, total: None)
        with qemu_nbd(raw, "raw") as other, Export(other) as export:
            assert check(RawSource(export, export.size), lambda done, total: None) == digest
        with pytest.raises(NotFound, match="no such export"):
            Export(socket, "vdb")


def test_a_server_that_is_killed_is_told_of(raw: Path) -> None:
    socket = raw.with_name("nbd.sock")
    argv = ["qemu-nbd", "--socket", str(socket), "--format", "raw", "--persistent", str(raw)]
    with served(argv, socket) as server, Export(str(socket)) as export:
        export.read_at(0, MIB)
        server.kill()
        server.wait()
        with pytest.raises(ConnectionFailed, match="went away"):
            export.read_at(0, MIB)
