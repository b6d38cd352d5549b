"""`-`: what is copied goes to standard output, or comes from standard input."""

from __future__ import annotations

import gzip
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.waiting import PATIENCE
from tests.warm import COMMAND

from .test_agent_commands import COPIED, MIB, images, told, tree, virtstore

__all__ = ["images"]  # a fixture


def piped(
    *words: object, given: bytes = b"", status: int = 0
) -> subprocess.CompletedProcess[bytes]:
    argv = [sys.executable, "-c", COMMAND, *map(str, words)]
    done = subprocess.run(argv, input=given, capture_output=True, timeout=PATIENCE)
    assert b"Traceback" not in done.stderr
    assert done.returncode == status, done.stderr
    return done


def test_an_image_goes_to_standard_output_and_its_account_to_standard_error(images: Path) -> None:
    whole = (images / "x.img").read_bytes()
    done = piped("copy", images / "x.img", "-")
    assert done.stdout == whole
    assert done.stderr.startswith(b"-  3 MiB in ")
    done = piped("copy", images / "x.img", "-", "--json")
    assert done.stdout == whole
    account = json.loads(done.stderr)
    assert set(account) == COPIED
    assert (account["target"], account["size"], account["written"]) == ("-", 3 * MIB, 3 * MIB)


@pytest.mark.parametrize(
    ("form", "tool"),
    [("zstd", "zstd -dc"), ("gzip", "gzip -dc")],
)
def test_an_archive_goes_to_standard_output_in_any_format(
    images: Path, form: str, tool: str
) -> None:
    archive = piped("copy", images / "x.img", "-", "--archive", "--format", form).stdout
    unpacked = subprocess.run(tool.split(), input=archive, capture_output=True, check=True)
    assert unpacked.stdout == (images / "x.img").read_bytes()
    piped("copy", "-", images / f"{form}.img", given=archive)
    assert (images / f"{form}.img").read_bytes() == unpacked.stdout


def test_an_archive_becomes_an_image_on_its_way_to_standard_output(images: Path) -> None:
    whole = (images / "x.img").read_bytes()
    virtstore("compress", images / "x.img")
    assert piped("copy", images / "x.img.zst", "-").stdout == whole


def test_a_raw_image_from_standard_input_is_an_image_and_its_zeros_take_no_way(
    images: Path,
) -> None:
    whole = (images / "x.img").read_bytes() + bytes(40 * MIB)
    account = json.loads(piped("copy", "-", images / "y.img", "--json", given=whole).stdout)
    assert (account["source"], account["size"]) == ("-", len(whole))
    assert account["transferred"] < 3 * MIB
    assert (images / "y.img").read_bytes() == whole
    assert (
        json.loads(piped("verify", images / "y.img", "--json").stdout)["digest"]
        == (account["digest"])
    )


def test_standard_input_is_stored_as_an_archive(images: Path) -> None:
    whole = (images / "x.img").read_bytes()
    for name, given in (("a", whole), ("b", gzip.compress(whole))):
        piped("copy", "-", images / f"{name}.img.zst", "--archive", given=given)
        found = told("verify", images / f"{name}.img.zst")
        assert (found["size"], found["checked"]) == (3 * MIB, "digest")


def test_a_plain_file_as_standard_input_is_read_as_it_lies(images: Path) -> None:
    argv = [sys.executable, "-c", COMMAND, "copy", "-", str(images / "y.img"), "--json"]
    with (images / "x.img").open("rb") as file:
        subprocess.run(argv, stdin=file, check=True, capture_output=True, timeout=PATIENCE)
    assert (images / "y.img").read_bytes() == (images / "x.img").read_bytes()


@pytest.mark.parametrize("tool", ["ours", "zstd -c", "gzip -c"])
def test_an_archive_that_ends_early_leaves_no_image(images: Path, tool: str) -> None:
    if tool == "ours":
        archive = piped("copy", images / "x.img", "-", "--archive").stdout
    else:
        with (images / "x.img").open("rb") as file:
            archive = subprocess.run(tool.split(), stdin=file, capture_output=True).stdout
    before = tree(images)
    piped("copy", "-", images / "y.img", given=archive[:-1], status=9)
    half = archive[: len(archive) // 2]
    piped("copy", "-", images / "y.img.zst", "--archive", given=half, status=9)
    assert tree(images) == before


def test_standard_input_without_a_byte_is_no_image(images: Path) -> None:
    before = tree(images)
    assert b"-: standard input was empty\n" in piped("copy", "-", images / "y.img", status=9).stderr
    assert tree(images) == before


def test_an_error_does_not_go_where_the_image_would(images: Path) -> None:
    done = piped("copy", images / "missing.img", "-", "--json", status=3)
    assert done.stdout == b""
    assert json.loads(done.stderr)["error"]["code"] == "not-found"


def test_a_reader_that_goes_early_is_an_error_and_leaves_nothing(images: Path) -> None:
    before = tree(images)
    argv = [sys.executable, "-c", COMMAND, "copy", str(images / "x.img"), "-"]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdout=pipe, stderr=pipe) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.read(1000)
        process.stdout.close()
        assert b"whoever read standard output has gone" in process.stderr.read()
        assert process.wait(PATIENCE) == 1
    assert tree(images) == before


def test_what_the_target_refuses_is_said_before_standard_input_has_ended(images: Path) -> None:
    before = tree(images)
    for target, status in ((images / "x.img", 4), ("/etc/x.img", 5), (images, 2)):
        argv = [sys.executable, "-c", COMMAND, "copy", "-", str(target), "--json"]
        pipe = subprocess.PIPE
        with subprocess.Popen(argv, stdin=pipe, stdout=pipe) as process:
            assert process.wait(PATIENCE) == status  # nothing was written, and it is open still
    assert tree(images) == before


def test_standard_input_replaces_an_image_only_if_that_is_asked_for(images: Path) -> None:
    piped("copy", "-", images / "x.img", "--overwrite", given=b"new" * 1000)
    assert (images / "x.img").read_bytes() == b"new" * 1000


def test_standard_input_is_no_larger_than_images_may_be(images: Path) -> None:
    config = Path(os.environ["VIRTSTORE_CONFIG"])
    config.write_text(f'{config.read_text()}[limits]\nmax_image_size = "2M"\n')
    before = tree(images)
    piped("copy", "-", images / "y.img", given=bytes(2 * MIB + 1), status=5)
    assert tree(images) == before


def test_ctrl_c_while_standard_input_is_read_leaves_nothing(images: Path) -> None:
    before = tree(images)
    argv = [sys.executable, "-c", COMMAND, "copy", "-", str(images / "y.img"), "--progress"]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stderr=pipe, text=True) as process:
        assert process.stderr
        assert any("copy: reading" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
    assert tree(images) == before


def test_a_dry_run_of_standard_input_reads_it_and_changes_nothing(images: Path) -> None:
    before = tree(images)
    done = piped("copy", "-", images / "y.img", "-n", given=bytes(MIB))
    assert done.stdout.startswith(b"would copy 1 MiB from - to ")
    assert tree(images) == before


@pytest.mark.parametrize(
    "words",
    ["copy - -", "copy - {0}/x.img {0}", "copy {0}/x.img {0}/x.img -", "info -", "delete -"],
)
def test_what_is_no_source_or_target_alone_is_refused(images: Path, words: str) -> None:
    piped(*words.format(images).split(), status=2)


def test_an_image_is_not_written_to_a_terminal(images: Path) -> None:
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-c", COMMAND, "copy", str(images / "x.img"), "-"]
    done = subprocess.run(argv, stdout=theirs, stderr=subprocess.PIPE, timeout=PATIENCE)
    assert (done.returncode, b"is a terminal" in done.stderr) == (2, True)
    argv = [sys.executable, "-c", COMMAND, "copy", "-", str(images / "y.img")]
    done = subprocess.run(argv, stdin=theirs, stderr=subprocess.PIPE, timeout=PATIENCE)
    assert (done.returncode, b"is a terminal" in done.stderr) == (2, True)
    os.close(ours)
    os.close(theirs)


def test_what_fails_at_an_end_is_told_as_that_and_leaves_no_image(images: Path) -> None:
    argv = [sys.executable, "-c", COMMAND, "copy"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*argv, images / "x.img", "-"], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 7
    assert b"No space left on device" in done.stderr
    with open("/dev/null", "wb") as unreadable:
        done = subprocess.run(
            [*argv, "-", images / "y.img"], stdin=unreadable, stderr=subprocess.PIPE
        )
    assert done.returncode == 1
    assert b"standard input cannot be read: Bad file descriptor" in done.stderr
    assert tree(images).keys() == {"x.img"}
