"""`virtstore files` and `virtstore extract`, as they are typed."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests import schemas
from tests.tools.ext_images import tool
from tests.tools.file_trees import MIB, ODD, differing, image, told, tree
from tests.tools.resize_images import configuration, write_configuration

import virtstore

_COMMAND = "from virtstore.cli.start import main; main()"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of images: bare.img, disk.img with vfat, ext4 and LUKS in its partitions, and
    that as archive, qcow2 and gzip."""
    top = tmp_path_factory.mktemp("top")
    files = tree(top / "tree")
    plain = tree(top / "plain", odd=False)
    root = top / "root"
    root.mkdir(mode=0o700)
    parts = [
        image(root / "esp.img", "vfat-12", plain),
        image(root / "bare.img", "ext4", files),
        luks(root / "luks.img"),
    ]
    assemble(root / "disk.img", parts)
    write_configuration(root)
    with virtstore.connect(config=str(configuration(root))) as host:
        disk = host.image(str(root / "disk.img"))
        disk.copy(host.image(str(root / "disk.img.zst")), archive=True)
        disk.copy(host.image(str(root / "disk.qcow2")))
    with gzip.open(root / "bare.img.gz", "wb", compresslevel=1) as packed:
        packed.write((root / "bare.img").read_bytes())
    return root


def luks(path: Path) -> Path:
    """The header of LUKS 1, as far as anybody looks at it (LUKS On-Disk Format Specification)."""
    head = bytearray(592)
    head[:8] = b"LUKS\xba\xbe\x00\x01"
    head[168:204] = b"12345678-9abc-def0-1234-56789abcdef0"
    path.write_bytes(bytes(head).ljust(64 * MIB, b"\0"))
    return path


def assemble(path: Path, parts: list[Path]) -> None:
    """A disk with a partition for each."""
    start, script = 1, "label: gpt\n"
    for part in parts:
        size = part.stat().st_size // MIB
        script += f"start={start}MiB, size={size}MiB\n"
        start += size
    with path.open("wb") as disk:
        disk.truncate((start + 1) * MIB)
    subprocess.run(
        ["/usr/sbin/sfdisk", "-q", "--no-tell-kernel", str(path)], input=script.encode(), check=True
    )
    start = 1
    with path.open("r+b") as disk:
        for part in parts:
            disk.seek(start * MIB)
            disk.write(part.read_bytes())
            start += part.stat().st_size // MIB


@pytest.fixture(autouse=True)
def configured(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTSTORE_CONFIG", str(configuration(root)))


def run(*words: object) -> subprocess.CompletedProcess[bytes]:
    argv = [sys.executable, "-P", "-c", _COMMAND, *map(str, words)]
    return subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, check=False)


def answer(*words: object) -> str:
    done = run(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def refusal(*words: object) -> tuple[int, str]:
    done = run(*words)
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize("name", ["disk.img", "disk.img.zst", "disk.qcow2"])
def test_a_tree_comes_out_of_an_image_as_it_went_in(name: str, root: Path, tmp_path: Path) -> None:
    answer("extract", root / name, "/", "-o", tmp_path / "out")
    (tmp_path / "out/lost+found").rmdir()
    found = told(tmp_path / "out")
    assert differing(found, told(root.parent / "tree")) == [b"pipe"]


def test_one_file_can_be_piped(root: Path) -> None:
    done = run("extract", root / "disk.img.zst", "/through/fstab", "-o", "-")
    assert done.stdout == b"/dev/vda1 / ext4 defaults 0 1\n"
    hole = run("extract", root / "disk.img.zst", "hole", "-o", "-").stdout
    assert hole == (root.parent / "tree/hole").read_bytes()


def test_names_show_nothing_that_a_terminal_obeys_and_can_be_typed_as_shown(
    root: Path, tmp_path: Path
) -> None:
    odd = ["/es\\x1b[31mc", "/new\\x0aline", "/bad\\xff\\xfe", "/back\\slash", "/*"]
    listed = answer("files", root / "bare.img").splitlines()
    assert {*odd, "/etc/"} <= {*listed}
    answer("extract", root / "bare.img", *odd, "-o", tmp_path)
    assert sorted(map(os.fsencode, os.listdir(tmp_path))) == sorted(ODD)


def test_a_long_listing_tells_kinds_sizes_times_and_where_links_lead(root: Path) -> None:
    lines = answer("files", root / "bare.img", "-l", "--bytes").splitlines()
    assert "file             6  2001-09-09 01:46  /hello.txt" in lines
    assert any(line.startswith("symlink") and "/link -> hello.txt" in line for line in lines)
    assert any(line.startswith("other") and line.endswith("/pipe") for line in lines)


def test_json_is_as_its_schema_says(root: Path, tmp_path: Path) -> None:
    found = json.loads(answer("files", root / "disk.img", "/etc", "-l", "--json"))
    schemas.check("files", found)
    assert found[1] == {
        "path": "/etc/fstab",
        "type": "file",
        "size": 30,
        "modified": "2001-09-09T01:46:40Z",
        "target": None,
    }
    done = json.loads(answer("extract", root / "disk.img", "/etc", "-o", tmp_path, "--json"))
    schemas.check("extract", done)
    assert (done["files"], done["directories"]) == (2, 1)


def test_partitions_are_chosen_by_number_or_size(root: Path) -> None:
    done = run("files", root / "disk.img")
    assert b"/lost+found/" in done.stdout
    assert b"this is partition 2 (ext4, 48 MiB); there is more" in done.stderr
    assert b"--partition 1 (vfat, 15 MiB)" in done.stderr
    assert "/etc/" in answer("files", root / "disk.img", "--partition", 1).splitlines()
    status, text = refusal("files", root / "disk.img", "--partition", 3)
    assert (status, "it is encrypted (LUKS)" in text) == (11, True)
    status, text = refusal("files", root / "disk.img", "--partition", 4)
    assert (status, "it has 1, 2, 3" in text) == (3, True)
    status, text = refusal("files", root / "bare.img", "--partition", 1)
    assert (status, "leave --partition out" in text) == (2, True)


def test_what_no_files_are_read_from_is_told_with_what_to_do(root: Path) -> None:
    status, text = refusal("files", root / "bare.img.gz")
    assert (status, "copy it with 'virtstore copy' to an image" in text) == (11, True)
    status, text = refusal("files", root / "luks.img")
    assert (status, "encrypted (LUKS)" in text) == (11, True)
    status, text = refusal("files", root / "bare.img", "/etc/ssh/x")
    assert (status, "there is no ssh in /etc of the image" in text) == (3, True)
    status, text = refusal("extract", root / "bare.img", "/etc", "-o", "-")
    assert (status, "is no file, but a directory" in text) == (2, True)
    status, text = refusal("extract", root / "bare.img", "/etc", "/hello.txt", "-o", "-")
    assert (status, "-o - is for one file" in text) == (2, True)


def test_a_wrong_path_among_several_leaves_nothing_behind(root: Path, tmp_path: Path) -> None:
    status, _ = refusal(
        "extract", root / "bare.img", "/hello.txt", "/nowhere", "-o", tmp_path / "o"
    )
    assert (status, os.listdir(tmp_path)) == (3, [])


def test_nothing_but_the_image_is_opened_and_no_tool_reads_what_a_guest_wrote_but_blkid(
    root: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    argv = [sys.executable, "-P", "-c", _COMMAND, "files", str(root / "bare.img"), "-r"]
    tool("strace", "-f", "-qq", "-e", "trace=execve,mount", "-o", str(log), *argv)
    lines = [line for line in log.read_text().splitlines() if "= 0" in line]
    started = {line.split('"')[1].rpartition("/")[2] for line in lines if "execve(" in line}
    assert started <= {os.path.basename(sys.executable), "python3.11", "bwrap", "prlimit", "blkid"}
    assert not any("ext4" in line for line in lines if "mount(" in line)
