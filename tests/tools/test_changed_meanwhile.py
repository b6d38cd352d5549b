"""Somebody changes, replaces or begins to use an image while virtstore is at work on it: what
they did is kept, and nothing is said to be done that was not."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.tools.meanwhile import Meanwhile

import virtstore
from virtstore.client.connection import Connection
from virtstore.copy_options import CopyOptions
from virtstore.digest import ImageDigest, chunk_digest
from virtstore.model import Compression
from virtstore.protocol import Data, End, Existing, Ready, Receive, Same

MIB = 1 << 20


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (made := tmp_path / "images").mkdir(0o700)
    return made


def configured(images: Path, access: str = "write") -> str:
    file = images.parent / "config.toml"
    file.write_text(f'[[directory]]\npath = "{images}"\naccess = "{access}"\n')
    return str(file)


@pytest.fixture
def host(images: Path, meanwhile: Meanwhile) -> Iterator[virtstore.Host]:
    with virtstore.connect(config=configured(images)) as opened:
        yield opened


def noise(path: Path, size: int = 8 * MIB, seed: int = 1) -> bytes:
    contents = random.Random(seed).randbytes(size)
    path.write_bytes(contents)
    return contents


def written(path: Path) -> Callable[[], None]:
    """Somebody opens it, writes at both ends, and closes it again."""

    def write() -> None:
        with path.open("r+b") as file:
            file.write(b"newer")
            file.seek(-5, 2)
            file.write(b"newer")

    return write


def replaced(path: Path) -> Callable[[], None]:
    def replace() -> None:
        other = path.parent.parent / "other"
        other.write_bytes(b"another image".ljust(MIB, b"!"))
        other.rename(path)

    return replace


@pytest.mark.parametrize("change", [written, replaced])
def test_what_changed_while_it_was_compressed_stays_and_no_archive_is_made(
    host: virtstore.Host,
    meanwhile: Meanwhile,
    images: Path,
    change: Callable[[Path], Callable[[], None]],
) -> None:
    path = images / "x.img"
    noise(path)
    with pytest.raises(virtstore.InUse):
        host.image(str(path)).compress(progress=meanwhile(change(path)))
    assert [each.name for each in images.iterdir()] == ["x.img"]
    assert path.read_bytes()[:5] in (b"newer", b"anoth")


def test_an_archive_that_was_replaced_while_it_was_unpacked_stays(
    host: virtstore.Host, meanwhile: Meanwhile, images: Path
) -> None:
    path = images / "x.img"
    contents = noise(path)
    archive = host.image(str(path)).compress()
    with pytest.raises(virtstore.InUse, match="changed"):
        archive.uncompress(progress=meanwhile(replaced(Path(archive.path))))
    assert Path(archive.path).read_bytes().startswith(b"another image")
    if path.exists():  # it was whole before the other came, and only that one was to be removed
        assert path.read_bytes() == contents


def test_a_copy_of_what_changed_meanwhile_is_none_unless_that_is_wanted(
    host: virtstore.Host, meanwhile: Meanwhile, images: Path
) -> None:
    path = images / "x.img"
    noise(path)
    source, target = host.image(str(path)), host.image(f"{images}/copy.img")
    with pytest.raises(virtstore.InUse, match="wrote to it"):
        source.copy(target, progress=meanwhile(written(path)))
    assert [each.name for each in images.iterdir()] == ["x.img"]
    source.copy(target, allow_in_use=True, progress=meanwhile(written(path)))


def agent(images: Path, access: str = "write") -> Connection:
    argv = [sys.executable, "-P", "-m", "virtstore.agent", "--config", configured(images, access)]
    session = Connection(argv, "local")
    session.heard = lambda told: None
    return session


def test_who_opens_an_image_before_the_first_byte_of_it_changes_keeps_it(images: Path) -> None:
    path = images / "x.img"
    contents = noise(path, 4 * MIB)
    session = agent(images)
    session.send(Receive(str(path), "", 4 * MIB, contents=True))
    message = session.receive()[0]
    assert isinstance(message, Ready)
    digest = ImageDigest()
    for number in range(3):
        digest.add(chunk_digest(contents[number * MIB : (number + 1) * MIB]))
        session.send(Same(number * MIB, MIB))
    with path.open("r+b"):
        digest.add(chunk_digest(bytes([1]) * MIB))
        session.send(Data(3 * MIB, MIB, True), bytes([1]) * MIB)
        session.send(End(digest.hexdigest()))
        with pytest.raises(virtstore.InUse):
            _until_answered(session)
    session.close()
    assert path.read_bytes() == contents
    assert [each.name for each in images.iterdir()] == ["x.img"]


def _until_answered(session: Connection) -> None:
    while isinstance(session.receive()[0], Existing):
        pass


def test_with_access_to_append_nothing_is_replaced_that_came_meanwhile(images: Path) -> None:
    path = images / "x.img"
    session = agent(images, "append")
    session.send(Receive(str(path), "", MIB, CopyOptions(overwrite=True)))
    assert isinstance(session.receive()[0], Ready)
    kept = noise(path, MIB)
    digest = ImageDigest()
    digest.add(chunk_digest(bytes([1]) * MIB))
    session.send(Data(0, MIB, True), bytes([1]) * MIB)
    session.send(End(digest.hexdigest()))
    with pytest.raises(virtstore.Exists):
        session.receive()
    session.close()
    assert path.read_bytes() == kept


LIAR = """#!{python} -P
import os
from virtstore.channel import Channel
from virtstore.digest import ImageDigest, chunk_digest
from virtstore.protocol import *
reading, writing = os.dup(0), os.dup(1)
channel = Channel(reading, writing)
os.write(writing, PREAMBLE)
channel.send(Hello("0.1.0", PROTOCOL, OLDEST))
contents = b"EVIL" * (1 << 18)
while (frame := channel.receive()) is not None:
    if isinstance(frame[0], Send):
        channel.send(Begin("/images/golden.img", 1 << 20))
    elif isinstance(frame[0], Start):
        digest = ImageDigest()
        digest.add(chunk_digest(contents))
        channel.send(Data(0, 1 << 20, True), contents)
        channel.send(End(digest.hexdigest()))
"""


def test_a_source_does_not_say_which_image_is_overwritten(
    host: virtstore.Host, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (rsh := images.parent / "rsh").write_text(LIAR.format(python=sys.executable))
    rsh.chmod(0o700)
    monkeypatch.setenv("VIRTSTORE_RSH", str(rsh))
    kept = noise(images / "golden.img", MIB)
    with virtstore.Host(host.address._replace(host="evil")) as source:
        made = source.image("/images/web.img").copy(host.image(str(images)), overwrite=True)
    assert made.path == f"{images}/web.img"
    assert (images / "golden.img").read_bytes() == kept


FAULTY = """#!{python} -P
import virtstore.formats.lzop as lzop
import virtstore.formats.streams as members
from virtstore.agent.__main__ import main


def faulty(write):
    return lambda self, data: write(self, data.replace(b"\\x07", b"\\x06"))


lzop.LzopWriter.write = faulty(lzop.LzopWriter.write)
members.MemberWriter.write = faulty(members.MemberWriter.write)
main()
"""


@pytest.mark.parametrize("form", ["lz4", "gzip", "xz", "lzop"])
def test_an_image_is_removed_only_if_its_archive_was_seen_to_hold_it(
    images: Path, monkeypatch: pytest.MonkeyPatch, form: Compression
) -> None:
    (program := images.parent / "agent").write_text(FAULTY.format(python=sys.executable))
    program.chmod(0o700)
    monkeypatch.setenv("VIRTSTORE_AGENT", str(program))
    kept = noise(images / "x.img", MIB)
    with (
        virtstore.connect(config=configured(images)) as host,
        pytest.raises(virtstore.Corrupt, match="does not decompress to the same"),
    ):
        host.image(f"{images}/x.img").compress(format=form)
    assert [each.name for each in images.iterdir()] == ["x.img"]
    assert (images / "x.img").read_bytes() == kept
