"""What a configuration and an agent's own options allow, for each operation there is."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import virtstore
from virtstore.model import Access

LEVELS: tuple[Access, ...] = ("read", "append", "write")
Work = Callable[[virtstore.Host, str], object]

#: Each operation, and the least access that it needs.
OPERATIONS: dict[str, tuple[Access, Work]] = {
    "list": ("read", lambda h, r: h.list(r, long=True)),
    "info": ("read", lambda h, r: h.image(f"{r}/x.img").info()),
    "verify": ("read", lambda h, r: h.image(f"{r}/x.img").verify()),
    "diff": ("read", lambda h, r: h.image(f"{r}/x.img").diff(h.image(f"{r}/z.zst"))),
    "storage-info": ("read", lambda h, r: h.storage_info()),
    "create": ("append", lambda h, r: h.create(f"{r}/n.img", 4096)),
    "snapshot": ("append", lambda h, r: h.image(f"{r}/x.img").snapshot("s.img")),
    "copy": ("append", lambda h, r: h.image(f"{r}/x.img").copy(h.image(f"{r}/n.img"))),
    "compress --keep": ("append", lambda h, r: h.image(f"{r}/x.img").compress(keep=True)),
    "uncompress --keep": ("append", lambda h, r: h.image(f"{r}/z.zst").uncompress(keep=True)),
    "compress": ("write", lambda h, r: h.image(f"{r}/x.img").compress()),
    "uncompress": ("write", lambda h, r: h.image(f"{r}/z.zst").uncompress()),
    "copy --overwrite": (
        "write",
        lambda h, r: h.image(f"{r}/x.img").copy(h.image(f"{r}/y.img"), overwrite=True),
    ),
    "copy-contents": (
        "write",
        lambda h, r: h.image(f"{r}/x.img").copy_contents(h.image(f"{r}/y.img")),
    ),
    "grow": ("write", lambda h, r: h.image(f"{r}/x.img").grow("+1M")),
    "shrink": ("write", lambda h, r: h.image(f"{r}/x.img").shrink("4K", discard_data=True)),
    "growfs": ("write", lambda h, r: h.image(f"{r}/x.img").growfs()),
    "delete": ("write", lambda h, r: h.image(f"{r}/x.img").delete()),
    "clean": ("write", lambda h, r: h.clean(r)),
}


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Access, virtstore.Host]]:
    """A session at each level of access to one root."""
    base = tmp_path_factory.mktemp("access")
    (base / "images").mkdir(mode=0o700)
    with ExitStack() as sessions:
        opened: dict[Access, virtstore.Host] = {}
        for level in LEVELS:
            config = base / f"{level}.toml"
            config.write_text(f'[[directory]]\npath = "{base}/images"\naccess = "{level}"\n')
            opened[level] = sessions.enter_context(virtstore.connect(config=str(config)))
        yield opened


@pytest.fixture
def root(hosts: dict[Access, virtstore.Host]) -> Iterator[Path]:
    """The root, with an image, an equal one, an archive and a leftover."""
    found = Path(hosts["write"].list()[0].path)
    for name in ("x.img", "y.img", "l.img.virtstore-partial"):
        (found / name).write_bytes(b"data" * 4096)
    image = hosts["write"].image(f"{found}/x.img")
    image.copy(hosts["write"].image(f"{found}/z.zst"), archive=True)
    yield found
    for path in found.iterdir():
        path.unlink()


def contents(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir()}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_needs_its_access_and_no_more(
    hosts: dict[Access, virtstore.Host], root: Path, name: str, level: Access
) -> None:
    need, work = OPERATIONS[name]
    before = contents(root)
    if LEVELS.index(level) >= LEVELS.index(need):
        try:
            work(hosts[level], str(root))
        except virtstore.Unsupported:
            assert name in ("snapshot", "growfs")  # this place cannot, but it was allowed
    else:
        with pytest.raises(virtstore.Denied, match=r'needs "(append|write)"'):
            work(hosts[level], str(root))
    if level == "read":
        assert contents(root) == before
    if level == "append":
        assert {name: contents(root).get(name) for name in before} == before


@pytest.mark.parametrize("what", ["", "/l.img"])
def test_who_may_not_clean_is_told_what_becomes_of_what_is_left(
    hosts: dict[Access, virtstore.Host], root: Path, what: str
) -> None:
    with pytest.raises(virtstore.Denied, match=r'goes on with .* whoever has "write"'):
        hosts["append"].clean(f"{root}{what}")
    with pytest.raises(virtstore.Denied) as raised:
        hosts["read"].clean(f"{root}{what}")
    assert "goes on" not in str(raised.value)
    assert (root / "l.img.virtstore-partial").exists()


@pytest.fixture
def narrowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two roots of which an agent's command line allows a part."""
    for name in ("images/mine", "images/others", "images2"):
        (tmp_path / name).mkdir(parents=True, mode=0o700)
        (tmp_path / name / "x.img").write_bytes(b"data" * 1024)
    (tmp_path / "images").chmod(0o700)
    config = tmp_path / "config.toml"
    roots = (
        f'[[directory]]\npath = "{tmp_path}/{r}"\naccess = "write"\n' for r in ("images", "images2")
    )
    config.write_text("".join(roots))
    argv = [sys.executable, "-m", "virtstore.agent", "--config", str(config)]
    argv += ["--restrict-to", f"{tmp_path}/images/mine", "--access", "append"]
    monkeypatch.setenv("VIRTSTORE_AGENT", shlex.join(argv))
    return tmp_path


def test_a_narrowed_agent_shows_and_allows_only_its_part(narrowed: Path) -> None:
    mine = f"{narrowed}/images/mine"
    with virtstore.connect() as host:
        assert [entry.path for entry in host.list()] == [mine]
        [directory] = host.storage_info().directories
        assert (directory.path, directory.access) == (mine, "append")
        assert [Path(e.path).name for e in host.list(recursive=True)][-1] == "x.img"
        host.create(f"{mine}/new.img", 4096)
        for elsewhere in ("images/others", "images2", "images"):
            image = host.image(f"{narrowed}/{elsewhere}/x.img")
            for work in (image.info, image.delete, lambda at=image.path: host.create(at, 1)):
                with pytest.raises(virtstore.Denied, match="restricted to"):
                    work()
            with pytest.raises(virtstore.Denied, match="restricted to"):
                host.image(f"{mine}/x.img").copy(image, overwrite=True)
            with pytest.raises(virtstore.Denied, match="restricted to"):
                image.copy(host.image(f"{mine}/copy.img"))
        with pytest.raises(virtstore.Denied, match="--access append"):
            host.image(f"{mine}/x.img").delete()
    assert sorted(p.name for p in Path(mine).iterdir()) == ["new.img", "x.img"]


def test_one_root_that_is_not_there_does_not_hide_the_others(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir(mode=0o700)
    config = tmp_path / "config.toml"
    config.write_text(
        "".join(f'[[directory]]\npath = "{tmp_path}/{n}"\n' for n in ("gone", "here"))
    )
    with virtstore.connect(config=str(config)) as host:
        assert host.list(f"{tmp_path}/here") == []
        shown = [directory.path for directory in host.storage_info().directories]
    assert f"{tmp_path}/here" in shown


def test_a_wrong_configuration_is_an_answer_to_each_request(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[[dirctory]]\n")
    with virtstore.connect(config=str(config)) as host:
        for work in (host.list, host.storage_info, host.image("/x").info):
            with pytest.raises(virtstore.Error, match=r"configuration in .* is wrong") as raised:
                work()
            assert raised.value.host == "local"


def test_no_image_becomes_larger_than_the_host_allows(tmp_path: Path) -> None:
    (root := tmp_path / "images").mkdir(mode=0o700)
    for name, size in (("big.img", 9 << 20), ("x.img", 1 << 20)):
        with (root / name).open("wb") as file:
            file.truncate(size)
    subprocess.run(["zstd", "-q", root / "big.img", "-o", root / "big.zst"], check=True)
    config = tmp_path / "config.toml"
    config.write_text(
        f'[[directory]]\npath = "{root}"\naccess = "write"\n[limits]\nmax_image_size = "8M"\n'
    )
    before = contents(root)
    with virtstore.connect(config=str(config)) as host:
        big, archive, new = (host.image(f"{root}/{n}") for n in ("big.img", "big.zst", "new.img"))
        for work in (
            lambda: host.create(new.path, "9M"),
            lambda: host.image(f"{root}/x.img").grow("9M"),
            lambda: big.copy(new),
            lambda: archive.copy(new),
            archive.uncompress,
        ):
            with pytest.raises(virtstore.Denied, match="max_image_size"):
                work()
            assert contents(root) == before
        host.create(new.path, "8M")
