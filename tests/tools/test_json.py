"""Every command's `--json`: its answer, its dry run and its failure are what its schema says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from release.schemas import ANSWERS
from tests.schemas import check
from tests.waiting import PATIENCE
from tests.warm import COMMAND

from .test_agent_commands import MIB, images, virtstore

__all__ = ["images"]  # a fixture

#: What is asked of each command, {} being a directory of images: a line that succeeds (None: not
#: on every file system); one that fails, with its code. What changes something is asked with
#: --dry-run, too.
ASKED: Final = {
    "list": ("{}", "{}/none", "not-found"),
    "info": ("{}/ext.img", "/etc/passwd", "denied"),
    "verify": ("{}/a.img.zst", "{}/cut.img.zst", "corrupt"),
    "diff": ("{}/x.img {}/ext.img", "{}/x.img {}/none.img", "not-found"),
    "files": ("{}/ext.img", "{}/none.img", "not-found"),
    "extract": (None, "{}/ext.img /none", "not-found"),  # tests/tools/test_files.py has more
    "export": (None, "{}/none.img", "not-found"),  # tests/tools/test_export.py has more
    "create": ("{}/new.img 1M", "{}/x.img 1M", "exists"),
    "snapshot": (None, "{}/none.img", "not-found"),
    "rename": ("{}/x.img y.img", "{}/x.img ext.img", "exists"),
    "delete": ("{}/x.img", "{}/none.img", "not-found"),
    "clean": ("{}", "{}/none", "not-found"),
    "resize": ("{}/ext.img 12M", "{}/ext.img 1M", "unsafe"),
    "grow": ("{}/x.img 4M", "{}/x.img 900P", "no-space"),
    "shrink": ("{}/zero.img 1M", "{}/x.img 1M", "unsafe"),
    "growfs": ("{}/ext.img", "{}/x.img", "unsupported"),
    "shrinkfs": ("{}/ext.img minimum", "{}/ext.img 1M", "unsafe"),
    "copy": ("{}/x.img {}/y.img", "{}/x.img {}/ext.img", "exists"),
    "copy-contents": ("{}/zero.img {}/x.img", "{}/ext.img {}/x.img", "no-space"),
    "backup": ("{}/x.img {}", "{}/x.img {}/none", "not-found"),
    "backups": ("{}", "{}/none", "not-found"),
    "prune": ("{} --keep-last 1", "{}/none --keep-last 1", "not-found"),
    "restore": ("{}/a.img.zst {}/y.img", "{}/a.img.zst {}/x.img", "exists"),
    "compress": ("{}/x.img", "{}/a.img.zst", "unsupported"),
    "uncompress": ("{}/a.img.zst", "{}/x.img", "unsupported"),
    "storage-info": ("local:", "/x", "usage"),
    "jobs": ("local:", "/x", "usage"),
    "doctor": ("local:", "/x", "usage"),
    "install": (None, "local: --directory x", "usage"),  # tests/hosts/test_install.py has more
    "uninstall": (None, "/x", "usage"),
    "completion": ("bash", "tcsh", "usage"),
    "help": ("copy", "cpoy", "usage"),
}
#: What does the work of several locations at once.
SEVERAL: Final = [
    "list",
    "info",
    "verify",
    "delete",
    "clean",
    "compress",
    "uncompress",
    "storage-info",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of each kind, an archive, a damaged one, and what an interruption left."""
    made = tmp_path_factory.mktemp("made") / "images"
    made.mkdir(mode=0o700)
    config = made.with_name("config.toml")
    config.write_text(f'[[directory]]\npath = "{made}"\naccess = "write"\n')
    (made / "x.img").write_bytes(os.urandom(2 * MIB) + bytes(MIB))
    (made / "zero.img").write_bytes(bytes(2 * MIB))
    subprocess.run(["mkfs.ext4", "-q", made / "ext.img", "8M"], check=True)
    os.truncate(made / "ext.img", 10 * MIB)
    virtstore("copy", made / "x.img", made / "a.img.zst", "--archive", "--config", config)
    whole = (made / "a.img.zst").read_bytes()
    (made / "cut.img.zst").write_bytes(whole[: len(whole) // 2])
    (made / "left.img.virtstore-partial").write_bytes(bytes(5000))
    return made


@pytest.fixture
def full(images: Path, made: Path) -> Path:
    """A directory that has all of these."""
    shutil.copytree(made, images, dirs_exist_ok=True)
    return images


def asked(name: str, *arguments: str, status: int | None = 0) -> Any:
    """What a command answers, once it is found to be as its schema says."""
    done = virtstore(name, *arguments, "--json", status=status)
    document = json.loads(done.stdout)
    check(name, document)
    return document


@contextmanager
def used(image: Path) -> Iterator[None]:
    """While a process has it open for writing."""
    with image.open("r+b") as file, subprocess.Popen(["sleep", "infinity"], stdin=file) as user:
        try:
            yield
        finally:
            user.kill()


def test_every_command_is_asked() -> None:
    assert set(ASKED) == set(ANSWERS)


@pytest.mark.parametrize("name", ASKED)
def test_an_answer_a_dry_run_and_a_failure_are_as_the_schema_says(name: str, full: Path) -> None:
    line, wrong, code = ASKED[name]
    failed = asked(name, *wrong.format(full, full).split(), status=None)
    assert failed["error"]["code"] == code
    if line is None:
        return
    words = line.format(full, full).split()
    if "--dry-run" in virtstore(name, "--help").stdout:
        asked(name, *words, "--dry-run")
    # Of two that tell by their status what they found, the second depends on the machine.
    asked(name, *words, status={"diff": 1, "doctor": None}.get(name, 0))


def test_a_long_list_is_as_the_schema_says(full: Path) -> None:
    (full / "sub").mkdir()
    found = asked("list", "-l", "-r", str(full))
    assert {each["type"] for each in found} == {"file", "directory"}
    assert asked("list", "local:")[0]["type"] == "directory"


def test_info_of_all_kinds_is_as_the_schema_says(full: Path) -> None:
    subprocess.run(
        ["sfdisk", "-q", full / "zero.img"], input=b"label: gpt\nsize=1M,name=a\n", check=True
    )
    paths = [str(full / f"{n}.img") for n in ("x", "ext", "zero", "left")]
    found = asked("info", *paths, str(full / "a.img.zst"))
    assert found[1]["filesystem"]["minimum"]
    assert found[2]["partitions"]
    assert found[3]["state"] == "partial"


@pytest.mark.parametrize("name", SEVERAL)
def test_of_several_a_failure_stands_in_the_list(name: str, full: Path) -> None:
    line, wrong, code = ASKED[name]
    assert line
    if name == "storage-info":
        wrong, code = "no-such-host.invalid:", "connection"
    found = asked(name, *line.format(full).split(), wrong.format(full), status=None)
    assert found[-1]["error"]["code"] == code
    assert "error" not in found[0]


def test_several_copies_are_a_list(full: Path) -> None:
    (full / "new").mkdir()
    sources = [str(full / name) for name in ("x.img", "none.img", "zero.img")]
    found = asked("copy", *sources, str(full / "new"), status=3)
    assert ["error" in each for each in found] == [False, True, False]


def test_each_line_of_progress_is_as_its_schema_says(full: Path) -> None:
    for words in (["verify", full / "a.img.zst"], ["resize", full / "ext.img", "16M"]):
        done = virtstore(*words, "--json", "--progress")
        lines = done.stderr.splitlines()
        assert lines
        for line in lines:
            check("progress", json.loads(line))


def test_an_image_in_use_is_told_as_the_schema_says(full: Path) -> None:
    with used(full / "x.img"):
        assert asked("delete", str(full / "x.img"), status=6)["error"]["code"] == "in-use"
        assert asked("info", str(full / "x.img"))["in_use"]


def test_an_interruption_is_told_as_the_schema_says(full: Path) -> None:
    words = ["copy", full / "x.img", full / "y.img", "--bwlimit", "100K", "--json", "--progress"]
    argv = [sys.executable, "-c", COMMAND, *map(str, words)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr
        assert any(json.loads(line)["stage"] == "copying" for line in process.stderr)
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 130
    check("copy", json.loads(told))
    assert json.loads(told)["error"]["code"] == "interrupted"
