"""qcow2 images that somebody made to do harm, or that a disk damaged: `info` answers for each,
opens nothing else for it, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from tests import leftovers
from tests.tools.ext_images import TORTURE
from tests.tools.hostile_qcow2 import PRISTINE, SECRET, SIZE, Variant, bomb, pristine, variants
from tests.waiting import PATIENCE

import virtstore
from virtstore import Error, Host, Unsupported, connect

VARIANTS = 500 if TORTURE else 30
#: What a refusal may be; whatever else went wrong would have another code.
REFUSED = {"corrupt", "unsupported", "denied", "not-found"}
#: What an agent opens each time under another name, or of devices and processes, which come and go.
VARYING = ("/run/virtstore/", "/run/lock/virtstore-", "/sys/", "/proc/N/")
COMMAND = "from virtstore.cli.start import main; main()"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return pristine(tmp_path_factory.mktemp("pristine"))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root; `VIRTSTORE_CONFIG` allows it."""
    root = tmp_path / "images"
    root.mkdir(mode=0o700)
    config = tmp_path / "config.toml"
    config.write_text(f'[[directory]]\npath = "{root}"\n')
    monkeypatch.setenv("VIRTSTORE_CONFIG", str(config))
    return root


def answer(host: Host, path: Path) -> tuple[str, str]:
    """What `info` says of an image, in a word, `whole`, `warned`, or a refusal's code; and all that
    was said beside that."""
    try:
        told = host.image(str(path)).info()
    except Error as error:
        return error.code, error.message
    assert told.container == "qcow2"
    return "warned" if told.warnings else "whole", "".join(told.warnings)


def test_info_answers_for_each_of_them_and_nothing_is_left(
    root: Path, images: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes: Counter[str] = Counter()
    taken: list[tuple[float, str]] = []
    with connect("local:") as host:
        for number, variant in enumerate(variants(images, VARIANTS)):
            path = root / f"{number}.qcow2"
            path.write_bytes(variant.data)
            begun = time.monotonic()
            outcome, said = answer(host, path)
            taken.append((time.monotonic() - begun, variant.what))
            outcomes[outcome] += 1
            assert outcome in REFUSED | {"whole", "warned"}, f"{variant.what}: {said}"
            assert said.isprintable()
            assert "Traceback" not in said
            left = leftovers.settled(partial(_holders, path), ())
            assert not left, f"{variant.what}: {left}"
            assert path.read_bytes() == variant.data
            path.unlink()
    with capsys.disabled():
        print(f"\n{dict(outcomes)}; the slowest: {sorted(taken)[-3:]}")
    assert outcomes["whole"]
    assert outcomes["warned"]
    assert "/run/disk" not in Path("/proc/self/mountinfo").read_text()


def _holders(path: Path) -> dict[str, str]:
    """Who has an image open: the daemon that serves it, for one."""
    return {who: what for who, what in leftovers.holders(path.parent).items() if path.name in who}


def test_the_images_are_whole_before_anything_is_done_to_them(
    root: Path, images: list[bytes]
) -> None:
    with connect("local:") as host:
        for options, data in zip(PRISTINE, images, strict=True):
            (root / "x.qcow2").write_bytes(data)
            told = host.image(str(root / "x.qcow2")).info()
            assert told.size == SIZE
            assert told.filesystem, options
            assert told.filesystem.label == "guest"
            assert told.warnings == ()


def test_a_damaged_one_grows_whole_or_is_left_as_it_was(root: Path, images: list[bytes]) -> None:
    config = Path(os.environ["VIRTSTORE_CONFIG"])
    config.write_text(f'[[directory]]\npath = "{root}"\naccess = "write"\n')
    tables = [v for v in variants(images, 500, seed=99) if v.what.startswith("table")]
    outcomes: Counter[str] = Counter()
    with connect("local:") as host:
        for number, variant in enumerate(tables if TORTURE else tables[:12]):
            path = root / f"{number}.qcow2"
            path.write_bytes(variant.data)
            try:
                host.image(str(path)).grow("+1M")
            except Error as refused:
                outcomes[refused.code] += 1
                if path.read_bytes() != variant.data:  # clusters that nobody uses were given back
                    assert _is_clean(path), variant.what
            else:
                outcomes["grown"] += 1
                assert _is_clean(path), variant.what
            path.unlink()
    assert outcomes["grown"]
    assert outcomes["corrupt"]


def _is_clean(path: Path) -> bool:
    """Whether its tables are right, but for clusters that nobody uses."""
    return subprocess.run(["qemu-img", "check", "-q", path]).returncode in (0, 3)


def test_one_of_version_2_with_a_snapshot_grows_once_it_is_made_version_3(
    root: Path, images: list[bytes]
) -> None:
    config = Path(os.environ["VIRTSTORE_CONFIG"])
    config.write_text(f'[[directory]]\npath = "{root}"\naccess = "write"\n')
    path = root / "old.qcow2"
    path.write_bytes(images[PRISTINE.index(("compat=0.10",))])
    with connect("local:") as host:
        with pytest.raises(Unsupported, match="version 2 with internal snapshots") as refused:
            host.image(str(path)).grow("+1M")
        amend = refused.value.message.split("`")[1]
        subprocess.run(amend.split(), cwd=root, check=True)
        host.image(str(path)).grow("+1M")
        assert host.image(str(path)).info().size == SIZE + (1 << 20)


def test_a_small_file_whose_disk_is_full_of_data_is_answered_for(root: Path) -> None:
    (root / "x.qcow2").write_bytes(bomb(1 << 50))
    with connect("local:") as host:
        told = host.image(str(root / "x.qcow2")).info()
    assert (told.size, told.warnings) == (1 << 50, ())
    assert told.allocated < 16 << 20


def opened(log: Path) -> Iterator[str]:
    """The files that a command opened or looked for, as strace tells; numbers in them are `N`."""
    for line in log.read_text(errors="replace").splitlines():
        if said := re.search(r'\bopen(?:at2?)?\((?:[^,"]*, )?"((?:[^"\\]|\\.)*)"', line):
            yield _without_numbers(said[1])
        if result := re.search(r" = \d+<(.*)>$", line):
            yield _without_numbers(result[1])


def _without_numbers(path: object) -> str:
    """A path that is the same each time, whatever the process, the descriptor and the thread."""
    return re.sub(r"\d+", "N", str(path))


def trace(paths: list[Path], log: Path) -> set[str]:
    """What `info` of these images opens: the command, its agent, and all that they start."""
    tracing = ["strace", "-f", "-qq", "-y", "-s", "4096", "-e", "trace=open,openat,openat2"]
    argv: list[str | Path] = [*tracing, "-o", log, sys.executable, "-c", COMMAND, "info", *paths]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE)
    assert "Traceback" not in done.stdout + done.stderr
    return set(opened(log))


def test_nothing_but_the_image_is_opened(root: Path, images: list[bytes], tmp_path: Path) -> None:
    hostile = list(variants(images, 500))
    if not TORTURE:
        hostile = [v for v in hostile if re.match("backing|extension|fields backing", v.what)][:8]
    assert any(SECRET.encode() in variant.data for variant in hostile)
    good = _written(root, [Variant("", data) for data in images], "good")
    usual = trace(good, tmp_path / "usual")
    assert SECRET not in usual
    for start in range(0, len(hostile), 20):
        paths = _written(root, hostile[start : start + 20], f"bad{start}-")
        seen = trace(paths, tmp_path / "log")
        assert f"{_place(root)}badN-N.qcowN" in seen
        assert {file for file in seen if _is_foreign(file, root, usual)} == set()


def test_a_vmdk_that_names_another_file_is_not_followed(root: Path, tmp_path: Path) -> None:
    made = root / "good.vmdk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "vmdk", made, "1M"], check=True)
    usual = trace([made], tmp_path / "usual")
    assert SECRET not in usual
    whole = made.read_bytes()
    flat = (
        '# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"'
    )
    flat = f'{flat}\nRW 1 FLAT "{SECRET}" 0\n'
    over = f'parentCID=12345678\nparentFileNameHint="{SECRET}"\n'.encode()
    hostile = {
        "bad.vmdk": flat.encode(),
        "badHeader.vmdk": whole[:12] + bytes(8) + whole[20:512] + flat.encode().ljust(10240, b"\0"),
        "badParent.vmdk": whole.replace(b"parentCID=ffffffff\n", over),
        "badExtent.vmdk": whole.replace(b"\n\n# The Disk", f'\nRW 1 FLAT "{SECRET}" 0\n'.encode()),
    }
    for name, data in hostile.items():
        assert SECRET.encode() in data
        (root / name).write_bytes(data)
    seen = trace([root / name for name in hostile], tmp_path / "log")
    assert f"{_place(root)}bad.vmdk" in seen
    assert {file for file in seen if _is_foreign(file, root, usual)} == set()


def _place(root: Path) -> str:
    return f"{_without_numbers(root)}/"


def _written(root: Path, several: list[Variant], name: str) -> list[Path]:
    paths = [root / f"{name}{number}.qcow2" for number in range(len(several))]
    for path, variant in zip(paths, several, strict=True):
        path.write_bytes(variant.data)
    return paths


def _is_foreign(file: str, root: Path, usual: set[str]) -> bool:
    """Whether it is neither an image, nor what is opened for a good one too, nor code."""
    if file in usual or re.fullmatch(r"bad\w*(-N)?\.\w+", file.removeprefix(_place(root))):
        return False
    code = (sys.prefix, sys.base_prefix, "/usr/", "/lib/", os.path.dirname(virtstore.__file__))
    return not file.startswith((*map(_without_numbers, code), *VARYING))
