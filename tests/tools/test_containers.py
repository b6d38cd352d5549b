"""Files in a container's format that virtstore does not open, made by qemu-img: shown, never
changed, never taken for a raw image. A qcow2 is one of them where its name does not say so, and so
are its bytes where they are in an archive that others made."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from virtstore import Corrupt, Host, Unsupported, connect
from virtstore.model import ImageInfo

from .test_agent_commands import MIB, told, tree, virtstore

Change = Callable[[Host, Path], object]

#: What qemu-img makes, by its file: the format that `info` shows, and the options.
MADE = {
    "unnamed.img": ("qcow2", "qcow2", ()),
    "one.qcow": ("qcow", "qcow", ()),
    "x.qed": ("qed", "qed", ()),
    "dynamic.vhd": ("vhd", "vpc", ("force_size=on",)),
    "fixed.vhd": ("vhd", "vpc", ("subformat=fixed", "force_size=on")),
    "x.hdd": ("parallels", "parallels", ()),
}
#: Those of which the name says what they are.
NAMED = [name for name in MADE if name != "unnamed.img"]
SIZE = 8 * MIB
#: Whatever would change one (`path`), or write its bytes where they mean nothing.
CHANGES: dict[str, Change] = {
    "grow": lambda host, path: host.image(f"{path}").grow("+1M"),
    "shrink": lambda host, path: host.image(f"{path}").shrink("-64K"),
    "cut": lambda host, path: host.image(f"{path}").shrink("-64K", discard_data=True),
    "growfs": lambda host, path: host.image(f"{path}").growfs(),
    "shrinkfs": lambda host, path: host.image(f"{path}").shrinkfs("minimum"),
    "resize": lambda host, path: host.image(f"{path}").resize("+4M"),
    "minimum": lambda host, path: host.image(f"{path}").resize("minimum"),
    "overwrite": lambda host, path: _raw(host, path).copy_contents(host.image(f"{path}")),
    "overwrite raw": lambda host, path: host.image(f"{path}").copy_contents(_raw(host, path)),
    "to .img": lambda host, path: _copy(host, path, "new.img"),
    "to a bare name": lambda host, path: _copy(host, path, "new"),
    "to .zip": lambda host, path: _copy(host, path, "new.zip"),
    "replace": lambda host, path: _copy(host, path, "raw.img", overwrite=True),
    "snapshot": lambda host, path: host.image(f"{path}").snapshot("new.img"),
}


def _raw(host: Host, path: Path) -> Any:
    return host.image(f"{path.with_name('raw.img')}")


def _copy(host: Host, path: Path, name: str, **options: Any) -> Any:
    return host.image(f"{path}").copy(host.image(f"{path.with_name(name)}"), **options)


def qemu_img(*words: object) -> str:
    argv = ["qemu-img", *map(str, words)]
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=120).stdout


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (root := tmp_path / "images").mkdir(mode=0o700)
    config = tmp_path / "config.toml"
    config.write_text(f'[[directory]]\npath = "{root}"\naccess = "write"\n')
    monkeypatch.setenv("VIRTSTORE_CONFIG", str(config))
    (root / "raw.img").write_bytes(b"raw" * (4 * MIB))
    return root


@pytest.fixture
def host(root: Path) -> Iterator[Host]:
    with connect("local:") as host:
        yield host


def made(root: Path, name: str) -> Path:
    """One with 2 MiB of data somewhere in its disk."""
    _, form, options = MADE[name]
    (source := root.parent / "source").write_bytes(bytes(MIB) + b"data" * (MIB // 2))
    with source.open("r+b") as file:
        file.truncate(SIZE)
    given = [word for option in options for word in ("-o", option)]
    qemu_img("convert", "-f", "raw", "-O", form, *given, source, root / name)
    return root / name


def disk_of(path: Path, name: str) -> bytes:
    raw = path.with_name("converted")
    qemu_img("convert", "-f", MADE[name][1], "-O", "raw", path, raw)
    contents = raw.read_bytes()
    raw.unlink()
    return contents


@pytest.mark.parametrize("name", MADE)
def test_info_and_list_show_what_it_is_and_how_large_its_disk_is(
    host: Host, root: Path, name: str
) -> None:
    path = made(root, name)
    held: dict[str, Any] = json.loads(qemu_img("info", "--output=json", "-f", MADE[name][1], path))
    info = host.image(f"{path}").info()
    assert (info.container, info.size) == (MADE[name][0], held["virtual-size"])
    assert (info.backing, info.compression, info.partitions) == (None, None, ())
    assert "qemu-img convert" in info.warnings[0]
    listed = {e.path: e for e in host.list(f"{root}", long=True) if isinstance(e, ImageInfo)}
    assert (listed[f"{path}"].container, listed[f"{path}"].size) == (info.container, info.size)
    assert listed[f"{root}/raw.img"].container is None


@pytest.mark.parametrize("name", MADE)
def test_it_is_neither_changed_nor_taken_for_a_raw_image(host: Host, root: Path, name: str) -> None:
    path, before = made(root, name), tree(root)
    for what, change in CHANGES.items():
        with pytest.raises(Unsupported) as refused:
            change(host, path)
        told = ("qemu-img convert", "its name says", "the new name does not say so")
        assert any(words in refused.value.message for words in told), what
    assert tree(root) == before


@pytest.mark.parametrize("name", NAMED)
def test_its_bytes_are_copied_under_its_kind_of_name_and_into_archives(
    host: Host, root: Path, name: str
) -> None:
    path = made(root, name)
    contents, disk = path.read_bytes(), disk_of(path, name)
    copied = _copy(host, path, (copy := path.with_stem("copy")).name)
    assert copy.read_bytes() == contents
    assert copied.warnings[0].startswith("it holds the bytes of")
    assert disk_of(copy, name) == disk

    (root / "backups").mkdir()
    archive = _copy(host, path, "backups", archive=True)
    assert archive.path == f"{root}/backups/{name}.zst"
    assert archive.warnings
    assert archive.info().container == MADE[name][0]
    before = tree(root)
    restores: list[Callable[[], object]] = [
        lambda: archive.copy(host.image(f"{root}/back.img")),
        lambda: archive.copy_contents(host.image(f"{root}/raw.img")),
    ]
    for restore in restores:
        with pytest.raises(Unsupported):
            restore()
    assert tree(root) == before
    archive.copy(host.image(f"{path.with_stem('back')}"))
    assert path.with_stem("back").read_bytes() == contents


def test_a_disk_in_which_a_guest_wrote_a_container_comes_back_as_itself(
    host: Host, root: Path
) -> None:
    inner = made(root, "unnamed.img").read_bytes().ljust(SIZE, b"\0")
    (root / "unnamed.img").write_bytes(inner)
    image = _copy(host, root / "unnamed.img", "x.qcow2", raw=True)
    with pytest.raises(Unsupported, match="the disk in it begins as a qcow2 container"):
        image.compress(format="gzip")
    assert image.compress(keep=True).result.warnings == ()
    _copy(host, root / "x.qcow2", "x", archive=True)
    for name in ("x", "x.qcow2.zst"):
        assert told("info", root / name)["container"] is None
        _copy(host, root / name, "back.qcow2", overwrite=True)
        _copy(host, root / "back.qcow2", "back.img", overwrite=True)
        assert (root / "back.img").read_bytes() == inner


def test_compressed_it_says_so_and_it_comes_back_as_it_was(root: Path) -> None:
    path = made(root, "x.qed")
    contents = path.read_bytes()
    done = told("compress", path, "--format", "gzip")
    assert "comes back as one" in done["warnings"][0]
    assert told("info", done["path"])["container"] == "qed"
    assert told("uncompress", done["path"])["path"] == str(path)
    assert path.read_bytes() == contents


@pytest.mark.parametrize("form", ["gzip", "xz", "lz4", "lzop"])
def test_in_an_archive_of_another_name_it_is_still_no_raw_image(
    host: Host, root: Path, form: Any
) -> None:
    path = made(root, "unnamed.img")
    archive = _copy(host, path, "jammy.img", archive=True, format=form)
    before = tree(root)
    restores: list[Callable[[], object]] = [
        lambda: archive.copy(host.image(f"{root}/jammy2.img")),
        lambda: archive.copy_contents(host.image(f"{root}/raw.img")),
        lambda: archive.uncompress(),
    ]
    for restore in restores:
        with pytest.raises(Unsupported):
            restore()
    assert tree(root) == before
    archive.copy(host.image(f"{root}/jammy.qcow2"))
    assert (root / "jammy.qcow2").read_bytes() == path.read_bytes()


def test_a_fixed_vhd_in_a_gzip_archive_is_seen_by_its_end(host: Host, root: Path) -> None:
    archive = _copy(host, made(root, "fixed.vhd"), "x.gz", archive=True)
    with pytest.raises(Unsupported, match="VHD"):
        archive.copy(host.image(f"{root}/x.img"))


def test_an_archive_that_others_made_of_a_qcow2_gives_that_qcow2(host: Host, root: Path) -> None:
    path = made(root, "unnamed.img")
    subprocess.run(["zstd", "-q", path, "-o", root / "web.qcow2.zst"], check=True, timeout=60)
    done = told("uncompress", root / "web.qcow2.zst", "--keep")
    assert "and is opened as one" in done["warnings"][0]
    assert (root / "web.qcow2").read_bytes() == path.read_bytes()
    _copy(host, root / "web.qcow2", "web.img")
    assert (root / "web.img").read_bytes() == disk_of(path, "unnamed.img")


def test_the_advice_of_a_refused_archive_of_a_qcow2_works(host: Host, root: Path) -> None:
    path = made(root, "unnamed.img")
    archive = _copy(host, path, "jammy.img", archive=True)
    with pytest.raises(Unsupported, match=r"a name that ends in \.qcow2, of which virtstore reads"):
        archive.copy(host.image(f"{root}/back.img"))
    archive.copy(host.image(f"{root}/back.qcow2"))
    host.image(f"{root}/back.qcow2").copy(host.image(f"{root}/back.img"))
    assert (root / "back.img").read_bytes() == disk_of(path, "unnamed.img")


OVERLAYS = {
    "qcow2": ("base.img", "over.img"),
    "qed": ("base.qed", "over.qed"),
}


@pytest.mark.parametrize("form", OVERLAYS)
def test_the_bytes_of_an_overlay_are_not_copied_without_what_it_lies_over(
    host: Host, root: Path, form: str
) -> None:
    base, over = (root / name for name in OVERLAYS[form])
    qemu_img("create", "-f", form, base, SIZE)
    qemu_img("create", "-f", form, "-b", base.name, "-F", form, over)
    assert host.image(f"{over}").info().backing == base.name
    before = tree(root)
    for keep in (
        lambda: _copy(host, over, f"copy.{form}"),
        lambda: _copy(host, over, "new.zst", archive=True),
        lambda: host.image(f"{over}").compress(keep=True),
    ):
        with pytest.raises(Unsupported, match=base.name) as refused:
            keep()
        assert "qemu-img convert" in refused.value.message
    assert tree(root) == before
    _copy(host, base, f"copy.{form}")


def test_what_has_its_data_in_another_file_is_refused_and_can_be_removed(
    host: Host, root: Path
) -> None:
    data = root / "data.raw"
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={data}", root / "x.qcow2", SIZE)
    qemu_img("create", "-f", "vmdk", "-o", "subformat=monolithicFlat", root / "flat.vmdk", SIZE)
    qemu_img("create", "-f", "qcow2", root / "secret.qcow2", SIZE)
    with (root / "secret.qcow2").open("r+b") as file:
        file.seek(32)  # crypt_method: LUKS, which qemu-img cannot make on every busy machine
        file.write((2).to_bytes(4, "big"))
    whys = {"x.qcow2": "data", "flat.vmdk": "several files", "secret.qcow2": "crypt"}
    for name, why in whys.items():
        image = host.image(f"{root}/{name}")
        with pytest.raises(Unsupported, match=why):
            _copy(host, root / name, "new.img")
        assert not (root / "new.img").exists()
        assert any(why in warning for warning in image.info().warnings)
        image.rename(f"renamed-{name}")
        host.image(f"{root}/renamed-{name}").delete()
        assert not list(root.glob(f"renamed-{name}"))


def test_the_raw_part_of_a_vmdk_is_read_once_its_name_says_that_it_is_raw(
    host: Host, root: Path
) -> None:
    qemu_img("create", "-f", "vmdk", "-o", "subformat=monolithicFlat", root / "x.vmdk", SIZE)
    part = root / "x-flat.vmdk"
    assert ".raw" in host.image(f"{part}").info().warnings[0]
    for change in (CHANGES["grow"], CHANGES["to .img"]):
        with pytest.raises(Corrupt, match=r"\.raw"):
            change(host, part)
    host.image(f"{part}").rename("part.raw")
    _copy(host, root / "part.raw", "new.img")
    assert (root / "new.img").read_bytes() == (root / "part.raw").read_bytes()


def test_a_container_with_a_damaged_header_is_not_taken_for_a_raw_image(
    host: Host, root: Path
) -> None:
    path = made(root, "unnamed.img").rename(root / "x.qcow2")
    with path.open("r+b") as file:
        file.write(b"\0")
    before = tree(root)
    changes = [CHANGES[each] for each in ("grow", "cut", "resize", "overwrite", "to .img")]
    changes += [CHANGES["overwrite raw"], lambda host, path: host.image(f"{path}").compress()]
    changes += [lambda host, path: _copy(host, path, "new.qcow2")]
    for change in changes:
        with pytest.raises(Corrupt, match="does not begin as one"):
            change(host, path)
    assert tree(root) == before
    assert "does not begin as one" in host.image(f"{path}").info().warnings[0]


def test_what_a_guest_wrote_into_its_raw_disk_is_warned_of_and_can_be_backed_up(root: Path) -> None:
    path = made(root, "unnamed.img").rename(root / "web.img")
    contents = path.read_bytes()
    assert any("--raw" in warning for warning in told("info", path)["warnings"])
    for words in (["copy", path, root / "web2.img"], ["copy-contents", path, root / "raw.img"]):
        assert "--raw" in told(*words, status=11)["error"]["message"]
    backup = told("copy", path, root / "web.img.zst", "--archive")
    assert backup["warnings"]
    told("copy", backup["target"], root / "web2.img", "--raw")
    assert (root / "web2.img").read_bytes() == contents
    assert "warnings" not in told("copy-contents", path, root / "raw.img", "--raw")
    assert (root / "raw.img").read_bytes().startswith(contents)


def test_an_overlay_that_a_guest_pretends_is_no_reason_to_follow_it(host: Host, root: Path) -> None:
    path = root / "web.img"
    qemu_img("create", "-u", "-f", "qcow2", "-b", "/etc/shadow", "-F", "raw", path, SIZE)
    with pytest.raises(Unsupported, match="/etc/shadow") as refused:
        _copy(host, path, "x.zst", archive=True)
    assert "not a raw disk into which a guest wrote that" in refused.value.message
    _copy(host, path, "x.zst", archive=True, raw=True)
    _copy(host, root / "x.zst", "back.img", raw=True)
    assert (root / "back.img").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", ["X.VMDK", "x.vdi", "x.vhd", "x.bz2", "x.7z"])
def test_nothing_raw_is_called_like_a_container_or_an_archive_that_cannot_be_made(
    host: Host, root: Path, name: str
) -> None:
    before, raw = tree(root), root / "raw.img"
    for make in (
        lambda: host.create(f"{root}/{name}", "1M"),
        lambda: _copy(host, raw, name),
        lambda: _copy(host, raw, name, raw=True),
        lambda: host.image(f"{raw}").snapshot(name),
    ):
        with pytest.raises(Unsupported, match="its name says"):
            make()
    assert tree(root) == before


@pytest.mark.parametrize("verb", ["rename", "snapshot"])
@pytest.mark.parametrize(("old", "new"), [("raw.img", "x.qcow2"), ("configured/x.raw", "x.img")])
def test_what_stays_as_it_is_gets_no_name_under_which_it_would_be_opened_as_a_container(
    host: Host, root: Path, verb: str, old: str, new: str
) -> None:
    (root / "configured").mkdir(mode=0o700)
    (root / "configured/x.raw").write_bytes(bytes(MIB))
    with (root.parent / "config.toml").open("a") as file:
        path = f"{root}/configured"
        file.write(f'[[directory]]\npath = "{path}"\naccess = "write"\nformat = "qcow2"\n')
    before = tree(root)
    with pytest.raises(Unsupported, match="it would be opened as a qcow2 container, which it is"):
        getattr(host.image(f"{root}/{old}"), verb)(new)
    assert tree(root) == before


@pytest.mark.parametrize("verb", ["rename", "snapshot"])
@pytest.mark.parametrize("name", ["monday", "x-monday.img"])
def test_a_container_under_another_name_is_to_be_called_like_one(
    host: Host, root: Path, verb: str, name: str
) -> None:
    host.create(f"{root}/x.qcow2", "1M")
    before = tree(root)
    with pytest.raises(
        Unsupported, match="new name does not say so; let the name end in 'qcow2' as"
    ):
        getattr(host.image(f"{root}/x.qcow2"), verb)(name)
    assert tree(root) == before


def test_a_qcow2_of_any_size_has_whole_sectors(host: Host, root: Path) -> None:
    image = host.create(f"{root}/x.qcow2", "5000001")
    assert image.grow("10MB").size == 10_000_384
    assert image.grow("10MB").changed is False
    assert image.shrink("5000001", dry_run=True).size == 5_000_192
    assert image.shrink("5000001").size == 5_000_192
    assert image.info().size == 5_000_192


def test_diff_says_that_it_compares_bytes(host: Host, root: Path) -> None:
    path = made(root, "x.qed")
    copy = _copy(host, path, "copy.qed")
    found = host.image(f"{path}").diff(copy)
    assert found.different == 0
    assert [w for w in found.warnings if "its bytes were compared" in w] == list(found.warnings)
    assert len(found.warnings) == 2
    raw = host.image(f"{root}/raw.img")
    assert raw.diff(raw).warnings == ()


def test_it_is_shown_to_people_and_can_be_deleted(root: Path) -> None:
    path = made(root, "x.qed")
    assert "container:   qed" in virtstore("info", path).stdout
    assert "note: it holds" in virtstore("copy", path, path.with_stem("copy")).stdout
    told("delete", path)
    assert not path.exists()
