"""Overlays: a qcow2 that holds what differs from the image that it lies over, and so on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.contract.stores import looped
from tests.waiting import PATIENCE
from tests.warm import COMMAND

from virtstore import (
    Corrupt,
    Denied,
    Error,
    Exists,
    Host,
    InUse,
    NotFound,
    Unsupported,
    UsageError,
    connect,
)

from .meanwhile import Meanwhile
from .test_agent_arguments import AGENT
from .test_agent_commands import MIB, tree, virtstore

SIZE = 4 * MIB


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Above `golden`, which may be read only, `images`, and `secret`, which is nobody's."""
    for name in ("golden", "images", "secret"):
        (tmp_path / name).mkdir(mode=0o700)
    (config := tmp_path / "config.toml").write_text(
        f'[[directory]]\npath = "{tmp_path}/golden"\naccess = "read"\n'
        f'[[directory]]\npath = "{tmp_path}/images"\naccess = "write"\n'
    )
    monkeypatch.setenv("VIRTSTORE_CONFIG", str(config))
    return tmp_path


@pytest.fixture
def host(roots: Path) -> Iterator[Host]:
    with connect("local:") as host:
        yield host


def qemu(tool: str, *words: object) -> None:
    subprocess.run([tool, *map(str, words)], check=True, capture_output=True, timeout=60)


def write(path: Path, pattern: int, where: str, form: str = "qcow2") -> None:
    qemu("qemu-io", "-f", form, "-c", f"write -P {pattern} {where}", path)


def lay(over: Path, named: object, form: str | None = "qcow2", size: int = SIZE) -> Path:
    """An overlay over what its header is to name, whatever that is."""
    said = ("-F", form or "raw")
    qemu("qemu-img", "create", "-u", "-f", "qcow2", "-b", named, *said, over, size)
    if form is None:  # as older ones made it: an extension that is passed over
        over.write_bytes(over.read_bytes().replace(b"\xe2\x79\x2a\xca", b"\0\0\xff\xff", 1))
    return over


def make(path: Path, form: str = "qcow2", size: int = SIZE) -> Path:
    qemu("qemu-img", "create", "-f", form, path, size)
    return path


@pytest.fixture
def chain(roots: Path) -> Path:
    """`web.qcow2` over `middle.qcow2`, over `golden.img` in another directory, which is shorter.
    Each has something that none of the others has, and covers a part of the next."""
    write(golden := make(roots / "golden/golden.img", "raw", 3 * MIB), 1, "0 3M", "raw")
    middle = lay(roots / "images/middle.qcow2", "../golden/golden.img", "raw")
    write(middle, 2, "1M 1M")
    web = lay(roots / "images/web.qcow2", "middle.qcow2")
    write(web, 3, "1536K 1M")
    assert golden.stat().st_size == 3 * MIB
    return web


def contents(path: Path) -> bytes:
    """What QEMU itself reads."""
    qemu("qemu-img", "convert", "-O", "raw", path, raw := path.parent.parent / "contents")
    return raw.read_bytes()


EXPECTED = [(1, MIB), (2, MIB // 2), (3, MIB), (1, MIB // 2), (0, MIB)]


def test_an_overlay_is_read_through_its_chain(host: Host, chain: Path) -> None:
    whole = b"".join(bytes([pattern]) * length for pattern, length in EXPECTED)
    assert contents(chain) == whole
    for name in ("new.img", "new.qcow2"):
        host.image(f"{chain}").copy(host.image(f"{chain.with_name(name)}"))
    assert chain.with_name("new.img").read_bytes() == whole
    assert contents(chain.with_name("new.qcow2")) == whole
    assert host.image(f"{chain.with_name('new.qcow2')}").info().backing is None
    archive = host.image(f"{chain}").copy(host.image(f"{chain.with_name('old')}"), archive=True)
    archive.copy(host.image(f"{chain.with_name('back.img')}"))
    assert chain.with_name("back.img").read_bytes() == whole


def test_an_overlay_is_changed_and_what_lies_under_it_is_not(host: Host, chain: Path) -> None:
    under = [chain.with_name("middle.qcow2"), chain.parent.parent / "golden/golden.img"]
    before, whole = [path.read_bytes() for path in under], contents(chain)
    image = host.image(f"{chain}")
    image.grow("+1M")
    assert contents(chain) == whole + bytes(MIB)
    image.shrink("1M", discard_data=True)
    image.grow("3M")
    assert contents(chain) == whole[:MIB] + bytes(2 * MIB)
    (source := chain.with_name("source.img")).write_bytes(b"new".ljust(MIB, b"\0") * 2)
    host.image(f"{source}").copy_contents(image)
    assert contents(chain) == source.read_bytes() + bytes(MIB)
    assert [path.read_bytes() for path in under] == before
    info = image.info()
    assert (info.backing, info.size) == (f"{chain.with_name('middle.qcow2')}", 3 * MIB)


@pytest.fixture
def device(roots: Path) -> Iterator[Path]:
    """A block device that may be read."""
    if os.geteuid():
        pytest.skip("only root makes a block device")
    disk = make(roots / "disk", "raw")
    write(disk, 4, "0 2M", "raw")
    with looped(disk) as path:
        with (roots / "config.toml").open("a") as file:
            file.write(f'[[block_device]]\npath = "{path}"\naccess = "read"\n')
        yield Path(path)


def test_an_overlay_of_a_block_device_is_read_and_changed(roots: Path, device: Path) -> None:
    write(over := lay(roots / "images/web.qcow2", device, "raw"), 5, "1M 512K")
    before, seen = contents(over), device.read_bytes()
    assert b"\4" * MIB in before
    with connect("local:") as host:
        image = host.image(f"{over}")
        assert image.info().backing == f"{device}"
        image.copy(host.image(f"{roots}/images/flat.img"))
        assert (roots / "images/flat.img").read_bytes() == before
        (roots / "images/new.img").write_bytes(b"n" * SIZE)
        host.image(f"{roots}/images/new.img").copy_contents(image)
    assert contents(over) == b"n" * SIZE
    assert device.read_bytes() == seen


@pytest.mark.parametrize("form", ["qcow2", None])
def test_a_block_device_under_an_overlay_is_never_taken_for_a_container(
    roots: Path, device: Path, form: str | None
) -> None:
    lay(over := roots / "images/web.qcow2", device, form)
    with connect("local:") as host, pytest.raises(Unsupported, match="-F raw"):
        host.image(f"{over}").copy(host.image(f"{roots}/images/flat.img"))


def test_a_device_that_nobody_allowed_is_not_read_under_an_overlay(
    roots: Path, device: Path
) -> None:
    config = roots / "config.toml"
    config.write_text(config.read_text().partition("[[block_device]]")[0])
    lay(over := roots / "images/web.qcow2", device, "raw")
    with connect("local:") as host, pytest.raises(Denied, match=f"{device}"):
        host.image(f"{over}").copy(host.image(f"{roots}/images/flat.img"))


def test_no_overlay_is_made_of_a_block_device(roots: Path, device: Path) -> None:
    with connect("local:") as host, pytest.raises(Unsupported, match="made of a file only"):
        host.create(f"{roots}/images/web.qcow2", SIZE, backing=f"{device}")
    assert not (roots / "images/web.qcow2").exists()


def test_info_says_what_an_overlay_lies_over_and_what_is_in_it(host: Host, chain: Path) -> None:
    middle = host.image(f"{chain.with_name('middle.qcow2')}").info()
    assert middle.backing == f"{chain.parent.parent}/golden/golden.img"
    assert host.image(f"{chain}").info().warnings == ()


def test_a_file_system_in_a_golden_image_is_found_through_its_overlay(
    host: Host, roots: Path
) -> None:
    golden = make(roots / "golden/golden.img", "raw", 16 * MIB)
    qemu("mke2fs", "-q", "-t", "ext4", golden)
    over = lay(roots / "images/web.qcow2", golden, "raw", 16 * MIB)
    found = host.image(f"{over}").info().filesystem
    assert found
    assert found.type == "ext4"
    host.image(f"{over}").resize("32M")
    qemu("qemu-img", "convert", "-O", "raw", over, roots / "whole")
    qemu("e2fsck", "-fn", roots / "whole")


def test_a_golden_image_that_changes_while_it_is_read_is_noticed(
    chain: Path, meanwhile: Meanwhile
) -> None:
    golden = chain.parent.parent / "golden/golden.img"

    def change() -> None:
        with golden.open("r+b") as file:
            file.write(b"changed")

    progress = meanwhile(change)
    with connect("local:") as host, pytest.raises(InUse, match="of an image that it lies over"):
        host.image(f"{chain}").copy(host.image(f"{chain.with_name('new.img')}"), progress=progress)


def _loop(images: Path) -> None:
    lay(images / "web.qcow2", "other.qcow2")
    lay(images / "other.qcow2", "web.qcow2")


def _deep(images: Path, depth: int = 33) -> None:
    for number in range(depth):
        lay(images / f"{number}.qcow2", f"{number + 1}.qcow2")
    make(images / f"{depth}.qcow2")
    (images / "0.qcow2").rename(images / "web.qcow2")


def _link(images: Path) -> None:
    (images / "link.img").symlink_to(images.parent / "secret/disk.img")
    lay(images / "web.qcow2", "link.img", "raw")


def _directory_link(images: Path) -> None:
    (images / "link").symlink_to(images.parent / "secret")
    lay(images / "web.qcow2", "link/disk.img", "raw")


def _fifo(images: Path) -> None:
    os.mkfifo(images / "fifo.img")
    lay(images / "web.qcow2", "fifo.img", "raw")


def _guest(images: Path) -> None:
    """A raw disk into which a guest wrote a header, with a path that it chose."""
    lay(images / "guest.img", images.parent / "secret/disk.img", "raw")
    lay(images / "web.qcow2", "guest.img", None)


#: What an overlay, `web.qcow2`, may lie over so that it is refused: how, and with which words.
REFUSED: dict[str, tuple[Callable[[Path], object], type[Error], str]] = {
    "outside": (
        lambda i: lay(i / "web.qcow2", "/etc/shadow", "raw"),
        Denied,
        "allows nothing here",
    ),
    "upwards": (
        lambda i: lay(i / "web.qcow2", "../secret/disk.img", "raw"),
        Denied,
        r"secret/disk\.img: this host's configuration .*\n\n\[\[directory\]\]",
    ),
    "far upwards": (
        lambda i: lay(i / "web.qcow2", "../" * 20 + "etc/shadow", "raw"),
        Denied,
        "/etc/shadow: this host's configuration",
    ),
    "down and up": (lambda i: lay(i / "web.qcow2", "x/../../secret/disk.img"), Denied, "'..'"),
    "absolute, up": (lambda i: lay(i / "web.qcow2", f"{i}/../secret/disk.img"), Denied, "'..'"),
    "a link": (_link, Denied, "symbolic link"),
    "a link on the way": (_directory_link, Denied, "symbolic link"),
    "a FIFO": (_fifo, Denied, "fifo.img"),
    "a device": (lambda i: lay(i / "web.qcow2", "/dev/zero", "raw"), Denied, "/dev/zero"),
    "a directory": (lambda i: lay(i / "web.qcow2", i, "raw"), Corrupt, "not an image"),
    "json": (lambda i: lay(i / "web.qcow2", 'json:{"driver":"null-co"}'), Unsupported, "no path"),
    "nbd": (lambda i: lay(i / "web.qcow2", "nbd://127.0.0.1/x"), Unsupported, "no path"),
    "nothing": (lambda i: lay(i / "web.qcow2", "gone.qcow2"), Corrupt, "no such image; put it"),
    "itself": (lambda i: lay(i / "web.qcow2", "web.qcow2"), Corrupt, "no end"),
    "a loop": (_loop, Corrupt, "no end"),
    "33 images": (_deep, Unsupported, "more than 32"),
    "another format": (lambda i: lay(i / "web.qcow2", "x.img", "qed"), Unsupported, "qed"),
    "a guest's header": (_guest, Unsupported, "qemu-img rebase -u"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_chain_that_is_not_to_be_followed_is_refused(host: Host, roots: Path, what: str) -> None:
    (roots / "secret/disk.img").write_bytes(b"secret" * MIB)
    (roots / "images/x.img").write_bytes(bytes(SIZE))
    made, kind, words = REFUSED[what]
    made(roots / "images")
    image, before = host.image(f"{roots}/images/web.qcow2"), tree(roots / "images")
    with pytest.raises(kind, match=words) as refused:
        image.copy(host.image(f"{roots}/images/new.img"))
    assert type(refused.value) is kind
    assert tree(roots / "images") == before
    assert any(refused.value.message[-40:] in warning for warning in image.info().warnings)


def test_no_engine_opens_what_a_header_names(roots: Path, chain: Path) -> None:
    (roots / "secret/disk.img").write_bytes(b"secret" * MIB)
    good = chain.rename(chain.with_name("good.qcow2"))
    bad = [lay(roots / "images/up.qcow2", "../secret/disk.img", "raw")]
    for what in (_link, _directory_link, _guest):
        what(roots / "images")
        bad.append(chain.rename(chain.with_name(f"{what.__name__}.qcow2")))
    tracing = ["strace", "-f", "-qq", "-y", "-e", "trace=open,openat,openat2"]
    tracing += ["-o", f"{roots}/log"]
    argv: list[str | Path] = [*tracing, sys.executable, "-c", COMMAND, "info", good, *bad]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE)
    assert done.stderr == ""
    assert done.stdout.count("what is in it was not looked at") == 4
    calls = (roots / "log").read_text().splitlines()
    assert [call for call in calls if call.endswith("/golden/golden.img>")]  # by us, and beneath it
    assert [call for call in calls if 'golden/golden.img"' in call] == []
    assert [call for call in calls if f"{roots}/secret" in call.partition(" = ")[2]] == []


def test_32_images_may_lie_under_one(host: Host, roots: Path) -> None:
    _deep(roots / "images", 32)
    write(roots / "images/32.qcow2", 7, "0 1M")
    host.image(f"{roots}/images/web.qcow2").copy(host.image(f"{roots}/images/new.img"))
    assert (roots / "images/new.img").read_bytes() == b"\7" * MIB + bytes(3 * MIB)


def test_a_session_that_may_not_read_what_lies_under_it_reads_no_overlay(
    chain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTSTORE_AGENT", f"{AGENT} --restrict-to {chain.parent}")
    with connect("local:") as host, pytest.raises(Denied, match="restricted to"):
        host.image(f"{chain}").copy(host.image(f"{chain.with_name('new.img')}"))


#: Whatever would spoil what overlays lie over.
SPOILING: dict[str, Callable[[Host, Path], object]] = {
    "delete": lambda host, path: host.image(f"{path}").delete(),
    "rename": lambda host, path: host.image(f"{path}").rename("other.qcow2"),
    "grow": lambda host, path: host.image(f"{path}").grow("+1M"),
    "shrink": lambda host, path: host.image(f"{path}").shrink("-1M", discard_data=True),
    "resize": lambda host, path: host.image(f"{path}").resize("+1M"),
    "growfs": lambda host, path: host.image(f"{path}").growfs(),
    "overwrite": lambda host, path: host.image(f"{path.with_name('x.img')}").copy(
        host.image(f"{path}"), overwrite=True
    ),
    "contents": lambda host, path: host.image(f"{path.with_name('x.img')}").copy_contents(
        host.image(f"{path}")
    ),
    "compress": lambda host, path: host.image(f"{path}").compress(),
    "a dry run": lambda host, path: host.image(f"{path}").delete(dry_run=True),
}


@pytest.fixture
def golden(roots: Path) -> Path:
    """With three overlays: by an absolute path, beside it, and by a way round."""
    golden = make(roots / "images/golden.qcow2")
    lay(roots / "images/web.qcow2", golden)
    lay(roots / "images/db.qcow2", "golden.qcow2")
    lay(roots / "images/mail.qcow2", "../images/golden.qcow2")
    lay(roots / "images/of-web.qcow2", "web.qcow2")
    lay(roots / "images/guest.img", "golden.qcow2")  # a raw disk in which a guest wrote that
    (roots / "images/x.img").write_bytes(bytes(SIZE))
    return golden


@pytest.mark.parametrize("verb", SPOILING)
def test_what_overlays_lie_over_is_not_changed(host: Host, golden: Path, verb: str) -> None:
    before = tree(golden.parent)
    with pytest.raises(InUse, match=r"\(db\.qcow2, mail\.qcow2, web\.qcow2\)"):
        SPOILING[verb](host, golden)
    assert tree(golden.parent) == before


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_what_lies_over_another_name_of_an_image_keeps_it_from_being_changed(
    host: Host, roots: Path, link: Callable[[Path, Path], None]
) -> None:
    golden = make(roots / "images/golden-3.qcow2")
    link(golden, roots / "images/golden.qcow2")
    lay(roots / "images/web.qcow2", "golden.qcow2")
    with pytest.raises(InUse, match=r"\(web\.qcow2\)"):
        host.image(f"{golden}").grow("+1M")


def test_info_of_a_golden_image_names_the_overlays_beside_it(host: Host, golden: Path) -> None:
    named = [f"{golden.with_name(name)}" for name in ("db.qcow2", "mail.qcow2", "web.qcow2")]
    assert host.image(f"{golden}").info().overlays == tuple(named)
    host.image(f"{golden.with_name('of-web.qcow2')}").delete()
    for name in named:
        host.image(name).delete()
    assert host.image(f"{golden}").info().overlays == ()
    host.image(f"{golden}").grow("+1M")
    host.image(f"{golden}").delete()


def test_a_session_is_told_of_no_overlay_that_it_may_not_see(
    golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTSTORE_AGENT", f"{AGENT} --restrict-to {golden}")
    with connect("local:") as host:
        assert host.image(f"{golden}").info().overlays == ()


def test_a_raw_image_is_kept_for_its_overlays_and_copied(host: Host, chain: Path) -> None:
    raw = make(chain.with_name("raw.img"), "raw")
    lay(chain.with_name("over.qcow2"), "raw.img", "raw")
    image = host.image(f"{raw}")
    with pytest.raises(InUse, match=r"over\.qcow2"):
        image.delete()
    image.copy(host.image(f"{raw.with_name('copy.img')}"))
    image.compress(keep=True)


def test_an_overlay_is_made_of_a_golden_image_and_reads_as_that(host: Host, roots: Path) -> None:
    raw, form = make(roots / "golden/debian.img", "raw"), make(roots / "golden/debian.qcow2")
    write(raw, 5, "0 1M", "raw")
    write(form, 5, "0 1M")
    for golden in (raw, form):
        over = roots / "images/web.qcow2"
        image = host.create(f"{over}", 2 * SIZE, backing=f"{golden}")
        assert image.result.size == 2 * SIZE
        assert contents(over) == b"\5" * MIB + bytes(2 * SIZE - MIB)
        assert image.info().backing == f"{golden}"
        assert over.stat().st_blocks * 512 < MIB
        assert over.stat().st_mode & 0o777 == 0o600
        image.delete()


#: What no overlay is made of: how it is asked for, what is said, and with which words.
NO_OVERLAY: dict[str, tuple[str, str, int, type[Error], str]] = {
    "smaller": ("web.qcow2", "images/x.img", SIZE // 2, UsageError, "2 MiB is less than the 4 MiB"),
    "a raw name": ("web.img", "images/x.img", SIZE, Unsupported, r"ends in \.qcow2"),
    "an archive's": ("web.zst", "images/x.img", SIZE, UsageError, "plain image"),
    "nothing under it": ("web.qcow2", "images/gone.img", SIZE, NotFound, "no such image"),
    "outside": ("web.qcow2", "secret/disk.img", SIZE, Denied, "allows nothing"),
    "itself": ("web.qcow2", "images/web.qcow2", SIZE, UsageError, "over itself"),
    "over an archive": ("web.qcow2", "images/x.img.zst", SIZE, Unsupported, "uncompress"),
    "over a broken chain": ("web.qcow2", "images/broken.qcow2", SIZE, Corrupt, "no such image"),
    "there already": ("z.qcow2", "images/x.img", SIZE, Exists, "there already"),
}


@pytest.mark.parametrize("what", NO_OVERLAY)
def test_no_overlay_is_made_that_could_not_be_read(host: Host, roots: Path, what: str) -> None:
    for name in ("images/x.img", "images/y.img", "secret/disk.img"):
        (roots / name).write_bytes(b"data" * MIB)
    host.image(f"{roots}/images/x.img").compress(keep=True)
    lay(roots / "images/broken.qcow2", "gone.qcow2")
    make(roots / "images/z.qcow2")
    name, under, size, kind, words = NO_OVERLAY[what]
    before = tree(roots / "images")
    for dry_run in (True, False):
        with pytest.raises(kind, match=words):
            host.create(f"{roots}/images/{name}", size, backing=f"{roots}/{under}", dry_run=dry_run)
    assert tree(roots / "images") == before


def test_an_overlay_is_of_one_host_and_reserves_nothing(roots: Path) -> None:
    make(roots / "golden/x.img", "raw")
    over, under = f"{roots}/images/web.qcow2", f"{roots}/golden/x.img"
    plan = virtstore("create", over, "4M", "--backing", under, "--dry-run")
    assert f"over {under}" in plan.stdout
    for words in (("--backing", "a:/x.img"), ("--backing", under, "--preallocate")):
        virtstore("create", over, "4M", *words, status=2)
    with open(under, "r+b"):  # somebody writes to it
        assert (
            "somebody uses" in virtstore("create", over, "4M", "--backing", under, status=6).stderr
        )
    virtstore("create", over, "4M", "--backing", under)
    assert f"backing file: {under}" in virtstore("info", over).stdout
