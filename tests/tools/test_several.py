"""One command line for several locations: each by itself, one list, one exit status."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .test_agent_commands import images, told, tree, virtstore

__all__ = ["images"]  # a fixture

MIB = 1 << 20


@pytest.fixture
def three(images: Path) -> list[Path]:
    """Three images and an empty directory `new`."""
    paths = [images / f"{n}.img" for n in (1, 2, 3)]
    for number, path in enumerate(paths):
        path.write_bytes(os.urandom(MIB + number))
    (images / "new").mkdir()
    return paths


def test_several_are_looked_at_in_the_order_asked_for(three: list[Path]) -> None:
    found = told("info", *reversed(three))
    assert [each["size"] for each in found] == [MIB + 2, MIB + 1, MIB]
    text = virtstore("info", *three).stdout
    assert [text.index(str(path)) for path in three] == sorted(text.index(str(p)) for p in three)
    assert [each["checked"] for each in told("verify", *three)] == ["nothing"] * 3


def test_one_that_fails_hides_no_other_and_decides_the_status(three: list[Path]) -> None:
    missing = three[0].parent / "missing.img"
    found = told("info", three[0], missing, "/nonexistent/x.img", three[1], status=3)
    assert [each.get("size") for each in found] == [MIB, None, None, MIB + 1]
    assert [each["error"]["code"] for each in found[1:3]] == ["not-found", "denied"]
    done = virtstore("info", three[0], missing, three[1], status=3)
    assert all(str(path) in done.stdout for path in three[:2])
    assert f"{missing}: no such image" in done.stderr


def test_one_alone_is_told_as_it_was(three: list[Path]) -> None:
    assert told("info", three[0])["size"] == MIB
    assert told("info", three[0].parent / "missing", status=3)["error"]["code"] == "not-found"


def test_several_are_compressed_uncompressed_and_deleted(three: list[Path]) -> None:
    before = [path.read_bytes() for path in three]
    archives = [each["path"] for each in told("compress", *three)]
    assert archives == [f"{path}.zst" for path in three]
    assert [each["path"] for each in told("uncompress", *archives)] == list(map(str, three))
    assert [path.read_bytes() for path in three] == before
    done = virtstore("delete", three[0], three[0], three[1], status=3)
    assert done.stdout.split() == list(map(str, three[:2]))
    assert [path.exists() for path in three] == [False, False, True]


def test_a_dry_run_of_several_changes_nothing(three: list[Path], images: Path) -> None:
    before = tree(images)
    assert all(each["dry_run"] for each in told("delete", *three, "--dry-run"))
    told("copy", *three, images / "new", "--dry-run")
    assert tree(images) == before


@pytest.mark.parametrize("slash", ["", "/"])
def test_several_sources_go_into_a_directory(three: list[Path], images: Path, slash: str) -> None:
    results = told("copy", *three, f"{images}/new{slash}")
    assert [each["target"] for each in results] == [f"{images}/new/{p.name}" for p in three]
    assert [(images / "new" / p.name).read_bytes() for p in three] == [
        p.read_bytes() for p in three
    ]
    again = told("copy", *three, images / "new", status=4)
    assert {each["error"]["code"] for each in again} == {"exists"}


def test_a_source_that_fails_leaves_the_others_copied(three: list[Path], images: Path) -> None:
    results = told("copy", three[0], images / "missing", three[2], images / "new", status=3)
    assert ["error" in each for each in results] == [False, True, False]
    assert sorted(os.listdir(images / "new")) == ["1.img", "3.img"]


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("new.img", "make it with mkdir"),
        ("1.img", "it is a file, such as an image, and not a directory; several sources go into"),
        ("nope/", "make it with mkdir"),
        ("nope/deeper/", "make it with mkdir"),
        ("1.img/deeper", "1.img is no directory"),
        ("1.img/", "several sources go into a directory or volume group"),
    ],
)
def test_several_sources_want_a_directory_that_is_there(
    three: list[Path], images: Path, target: str, says: str, jobs: str
) -> None:
    """What is wrong with the target is said once, and not for each source."""
    before = tree(images)
    error = told("copy", *three[1:], images / target, "--jobs", jobs, status=3)["error"]
    assert error["code"] == "not-found"
    assert error["path"] == f"{images}/{target}".rstrip("/")
    assert says in error["message"]
    assert tree(images) == before


def test_several_sources_are_told_which_access_a_copy_needs(three: list[Path]) -> None:
    results = told("copy", *three[1:], "/nonexistent/", status=5)
    assert all('access = "append"' in each["error"]["message"] for each in results)


def test_sources_of_the_same_name_do_not_take_each_others_place(
    three: list[Path], images: Path
) -> None:
    other = images / "sub"
    other.mkdir()
    for name in ("1.img", "1.img.gz"):
        (other / name).write_bytes(bytes(MIB))
        before = tree(images)
        options = ("--overwrite",)
        error = told("copy", three[0], other / name, images / "new", *options, status=2)["error"]
        assert "the same name" in error["message"]
        assert tree(images) == before


def test_several_hosts_and_directories_are_listed(three: list[Path], images: Path) -> None:
    told("copy", *three, images / "new")
    paths = [each["path"] for each in told("list", images / "new", images)]
    assert paths[:3] == [f"{images}/new/{p.name}" for p in three]
    assert paths[3:] == [*map(str, three), f"{images}/new", f"{images}/x.img"]
    assert [each["path"] for each in told("list", "local:", "local:")] == [str(images)] * 2
    assert [each["host"] for each in told("storage-info", "local:", "local:")] == ["local"] * 2
    assert told("storage-info")["host"] == "local"


def test_options_stand_before_or_after_the_verb(three: list[Path], images: Path) -> None:
    config = os.environ.pop("VIRTSTORE_CONFIG")
    found = told("-q", "--config", config, "info", three[0])
    os.environ["VIRTSTORE_CONFIG"] = config
    assert found["size"] == MIB
    archive = images / "a.img.zst"
    assert told("--archive", "--level", "3", "copy", three[0], archive)["target"] == str(archive)
    assert virtstore("-q", "--dry-run", "delete", three[0]).stdout == ""
    assert three[0].exists()
