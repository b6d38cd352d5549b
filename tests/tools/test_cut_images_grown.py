"""What an image had lost when it was made longer is told afterwards, in its copies too, and nobody
makes a file system of the zeros: until something else is there, or somebody says so."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
from tests.tools.ext_images import MIB
from tests.tools.partitioned import Part, Told, disk, texts
from tests.tools.resize_images import configuration, virtstore

from virtstore.agent.operations import lost
from virtstore.agent.policy import Place
from virtstore.backends.files.directory import Directory
from virtstore.filesystems.detect import Contents
from virtstore.model import Filesystem

LACKS = f"lacks {6 * MIB} bytes (6 MiB)"
RESIZES = ("growfs", "growfs -n", "resize 60M", "resize minimum", "resize 45M", "shrinkfs 5M")


@pytest.fixture(autouse=True)
def _with_attributes(image: Path) -> None:
    try:
        os.setxattr(image.parent, "user.test", b"")
    except OSError:
        pytest.skip("the tests' directory has no extended attributes")


def whole(image: Path, holds: str = "ntfs") -> bytes:
    disk(image, "dos", [Part(2, "83"), Part(40, "83", holds)])
    return image.read_bytes()


def cut(image: Path, holds: str = "ntfs") -> bytes:
    """By 6 MiB of its last file system; what it was before."""
    before = whole(image, holds)
    os.truncate(image, 37 * MIB)
    return before


@pytest.mark.parametrize("holds", ["ntfs", "swap", "ext4"])
def test_zeros_in_the_place_of_data_are_told_and_not_resized(
    image: Path, holds: str, told: Told
) -> None:
    cut(image, holds)
    told("grow", image, "50M")
    before = image.read_bytes()
    for line in RESIZES:
        verb, *words = line.split()
        assert LACKS in told(verb, image, *words, status=9)["error"]["message"], line
    assert image.read_bytes() == before
    for line in ("info", "grow 50M", "grow 51M -n", "grow 52M", "shrink 51M -n", "shrink 50M"):
        verb, *words = line.split()
        assert texts(told(verb, image, *words)).count(LACKS) == 1, line
    assert LACKS in virtstore("info", image).stdout
    assert LACKS in virtstore("list", "-l", "--json", image.parent).stdout


def test_the_command_that_the_message_names_ends_it(image: Path, told: Told) -> None:
    odd = image.with_name("it's x.img")
    cut(odd)
    told("grow", odd, "50M")
    message = texts(told("info", odd))
    command = message[message.index("'setfattr") + 1 : message.rindex("' on its host")]
    name, *words = shlex.split(command)
    assert (name, words[-1]) == ("setfattr", str(odd))
    os.removexattr(words[-1], words[1])
    assert "warnings" not in told("info", odd)
    assert told("growfs", odd)["changed"]


def test_other_contents_in_its_place_lack_nothing(image: Path, told: Told) -> None:
    before = cut(image, "swap")
    told("grow", image, "50M")
    with image.open("r+b") as file:
        file.seek(3 * MIB + 1036)  # where a swap area's UUID is
        assert file.read(16) == before[3 * MIB + 1036 :][:16]
        file.seek(-16, os.SEEK_CUR)
        file.write(b"of another swap.")
    assert "warnings" not in told("info", image)
    assert told("growfs", image)["changed"]


def test_a_copy_lacks_what_its_source_does_and_an_archive_passes_it_on(
    image: Path, told: Told
) -> None:
    cut(image)
    told("grow", image, "50M")
    for source, target, *words in (
        ("x.img", "copy.img"),
        ("x.img", "a.img.zst", "--archive"),
        ("a.img.zst", "b.img"),
        ("x.img", "g.img.gz", "--archive"),
        ("g.img.gz", "h.img"),
    ):
        done = virtstore("copy", image.with_name(source), image.with_name(target), *words)
        assert "what is missing of the source" in done.stdout + done.stderr
        if not target.endswith(".gz"):
            assert LACKS in texts(told("info", image.with_name(target))), target
    virtstore("compress", image)
    assert LACKS in texts(told("info", image.with_name("x.img.zst")))
    virtstore("uncompress", image.with_name("x.img.zst"))
    assert LACKS in texts(told("info", image))


def test_between_two_sessions_the_note_is_passed_on(image: Path, told: Told) -> None:
    import virtstore as api

    cut(image)
    told("grow", image, "50M")
    config = str(configuration(image.parent))
    with api.connect(config=config) as one, api.connect(config=config) as other:
        copied = one.image(str(image)).copy(other.image(str(image.with_name("y.img"))))
        assert "what is missing of the source" in "; ".join(copied.result.warnings)
    assert LACKS in texts(told("info", image.with_name("y.img")))


def test_whole_contents_that_are_copied_over_it_take_the_note_away(image: Path, told: Told) -> None:
    for verb, words in (("copy-contents", ()), ("copy", ("--overwrite",))):
        before = cut(image)
        told("grow", image, "50M")
        image.with_name("good.img").write_bytes(before)
        virtstore(verb, image.with_name("good.img"), image, *words)
        assert "warnings" not in told("info", image)
        assert told("growfs", image)["changed"]


def test_contents_that_were_put_back_by_hand_are_shown_to_be_so_by_copying_them_again(
    image: Path, told: Told
) -> None:
    before = cut(image)
    told("grow", image, "50M")
    with image.open("r+b") as file:
        file.write(before)  # as `dd conv=notrunc` does it
    assert "where they were put back since" in texts(told("info", image))
    image.with_name("good.img").write_bytes(before)
    virtstore("copy-contents", image.with_name("good.img"), image)
    assert "warnings" not in told("info", image)


def test_a_target_that_is_longer_hides_no_cut(image: Path, told: Told) -> None:
    cut(image)
    target = image.with_name("target.img")
    with target.open("wb") as file:
        file.truncate(60 * MIB)
    done = virtstore("copy-contents", image, target)
    assert "what is missing of the source" in done.stdout + done.stderr
    assert LACKS in texts(told("info", target))
    assert told("growfs", target, status=9)


def test_where_nothing_can_be_noted_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*_: object, **__: object) -> None:
        raise OSError(95, "cannot")

    (tmp_path / "x.img").write_bytes(bytes(MIB))
    store = Directory(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY))
    place = Place(store, "x.img", str(tmp_path / "x.img"))
    found = Contents(Filesystem(type="ntfs", uuid="A1", size=2 * MIB))
    monkeypatch.setattr(os, "setxattr", cannot)
    [said] = lost.note_before_growth(place, found, MIB)
    store.close()
    assert "nothing says later" in said
