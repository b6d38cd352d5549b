"""What growfs, shrinkfs and resize print: for programs, for people, and for those who only ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.tools.ext_images import MIB, new_tree
from tests.tools.resize_images import (
    LAYOUTS,
    MADE,
    Made,
    check,
    configuration,
    make_filesystem,
    make_image,
    new_root,
    told,
    virtstore,
)

CHANGED = {
    "path",
    "host",
    "changed",
    "size",
    "allocated",
    "partition",
    "filesystem",
    "dry_run",
    "plan",
}


@pytest.fixture(scope="module")
def images() -> Iterator[dict[str, Made]]:
    with new_root() as root, new_tree(100) as tree:
        source = root.with_name("ext4")
        contents = make_filesystem(source, "ext4", tree)
        yield {
            name: make_image(root / f"{name}.img", layout, "ext4", source, contents)
            for name, layout in LAYOUTS.items()
        }


@pytest.fixture
def made(images: dict[str, Made]) -> Iterator[dict[str, Made]]:
    """One in each layout, as it was made."""
    before = {image.path: image.path.read_bytes() for image in images.values()}
    yield images
    for path, contents in before.items():
        path.write_bytes(contents)


@pytest.fixture(autouse=True)
def environment(made: dict[str, Made], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTSTORE_CONFIG", str(configuration(made["bare"].path.parent)))


@pytest.mark.parametrize(
    ("layout", "line", "steps"),
    [
        ("bare", "resize 40M", ["grow * from 24 MiB to 40 MiB", "grow the * 41943040 bytes"]),
        ("gpt", "resize 40M", ["grow *", "grow partition 2 to 37748736 bytes", "grow the*"]),
        ("gpt", "resize 20M", ["shrink the *", "shrink partition 2 *", "cut * 20971520 bytes *"]),
        ("logical", "resize minimum", ["shrink the *", "shrink partition 6 *", "cut * bytes*"]),
        ("mbr", "shrinkfs 20M", ["shrink the ext4 * to 20971520 bytes *", "shrink partition 2 *"]),
        ("mbr", "shrinkfs minimum", ["shrink the ext4 * bytes *", "shrink partition 2 * bytes *"]),
        ("bare", "growfs", []),
    ],
)  # fmt: skip
def test_a_dry_run_names_the_steps_with_their_sizes_and_changes_nothing(
    made: dict[str, Made], layout: str, line: str, steps: list[str]
) -> None:
    image = made[layout]
    before = image.fingerprint
    verb, *words = line.split()
    done = told(verb, image.path, *words, "--dry-run")
    assert set(done) == CHANGED
    assert done["dry_run"]
    assert done["changed"] == bool(steps)
    for step, wanted in zip(done["plan"], steps, strict=True):
        position = 0
        for part in wanted.split("*"):
            assert part in step[position:]
            position = step.index(part, position) + len(part)
    shown = virtstore(verb, image.path, *words, "--dry-run").stdout.splitlines()
    assert shown == [f"would {s}" for s in done["plan"]] or "nothing to do" in shown[0]
    assert image.fingerprint == before


def test_the_answer_has_the_keys_of_the_interface_and_the_sizes_that_are_there(
    made: dict[str, Made],
) -> None:
    image = made["gpt"]
    for line in ("resize 40M", "shrinkfs 20M", "growfs 30M", "resize minimum"):
        verb, *words = line.split()
        done = told(verb, image.path, *words)
        assert set(done) == CHANGED
        assert (done["path"], done["host"], done["changed"]) == (str(image.path), "local", True)
        assert (done["dry_run"], done["plan"]) == (False, [])
        assert done["size"] == image.path.stat().st_size
        room = check(image).size
        assert done["partition"] == 2
        assert done["filesystem"]["type"] == "ext4"
        assert room - MIB < done["filesystem"]["size"] <= room
        if line == "growfs 30M":
            assert not told(verb, image.path, *words)["changed"]


def test_a_relative_size_is_of_the_image(made: dict[str, Made]) -> None:
    image = made["bare"]
    assert told("resize", image.path, "+4M")["size"] == MADE + 4 * MIB
    assert told("resize", image.path, "-2M")["size"] == MADE + 2 * MIB
    shown = virtstore("resize", image.path, "24M").stdout
    said = "25165824 bytes (24 MiB), ext4 file system 25165824 bytes (24 MiB)"
    assert shown == f"{image.path}  {said}\n"
    check(image)
    assert virtstore("resize", image.path, "24M").stdout == f"{image.path}  {said}, unchanged\n"
