"""What a host's configuration names but has not, and the lines that a refusal tells to write."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from .test_agent_commands import images, told, tree, virtstore

__all__ = ["images"]  # a fixture


@pytest.fixture
def gone(images: Path) -> Path:
    """A directory and a volume group that are configured and not there, beside `images`."""
    path = images.parent / "gone"
    with Path(os.environ["VIRTSTORE_CONFIG"]).open("a") as file:
        file.write(f'[[directory]]\npath = "{path}"\naccess = "write"\n')
        file.write('[[volume_group]]\nname = "no-such-vg"\naccess = "write"\n')
    return path


def test_a_root_that_is_missing_hides_no_other(images: Path, gone: Path) -> None:
    info = told("storage-info", "local:")
    assert [each["path"] for each in info["directories"]] == [str(images)]
    assert info["volume_groups"] == []
    assert [warning.partition(":")[0] for warning in info["warnings"]] == [
        str(gone),
        "/dev/no-such-vg",
    ]
    assert [each["path"] for each in told("list", "local:")] == sorted(
        ["/dev/no-such-vg", str(gone), str(images)]
    )


@pytest.mark.parametrize("long", [(), ("--long",)], ids=["short", "long"])
def test_a_list_of_all_tells_what_there_is_and_fails_for_each_root_that_cannot_be_listed(
    images: Path, gone: Path, long: tuple[str, ...]
) -> None:
    image = images / "x.img"
    image.write_bytes(bytes(1 << 20))
    entries = told("list", "-r", *long, "local:", status=3)
    paths = [each["path"] for each in entries if "error" not in each]
    assert paths == sorted(["/dev/no-such-vg", str(gone), str(images), str(image)])
    errors = [each["error"] for each in entries if "error" in each]
    assert {(each["code"], each["path"]) for each in errors} == {
        ("not-found", str(gone)),
        ("not-found", "/dev/no-such-vg"),
    }
    assert errors == [each["error"] for each in entries[-2:]]
    shown = virtstore("list", "-r", *long, status=3)
    assert str(image) in shown.stdout
    assert [line.split(": ")[1] for line in shown.stderr.splitlines() if "virtstore: " in line] == [
        each["path"] for each in errors
    ]


def test_a_root_that_is_missing_fails_no_other_location(images: Path, gone: Path) -> None:
    (images / "x.img").write_bytes(bytes(1 << 20))
    *_, whole, error = told("list", "-r", "local:", images, gone, status=3)
    assert whole["path"] == str(images / "x.img")
    assert error["error"]["path"] == str(gone)


@pytest.mark.parametrize("command", [("list",), ("info",), ("create", "1M"), ("clean",)])
def test_of_a_missing_root_it_is_said_that_it_is_missing(
    images: Path, gone: Path, command: tuple[str, ...]
) -> None:
    verb, *rest = command
    for path in (str(gone), "/dev/no-such-vg"):
        error = told(verb, path, *rest, status=3)["error"]
        assert "is a " not in error["message"], error
        assert error["path"] in (path, None)


def test_an_image_cannot_be_called_like_a_root(images: Path) -> None:
    error = told("create", images, "1M", status=4)["error"]
    assert (error["path"], f"{images}/NAME" in error["message"]) == (str(images), True)


@pytest.mark.parametrize(
    ("command", "tree", "access"),
    [
        (("list", "/srv/new"), "/srv/new", "read"),
        (("info", "/srv/new/a.img"), "/srv/new", "read"),
        (("create", "/srv/new/a.img", "1M"), "/srv/new", "append"),
        (("delete", "/srv/new/a.img"), "/srv/new", "write"),
        (("clean", "/srv/new"), "/srv/new", "write"),
        (("snapshot", "/srv/new/a.img"), "/srv/new", "append"),
        (("copy", "x.img", "/srv/new/a.img"), "/srv/new", "append"),
        (("copy", "x.img", "/srv/new/"), "/srv/new", "append"),
        (("copy", "/srv/new/a.img", "x.img"), "/srv/new", "read"),
        (("copy-contents", "x.img", "/srv/new/a.img"), "/srv/new", "write"),
        (("list", "/dev/vg7"), "vg7", "read"),
        (("create", "/dev/mapper/vg7-a", "1M"), "vg7", "append"),
    ],
)
def test_the_lines_to_write_allow_what_was_refused(
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    tree: str,
    access: str,
) -> None:
    monkeypatch.chdir(images)
    message = told(*command, status=5)["error"]["message"]
    lines = tomllib.loads(message.partition("\n\n")[2])
    [[root]] = lines.values()
    assert root == {"name" if tree == "vg7" else "path": tree, "access": access}


@pytest.mark.parametrize("path", ["/dev/sda", "/dev/mapper/control", "/dev/disk/by-id/x"])
def test_a_device_that_is_no_volume_is_nothing_to_configure(images: Path, path: str) -> None:
    assert "/dev/VG/LV" in told("info", path, status=5)["error"]["message"]


def test_a_directory_for_everybody_is_not_to_be_made_private(images: Path) -> None:
    images.chmod(0o1777)
    message = told("list", images, status=5)["error"]["message"]
    assert "chmod" not in message
    assert "configure another" in message


def test_a_host_without_roots_says_so(images: Path) -> None:
    Path(os.environ["VIRTSTORE_CONFIG"]).write_text("")
    assert told("list", "local:") == []
    assert "nothing is configured" in virtstore("list", "local:").stderr


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("x.img/new.img", "it is a file, such as an image, and not a directory"),
        ("x.img/a/b/new.img", "{}/x.img is no directory"),
        ("a/b/new.img", "of this path there is {}, and virtstore makes no directories: make it"),
        ("~/a/new.img", "write the whole path in place of '~'"),
    ],
)
def test_what_is_wrong_with_a_path_is_told_of_its_part(images: Path, path: str, says: str) -> None:
    message = told("create", images / path, "1M", status=3)["error"]["message"]
    assert says.format(images) in message


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("copy", "x.img", "new/"), "no such directory"),
        (("create", "new/", "1M"), "no such directory"),
        (("info", "x.img/"), "a file, such as an image, and not a directory"),
    ],
)
def test_what_ends_in_a_slash_is_no_image(
    images: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(images)
    before = tree(images)
    assert says in told(*command, status=3)["error"]["message"]
    assert tree(images) == before
    (images / "new").mkdir()
    assert told("copy", "x.img", "new/")["target"] == str(images / "new" / "x.img")
