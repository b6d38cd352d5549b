"""The disks in containers, made by qemu-img and by virtstore: read, copied, resized, and in use."""

from __future__ import annotations

import json
import os
import random
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from tests.tools.meanwhile import Meanwhile
from tests.tools.partitioned import ROOT, Told, check, disk
from tests.waiting import until

import virtstore
from virtstore.backends.files.container_directory import ContainerDirectory
from virtstore.backends.files.file import FileImage

from .test_agent_commands import MIB
from .test_agent_crashes import killed_in

SIZE = 6 * MIB
#: Data, zeros, and data whose ends lie on no cluster's.
CONTENTS = b"".join(
    (
        random.Random(1).randbytes(MIB + 512),
        bytes(2 * MIB),
        random.Random(2).randbytes(MIB - 1536),
    )
).ljust(SIZE, b"\0")

#: Options of `qemu-img convert`, by name.
MADE = {
    "old.qcow2": ("-O", "qcow2", "-o", "compat=0.10"),
    "512.qcow2": ("-O", "qcow2", "-o", "cluster_size=512"),
    "4k.qcow2": ("-O", "qcow2", "-o", "cluster_size=4K,lazy_refcounts=on"),
    "2m.qcow2": ("-O", "qcow2", "-o", "cluster_size=2M"),
    "l2.qcow2": ("-O", "qcow2", "-o", "extended_l2=on,cluster_size=128K"),
    "zstd.qcow2": ("-O", "qcow2", "-c", "-o", "compression_type=zstd"),
    "zlib.qcow2": ("-O", "qcow2", "-c"),
    "meta.qcow2": ("-O", "qcow2", "-o", "preallocation=metadata"),
    "falloc.qcow2": ("-O", "qcow2", "-o", "preallocation=falloc"),
    "full.qcow2": ("-O", "qcow2", "-o", "preallocation=full"),
    "bit.qcow2": ("-O", "qcow2", "-o", "refcount_bits=1"),
    "sparse.vmdk": ("-O", "vmdk"),
    "stream.vmdk": ("-O", "vmdk", "-o", "subformat=streamOptimized"),
    "x.vdi": ("-O", "vdi"),
    "static.vdi": ("-O", "vdi", "-o", "static=on"),
    "x.vhdx": ("-O", "vhdx"),
}
WRITTEN = ["old.qcow2", "512.qcow2", "l2.qcow2", "zstd.qcow2", "full.qcow2", "bit.qcow2"]


def qemu(program: str, *words: object) -> str:
    argv = [program, *map(str, words)]
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=120).stdout


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (root := tmp_path / "images").mkdir(mode=0o700)
    config = tmp_path / "config.toml"
    config.write_text(f'[[directory]]\npath = "{root}"\naccess = "write"\n')
    monkeypatch.setenv("VIRTSTORE_CONFIG", str(config))
    (root / "raw.img").write_bytes(CONTENTS)
    return root


@pytest.fixture
def host(root: Path) -> Iterator[virtstore.Host]:
    with virtstore.connect("local:") as host:
        yield host


def made(root: Path, name: str) -> Path:
    qemu("qemu-img", "convert", "-f", "raw", *MADE[name], root / "raw.img", root / name)
    return root / name


def as_raw(container: Path) -> bytes:
    raw = container.with_name("as-raw")
    qemu("qemu-img", "convert", "-O", "raw", container, raw)
    try:
        return raw.read_bytes()
    finally:
        raw.unlink()


def allocated(container: Path) -> int:
    """Bytes of the disk that have clusters of their own and are not told to be zeros."""
    runs = json.loads(qemu("qemu-img", "map", "--output=json", "-f", "qcow2", container))
    return sum(run["length"] for run in runs if run["data"] and not run["zero"])


def holders(path: Path) -> list[int]:
    """The processes, but for this one, that have a file open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            files = {os.readlink(fd) for fd in (process / "fd").iterdir()}
            if f"{path}" in files and int(process.name) != os.getpid():
                found.append(int(process.name))
    return found


@contextmanager
def opened(root: Path) -> Iterator[ContainerDirectory]:
    store = ContainerDirectory(os.open(root, os.O_RDONLY | os.O_DIRECTORY))
    try:
        yield store
    finally:
        store.close()


@pytest.mark.parametrize("name", MADE)
def test_a_disk_is_read_as_qemu_img_reads_it(host: virtstore.Host, root: Path, name: str) -> None:
    image = host.image(f"{made(root, name)}")
    image.copy(host.image(f"{root}/copy.img"))
    assert (root / "copy.img").read_bytes() == CONTENTS
    info = image.info()
    assert (info.size, info.container) == (SIZE, name.rpartition(".")[2])


@pytest.mark.parametrize("name", WRITTEN)
def test_a_qcow2_of_any_options_is_written_and_resized(
    host: virtstore.Host, root: Path, name: str
) -> None:
    image, path = host.image(f"{made(root, name)}"), root / name
    new = random.Random(name).randbytes(SIZE)
    (root / "raw.img").write_bytes(new)
    host.image(f"{root}/raw.img").copy_contents(image)
    assert as_raw(path) == new
    image.grow(f"{SIZE + MIB}")
    assert as_raw(path) == new + bytes(MIB)
    image.shrink(f"{SIZE - MIB}", discard_data=True)
    assert as_raw(path) == new[:-MIB]
    qemu("qemu-img", "check", path)


def test_zeros_stay_unallocated_on_every_way_into_a_qcow2(host: virtstore.Host, root: Path) -> None:
    raw, archive = host.image(f"{root}/raw.img"), host.image(f"{root}/x.img.zst")
    qcow2 = host.image(f"{root}/from-raw.qcow2")
    copied = [
        raw.copy(archive, archive=True),
        raw.copy(qcow2),
        archive.copy(host.image(f"{root}/from-archive.qcow2")),
        qcow2.copy(host.image(f"{root}/from-qcow2.qcow2")),
    ]
    assert len({each.digest for each in copied}) == 1
    for name in ("from-raw", "from-archive", "from-qcow2"):
        path = root / f"{name}.qcow2"
        assert as_raw(path) == CONTENTS
        assert allocated(path) <= 2 * MIB + 4 * 65536
        qemu("qemu-img", "check", path)


def test_a_copy_that_was_cut_goes_on_with_what_it_left(root: Path, meanwhile: Meanwhile) -> None:
    contents = random.Random(3).randbytes(48 * MIB)
    (root / "raw.img").write_bytes(contents)

    class Cut(Exception):
        pass

    def cut() -> None:
        raise Cut

    with virtstore.connect("local:") as host:
        raw, target = host.image(f"{root}/raw.img"), host.image(f"{root}/x.qcow2")
        with pytest.raises(Cut):
            raw.copy(target, progress=meanwhile(cut, part=0.7))
    with virtstore.connect("local:") as host:
        assert host.image(f"{root}/x.qcow2").info().state == "partial"
        copied = host.image(f"{root}/raw.img").copy(host.image(f"{root}/x.qcow2"))
    assert copied.written < len(contents)
    assert as_raw(root / "x.qcow2") == contents
    qemu("qemu-img", "check", root / "x.qcow2")


def test_a_draft_that_a_daemon_has_still_open_is_not_thrown_away(
    host: virtstore.Host, root: Path
) -> None:
    left = made(root, "4k.qcow2").rename(root / "x.qcow2.virtstore-partial")
    os.setxattr(left, "user.virtstore.draft", b"")
    raw, target = host.image(f"{root}/raw.img"), host.image(f"{root}/x.qcow2")
    argv = ["qemu-io", "-f", "qcow2", str(left)]  # as that of an agent that was killed
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as user:
        assert user.stdin
        assert user.stdout
        user.stdin.write(b"read 0 4k\n")
        user.stdin.flush()
        while b"read" not in user.stdout.readline():
            pass
        with pytest.raises(virtstore.InUse):
            raw.copy(target)
        assert left.exists()
        user.communicate(b"quit\n", timeout=60)
    assert raw.copy(target).written < SIZE
    assert as_raw(root / "x.qcow2") == CONTENTS


@pytest.mark.parametrize("snapshots", [[], ["another's"]])
def test_nothing_of_another_image_stays_in_a_draft_that_is_taken_up(
    host: virtstore.Host, root: Path, snapshots: list[str]
) -> None:
    left = made(root, "4k.qcow2")  # as a copy of its bytes leaves it that was cut near its end
    for name in snapshots:
        qemu("qemu-img", "snapshot", "-c", name, left)
    os.setxattr(left, "user.virtstore.draft", b"")
    left.rename(root / "x.qcow2.virtstore-partial")
    (root / "raw.img").write_bytes(bytes(SIZE))
    host.image(f"{root}/raw.img").copy(host.image(f"{root}/x.qcow2"))
    assert host.image(f"{root}/x.qcow2").info().internal_snapshots == ()
    assert CONTENTS[:4096] not in (root / "x.qcow2").read_bytes()


def test_a_file_system_in_a_partition_of_a_qcow2_is_resized(image: Path, told: Told) -> None:
    disk(raw := image.with_name("raw.img"), "gpt", [ROOT])
    qcow2 = image.with_name("x.qcow2")
    qemu("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, qcow2)

    def checked() -> int:
        qemu("qemu-img", "check", qcow2)
        image.write_bytes(as_raw(qcow2))
        check(image, "gpt")
        return image.stat().st_size

    assert told("resize", qcow2, "40M")["filesystem"]["size"] > 30 * MIB
    assert checked() == 40 * MIB
    done = told("resize", qcow2, "minimum")
    assert (done["partition"], done["filesystem"]["type"]) == (1, "ext4")
    assert checked() == done["size"] < 20 * MIB
    told("grow", qcow2, "32M")
    told("growfs", qcow2)
    assert told("info", qcow2)["partitions"][0]["filesystem"]["size"] > 28 * MIB
    told("shrinkfs", qcow2, "12M")
    told("resize", qcow2, "24M")
    assert checked() == 24 * MIB
    assert not holders(qcow2)


def test_a_qcow2_that_somebody_has_open_is_read_and_not_changed(
    host: virtstore.Host, root: Path
) -> None:
    path = made(root, "meta.qcow2")
    image = host.image(f"{path}")
    argv = ["qemu-io", "-f", "qcow2", str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as user:
        assert user.stdin
        assert user.stdout
        user.stdin.write(b"write 0 4k\n")
        user.stdin.flush()
        while b"wrote" not in user.stdout.readline():
            pass
        for change in (
            lambda: image.grow("+1M"),
            lambda: image.shrink("-1M", discard_data=True),
            lambda: host.image(f"{root}/raw.img").copy_contents(image),
            lambda: image.delete(),
        ):
            with pytest.raises(virtstore.InUse):
                change()
        info = image.info()
        assert info.size == SIZE
        assert info.in_use
        user.communicate(b"quit\n", timeout=60)
    assert not image.info().in_use
    assert image.grow("+1M").changed


@pytest.mark.skipif(os.geteuid() != 0, reason="another user changes none of them anyway")
def test_a_daemon_that_was_taken_over_changes_no_setting_of_the_hosts_kernel(root: Path) -> None:
    path = made(root, "4k.qcow2")
    script = """
        umount /proc/sys || mount -o remount,rw,bind /proc/sys || echo stays
        mount -t proc proc /mnt || mount -t proc proc /tmp || echo nothing new
        test -w /proc/sys/kernel/core_pattern || echo only read
    """
    with opened(root) as store, store.open(path.name):
        daemon = f"{holders(path)[0]}"
        inside = ("nsenter", "-t", daemon, "--user", "--mount", "--pid", "--root", "--wd")
        said = subprocess.run([*inside, "sh", "-c", script], capture_output=True, text=True)
    assert said.stdout.splitlines() == ["stays", "nothing new", "only read"]


def test_readers_disturb_neither_each_other_nor_a_change_afterwards(
    host: virtstore.Host, root: Path
) -> None:
    path = made(root, "meta.qcow2")
    with opened(root) as store, store.open(path.name) as one, store.open(path.name) as two:
        info = host.image(f"{path}").info()  # those two are another program's
        assert one.read_at(0, SIZE) == two.read_at(0, SIZE) == CONTENTS
        assert not [use for use in info.in_use if "for writing" in use.detail], info.in_use
        assert info.size == SIZE
        host.image(f"{path}").copy(host.image(f"{root}/copy.img"))
    assert (root / "copy.img").read_bytes() == CONTENTS
    assert host.image(f"{path}").info().in_use == ()
    assert host.image(f"{path}").grow("+1M").changed
    assert not holders(path)


@pytest.mark.parametrize(
    ("without", "package"),
    [("qemu-storage-daemon", "qemu-system-common"), ("qemu-img", "qemu-utils")],
)
def test_a_host_without_qemus_programs_says_what_to_install(
    root: Path, monkeypatch: pytest.MonkeyPatch, without: str, package: str
) -> None:
    path = made(root, "meta.qcow2")
    agent = Path(__file__).with_name("lacking_agent.py")
    monkeypatch.setenv("VIRTSTORE_AGENT", shlex.join([sys.executable, str(agent), without]))
    with virtstore.connect("local:") as host:
        image = host.image(f"{path}")
        with pytest.raises(virtstore.Unsupported, match=package):
            image.grow("+1M")
        raw, new = host.image(f"{root}/raw.img"), root / "new.qcow2"
        if without == "qemu-img":
            with pytest.raises(virtstore.Unsupported, match=package):
                raw.copy(host.image(f"{new}"))
            assert not list(root.glob("new*"))
        else:  # which a new one is written without
            raw.copy(host.image(f"{new}"))
            assert as_raw(new) == CONTENTS
        info = image.info()
        assert info.size == SIZE
        if without == "qemu-storage-daemon":
            assert any(package in warning for warning in info.warnings)
        image.delete()


def test_what_threads_write_while_others_read_is_there(root: Path) -> None:
    """QEMU 7.2 mixes up long requests that are written past the page cache (see `exporter`)."""
    size, block, writers = 64 * MIB, 4 * MIB, 4
    qemu("qemu-img", "create", "-f", "qcow2", root / "x.qcow2", size)
    data = memoryview(random.Random(4).randbytes(size))
    done = threading.Event()
    failed: list[BaseException] = []
    with (
        opened(root) as store,
        store.open("x.qcow2", writable=True) as image,
        image.lend() as fd,
    ):

        def work(part: int) -> None:
            chance = random.Random(part)
            offsets = list(range(part * block, size, writers * block))
            chance.shuffle(offsets)
            for offset in offsets:
                image.write_at(offset, data[offset : offset + block])
                if offset % (5 * block) == 0:
                    image.zero(offset + 1000, 5000)

        def read(at: Callable[[int, int], bytes]) -> None:
            chance = random.Random(9)
            while not done.is_set():
                at(chance.randrange(0, size // block) * block, block)

        def started(target: Callable[..., None], *given: object) -> threading.Thread:
            def noted() -> None:
                try:
                    target(*given)
                except BaseException as error:
                    failed.append(error)

            (thread := threading.Thread(target=noted)).start()
            return thread

        readers = [
            started(read, image.read_at),
            started(read, lambda offset, length: os.pread(fd, length, offset)),
        ]
        for writer in [started(work, part) for part in range(writers)]:
            writer.join()
        done.set()
        for reader in readers:
            reader.join()
        image.flush()
    assert not failed
    expected = bytearray(data)
    for offset in range(0, size, 5 * block):
        expected[offset + 1000 : offset + 6000] = bytes(5000)
    (root / "raw.img").write_bytes(expected)
    qemu("qemu-img", "compare", "-f", "raw", "-F", "qcow2", root / "raw.img", root / "x.qcow2")
    qemu("qemu-img", "check", root / "x.qcow2")


def test_an_agent_that_is_killed_leaves_no_daemon(root: Path) -> None:
    (root / "raw.img").write_bytes(contents := random.Random(5).randbytes(16 * MIB))
    target = root / "x.qcow2"
    died = 0
    for delay in (0.02, 0.05, 0.1, 0.15, 0.2):
        died += killed_in(
            lambda host: host.image(f"{root}/raw.img").copy(host.image(f"{target}")),
            delay,
        )
        until(lambda: not any(map(holders, root.glob("x.qcow2*"))), "the daemon's end")
        if target.exists():
            assert as_raw(target) == contents
            target.unlink()
    assert died


def test_a_tool_that_outlives_a_killed_agent_finishes(image: Path) -> None:
    disk(raw := image.with_name("raw.img"), "gpt", [ROOT], behind=8)
    qcow2 = image.with_name("x.qcow2")
    qemu("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, qcow2)

    def resize(host: virtstore.Host) -> None:
        host.image(f"{qcow2}").resize("48M")

    for delay in (0.3, 0.5, 0.7):
        killed_in(resize, delay)
        until(lambda: not holders(qcow2), "the daemon's and the tool's end")
    with virtstore.connect() as host:
        host.image(f"{qcow2}").resize("48M")
    qemu("qemu-img", "check", qcow2)
    image.write_bytes(as_raw(qcow2))
    check(image, "gpt")


def test_archives_beside_an_image_are_not_read_to_find_what_lies_over_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("golden.img", "a.img.zst", "b.img.zst"):
        (tmp_path / name).write_bytes(bytes(4096))
    (tmp_path / "c.img.zst").write_bytes(bytes.fromhex("28b52ffd") + bytes(4092))
    read: list[str] = []
    with opened(tmp_path) as store:
        file = store.file

        def told(name: str, *, writable: bool = False, partial: bool = False) -> FileImage:
            read.append(name)
            return file(name, writable=writable, partial=partial)

        monkeypatch.setattr(store, "file", told)
        assert store.overlays("golden.img") == ()
        assert read == ["golden.img"]
        read.clear()
        # One is looked at itself: a disk that has an archive's name may have something over it.
        assert store.overlays("a.img.zst") == ()
        assert read == ["a.img.zst", "golden.img"]
        read.clear()
        assert store.overlays("c.img.zst") == ()
        assert read == ["c.img.zst"]


def test_a_disk_whose_daemon_goes_on_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virtstore.exporter._PATIENCE", 0.5)
    with closing(ContainerDirectory(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY))) as store:
        with store.draft("x.qcow2", SIZE) as draft:
            draft.write_at(0, CONTENTS[:MIB])
            (keeps,) = draft.keeps
            held = os.dup(keeps)  # as a tool has it that outlives an agent
            try:
                with pytest.raises(virtstore.Error, match="does not end"):
                    draft.publish(overwrite=False)
            finally:
                os.close(held)
        found = store.find("x.qcow2")
        assert found is not None
        assert found.state == "partial"


@pytest.mark.parametrize("at", [64 << 10, 128 << 10], ids=["refcount table", "refcounts"])
@pytest.mark.parametrize("byte", [b"\0", b"\x07"])
def test_a_draft_whose_tables_a_power_cut_took_is_begun_anew(
    tmp_path: Path, at: int, byte: bytes
) -> None:
    left = tmp_path / "x.qcow2.virtstore-partial"
    qemu("qemu-img", "create", "-q", "-f", "qcow2", left, SIZE)
    qemu("qemu-io", "-f", "qcow2", "-c", f"write 0 {MIB}", left)
    with left.open("r+b") as file:
        file.seek(at)
        file.write(byte * (64 << 10))
    left.chmod(0o600)
    with closing(ContainerDirectory(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY))) as store:
        with store.draft("x.qcow2", SIZE) as draft:
            assert draft.holds == "zeros"
            draft.publish(overwrite=False)
        with store.open("x.qcow2") as image:
            assert not any(image.read_at(0, SIZE))
