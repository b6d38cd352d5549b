"""What a careful reader broke once: each of these lost data, or said yes and meant no."""

from __future__ import annotations

import fcntl
import gzip
import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.tools.meanwhile import Meanwhile
from tests.waiting import until

import virtstore
from virtstore import formats
from virtstore.progress import Progress
from virtstore.protocol import GetStorageInfo

MIB = 1 << 20


@pytest.fixture
def images(tmp_path: Path) -> Path:
    made = tmp_path / "images"
    made.mkdir(0o700)
    (tmp_path / "config.toml").write_text(f'[[directory]]\npath = "{made}"\naccess = "write"\n')
    return made


@pytest.fixture
def host(images: Path, meanwhile: Meanwhile) -> Iterator[virtstore.Host]:
    with virtstore.connect(config=str(images.parent / "config.toml")) as opened:
        yield opened


def noise(path: Path, size: int = MIB, seed: int = 1) -> bytes:
    contents = random.Random(seed).randbytes(size)
    path.write_bytes(contents)
    return contents


def test_an_archive_of_nothing_never_zeroes_an_image(host: virtstore.Host, images: Path) -> None:
    (images / "failed.gz").write_bytes(gzip.compress(b""))
    kept = noise(images / "web.img")
    source, target = host.image(f"{images}/failed.gz"), host.image(f"{images}/web.img")
    with pytest.raises(virtstore.Corrupt, match="archive of nothing"):
        source.copy_contents(target)
    with pytest.raises(virtstore.Corrupt, match="archive of nothing"):
        source.copy(target, overwrite=True)
    assert (images / "web.img").read_bytes() == kept


def test_who_opens_an_image_while_it_is_compressed_keeps_it(
    host: virtstore.Host, meanwhile: Meanwhile, images: Path
) -> None:
    kept = noise(images / "vm.img", 4 * MIB)
    with ExitStack() as held:

        def open_it() -> None:
            held.enter_context((images / "vm.img").open("r+b"))

        with pytest.raises(virtstore.InUse):
            host.image(f"{images}/vm.img").compress(progress=meanwhile(open_it))
    assert (images / "vm.img").read_bytes() == kept


@pytest.mark.parametrize("archive", [False, True])
def test_a_partial_that_somebody_else_is_writing_is_left_to_them(
    host: virtstore.Host, images: Path, archive: bool
) -> None:
    noise(images / "vm.img")
    partial = images / "copy.virtstore-partial"
    kept = noise(partial, seed=2)
    source, target = host.image(f"{images}/vm.img"), host.image(f"{images}/copy")
    with partial.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(virtstore.InUse):
            source.copy(target, archive=archive)
    assert partial.read_bytes() == kept


def test_who_opens_a_target_while_it_is_being_replaced_keeps_it(
    host: virtstore.Host, meanwhile: Meanwhile, images: Path
) -> None:
    noise(images / "new.img", 4 * MIB, seed=2)
    kept = noise(images / "vm.img", 4 * MIB)
    source, target = host.image(f"{images}/new.img"), host.image(f"{images}/vm.img")
    with ExitStack() as held:

        def open_it() -> None:
            held.enter_context((images / "vm.img").open("r+b"))

        with pytest.raises(virtstore.InUse):
            source.copy(target, overwrite=True, progress=meanwhile(open_it))
    assert (images / "vm.img").read_bytes() == kept


def test_what_appears_while_contents_are_copied_is_not_replaced(
    host: virtstore.Host, images: Path
) -> None:
    noise(images / "new.img", 4 * MIB, seed=2)
    noise(images / "vm.img", 4 * MIB)

    def newcomer(event: Progress) -> None:
        if not (images / "vm.img").exists():
            (images / "vm.img").write_bytes(b"by hand")

    with pytest.raises(virtstore.Exists):
        host.image(f"{images}/new.img").copy_contents(
            host.image(f"{images}/vm.img"), bwlimit="8M", progress=newcomer
        )
    assert (images / "vm.img").read_bytes() == b"by hand"


def test_an_image_keeps_its_name_until_its_first_byte_changes(
    host: virtstore.Host, images: Path
) -> None:
    noise(images / "golden.img", 2 * MIB)
    noise(images / "vm.img", 2 * MIB)  # the same contents
    names = []

    def look(event: Progress) -> None:
        names.append((images / "vm.img").exists())

    host.image(f"{images}/golden.img").copy_contents(host.image(f"{images}/vm.img"), progress=look)
    assert names
    assert all(names)


def test_a_session_that_was_closed_writes_to_nobodys_file(
    images: Path, host: virtstore.Host, tmp_path: Path
) -> None:
    session = host._sessions.open()
    session.close()
    host.close()
    files = [(tmp_path / f"precious{n}").open("w+b") for n in range(8)]
    with pytest.raises(virtstore.UsageError, match="was closed"):
        host.storage_info()
    with pytest.raises(virtstore.ConnectionFailed):
        session.send(GetStorageInfo())
    for file in files:
        file.seek(0)
        assert file.read() == b""
        file.close()


def test_a_callback_that_raises_does_not_leave_its_answer_to_the_next_request(
    host: virtstore.Host, images: Path
) -> None:
    noise(images / "p.img")

    def fail(event: Progress) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError):
        host.image(f"{images}/p.img").compress(progress=fail)
    assert host.create(f"{images}/new.img", "1M").path == f"{images}/new.img"
    assert (images / "new.img").stat().st_size == MIB


def test_a_call_that_has_returned_holds_no_lock(host: virtstore.Host, images: Path) -> None:
    noise(images / "x.img")
    with virtstore.connect(config=str(images.parent / "config.toml")) as other:
        for turn in range(20):
            session = (host, other)[turn % 2]
            session.image(f"{images}/x.img").grow("+4K")


def test_an_archive_restored_into_a_directory_is_called_as_an_image(
    host: virtstore.Host, images: Path
) -> None:
    contents = noise(images / "web.img")
    (images / "restored").mkdir()
    archive = host.image(f"{images}/web.img").compress()
    restored = archive.copy(host.image(f"{images}/restored"))
    assert restored.path == f"{images}/restored/web.img"
    assert Path(restored.path).read_bytes() == contents
    with pytest.raises(virtstore.UsageError, match=r"must not end in \.zst"):
        archive.copy(host.image(f"{images}/other.zst"))


def test_a_row_of_empty_blocks_does_not_make_looking_long(images: Path) -> None:
    """A guest can put a zstd header before zeros: each three of them are an empty block."""

    class Trap:
        size = 1 << 40
        looked = 0

        def read_at(self, offset: int, length: int) -> bytes:
            self.looked += length
            head = bytes.fromhex("28b52ffd0058")
            return (head + bytes(length))[offset : offset + length] if offset < 6 else bytes(length)

    trap = Trap()
    found = formats.detect(trap)
    assert found
    assert found.image_size(trap) is None
    assert trap.looked < 16 * MIB


def test_one_directory_that_is_configured_twice_is_refused(
    host: virtstore.Host, images: Path
) -> None:
    config = images.parent / "twice.toml"
    config.write_text("".join(f'[[directory]]\npath = "{images}{end}"\n' for end in ("", "/")))
    with (
        virtstore.connect(config=str(config)) as session,
        pytest.raises(virtstore.Error, match="twice"),
    ):
        session.list(str(images))


def test_a_half_overwritten_image_does_not_get_its_name_back_by_failing_again(
    host: virtstore.Host, images: Path
) -> None:
    noise(images / "new.img", 4 * MIB, seed=2)
    noise(images / "vm.img", 4 * MIB)
    source, target = host.image(f"{images}/new.img"), host.image(f"{images}/vm.img")

    def fail(event: Progress) -> None:
        raise KeyError("the client is gone")

    with pytest.raises(KeyError):
        source.copy_contents(target, bwlimit="4M", progress=fail)
    partial = images / "vm.img.virtstore-rework"
    for _ in range(2):  # the second time, nothing is written before it fails
        _wait_for(partial)
        again = virtstore.connect(config=str(images.parent / "config.toml"))
        with again, pytest.raises(KeyError):
            again.image(source.path).copy_contents(
                again.image(target.path), bwlimit="4M", progress=fail
            )
        assert partial.exists()
        assert not (images / "vm.img").exists()
    with virtstore.connect(config=str(images.parent / "config.toml")) as again:
        again.image(source.path).copy_contents(again.image(target.path))
    assert (images / "vm.img").read_bytes() == (images / "new.img").read_bytes()


def _wait_for(file: Path) -> None:
    until(file.exists, f"{file} to be there")
