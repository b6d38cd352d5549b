"""No room at the target: found out before, or while an archive grows; nothing is left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from . import processes
from .command import STATUS, Client
from .conftest import FILE_LIMIT, Hosts, Refused, random_image
from .sshd import Remote
from .trees import MIB, empty


@pytest.fixture
def small(b: Remote) -> Iterator[Remote]:
    """Host b with a file system of 4 MiB mounted at `small`."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system; `b-limited` stands for it")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4M,mode=755", "none", b.small], check=True)
    try:
        yield b
        empty(b.small)
    finally:
        subprocess.run(["umount", b.small], check=True)


def test_an_image_that_does_not_fit_is_refused_before_anything_moves(
    hosts: Hosts, refused: Refused, small: Remote
) -> None:
    source = hosts.a.at(random_image(hosts.a.images / "disk", 8 * MIB))
    new = small.at(small.small / "disk")
    refused(
        "no-space", "create", new, "8M", says="8 MiB more are needed and .* are free; free space"
    )
    refused(
        "no-space", "copy", source, new, says="8 MiB more are needed and .* are free; free space"
    )


def test_a_size_that_no_host_has_room_for_is_refused_before_anything_is_read(
    hosts: Hosts, refused: Refused
) -> None:
    huge = hosts.a.images / "huge"
    huge.touch()
    os.truncate(huge, 15 << 40)
    new = hosts.b.at(hosts.b.images / "new")
    refused("no-space", "copy", hosts.a.at(huge), new, says="15 TiB more are needed")


def test_an_archive_that_outgrows_its_file_system_is_removed(
    hosts: Hosts, refused: Refused, small: Remote
) -> None:
    source = hosts.a.at(random_image(hosts.a.images / "disk", 8 * MIB))
    for form, suffix in (("zstd", "zst"), ("gzip", "gz")):
        new = small.at(small.small / f"disk.{suffix}")
        refused(
            "no-space",
            "copy",
            "--archive",
            "--format",
            form,
            source,
            new,
            says="(?i)no space.* is full; free space there",
        )


def test_a_cut_archive_whose_rest_finds_no_room_beside_it_is_removed(
    client: Client, hosts: Hosts, small: Remote
) -> None:
    """The source changed at its start, so what was there is set aside, and that needs room."""
    source = random_image(hosts.a.images / "disk", 4 * MIB - MIB // 4)
    words = ("copy", "--archive", hosts.a.at(source), small.at(small.small / "disk.zst"))
    copy = client.under_way(*words, "--bwlimit", "2M", until=3 * MIB)
    copy.ctrl_c()
    assert copy.end().status == STATUS["interrupted"]
    assert processes.are_gone(hosts.directory) == []
    [partial] = small.small.iterdir()
    left = partial.stat().st_size
    assert left > MIB
    with source.open("r+b") as file:
        file.write(b"changed")
    other = small.small / "other"
    # How much was left depends on when the signal came: there may be less room than that by itself.
    other.write_bytes(bytes(max(0, shutil.disk_usage(small.small).free - left // 2)))
    client.run(*words, "--json").error("no-space")
    assert list(small.small.iterdir()) == [other]


def test_a_sparse_target_that_has_no_room_for_the_contents_stays_as_it_was(
    hosts: Hosts, refused: Refused, small: Remote
) -> None:
    """An image that was copied in by hand need not have its space."""
    source = hosts.a.at(random_image(hosts.a.images / "disk", 8 * MIB))
    target = random_image(small.small / "disk", MIB)
    os.truncate(target, 8 * MIB)
    refused("no-space", "copy-contents", source, small.at(target), says="")


def test_an_archive_of_a_large_image_is_restored_where_there_is_room_for_its_data_only(
    client: Client, hosts: Hosts, small: Remote
) -> None:
    large, archive = random_image(hosts.a.images / "disk", MIB), hosts.a.images / "disk.zst"
    os.truncate(large, 1 << 40)
    made = client.json("copy", "--archive", hosts.a.at(large), hosts.a.at(archive))
    restored = small.small / "disk"
    words = ("copy", hosts.a.at(archive), small.at(restored), "--json")
    client.run(*words).error("no-space")
    client.run(*words, "--sparse", "--dry-run")
    assert client.json(*words[:3], "--sparse")["digest"] == made["digest"]
    assert restored.stat().st_size == 1 << 40
    assert restored.stat().st_blocks * 512 < 2 * MIB


@pytest.mark.parametrize("archive", [False, True], ids=["image", "archive"])
def test_a_sparse_image_whose_data_does_not_fit_is_removed(
    client: Client, hosts: Hosts, refused: Refused, small: Remote, *, archive: bool
) -> None:
    source = random_image(hosts.a.images / "disk", 8 * MIB)
    if archive:
        client.run("compress", hosts.a.at(source))
        source = source.with_suffix(".zst")
    new = small.at(small.small / "new")
    refused("no-space", "copy", "--sparse", hosts.a.at(source), new, says="found on the way")


def test_a_qcow2_whose_data_does_not_fit_is_removed(
    hosts: Hosts, refused: Refused, small: Remote
) -> None:
    source = random_image(hosts.a.images / "disk", 8 * MIB)
    for option in ((), ("--overwrite",)):
        new = small.at(small.small / "new.qcow2")
        refused("no-space", "copy", *option, hosts.a.at(source), new, says="")
        assert list(small.small.iterdir()) == []


def test_a_qcow2_that_has_no_room_for_its_new_contents_is_partial_and_whole_in_its_tables(
    client: Client, hosts: Hosts, small: Remote
) -> None:
    source = random_image(hosts.a.images / "disk", 8 * MIB)
    target = small.small / "old.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", target, str(8 * MIB)], check=True)
    words = ("copy-contents", hosts.a.at(source), small.at(target), "--json")
    client.run(*words).error("no-space")
    [left] = small.small.iterdir()
    assert client.json("info", small.at(target))["state"] == "partial"
    subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", left], check=True)
    subprocess.run(["mount", "-o", "remount,size=16M", small.small], check=True)
    client.json(*words[:3])
    compare = ("qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2")
    subprocess.run([*compare, str(source), str(target)], check=True)


def test_a_limit_on_the_length_of_files_is_no_space_too(hosts: Hosts, refused: Refused) -> None:
    source = hosts.a.at(random_image(hosts.a.images / "disk", 2 * FILE_LIMIT))
    new = hosts.b.at(hosts.b.images / "new", "b-limited")
    refused("no-space", "create", new, str(2 * FILE_LIMIT), says="no room for 8 MiB")
    refused("no-space", "copy", source, new, says="no room for 8 MiB")
    refused("no-space", "copy", "--archive", source, new, says="")


def test_the_old_image_stays_where_there_is_no_room_for_the_new(
    hosts: Hosts, refused: Refused
) -> None:
    source = hosts.a.at(random_image(hosts.a.images / "disk", 2 * FILE_LIMIT))
    old = random_image(hosts.b.images / "old", MIB, seed=2)
    there = hosts.b.at(old, "b-limited")
    refused("no-space", "copy", "--overwrite", source, there, says="no room for 8 MiB")
    refused("no-space", "copy", "--overwrite", "--archive", source, there, says="")


def test_an_image_that_cannot_grow_keeps_its_size_and_contents(
    client: Client, hosts: Hosts
) -> None:
    old = random_image(hosts.b.images / "old", MIB, seed=2)
    before = old.read_bytes()
    ended = client.run("grow", hosts.b.at(old, "b-limited"), str(2 * FILE_LIMIT), "--json")
    assert "no room for 8 MiB" in ended.error("no-space")["message"]
    assert old.read_bytes() == before
