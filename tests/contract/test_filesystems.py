"""What every file system keeps. One that is added to the table is tested here: add its `Kind`."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from virtstore import programs, run
from virtstore.errors import Corrupt, Error, Unsafe, UsageError
from virtstore.filesystems.base import Device, Resized
from virtstore.filesystems.blkid import probe
from virtstore.filesystems.registry import FILESYSTEMS

from .filesystems import KINDS, MIB, NOISE, Subject, fingerprint, made

_NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts file systems")

Change = Callable[[Device], object]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """An image of each kind; made when it is first asked for."""
    images: dict[str, Path] = {}

    def image(kind: str) -> Path:
        if kind not in images:
            images[kind] = made(KINDS[kind], tmp_path_factory.mktemp(kind))
        return images[kind]

    return image


@pytest.fixture(
    params=[
        pytest.param(name, marks=_NEEDS_ROOT if kind.root else ()) for name, kind in KINDS.items()
    ]
)
def subject(
    request: pytest.FixtureRequest, tmp_path: Path, pristine: Callable[[str], Path]
) -> Iterator[Subject]:
    kind: str = request.param
    image = tmp_path / "image"
    run.run(("cp", "--sparse=always", str(pristine(kind)), str(image)), timeout=60)
    yield Subject(KINDS[kind], FILESYSTEMS[kind], image)
    shutil.rmtree(tmp_path)  # they are large


def grows(subject: Subject) -> bool:
    return subject.filesystem.capabilities.grow


def shrinks(subject: Subject) -> bool:
    return subject.filesystem.capabilities.shrink


def changes(subject: Subject) -> list[Change]:
    """Whatever would change its size."""
    return [
        lambda device: subject.filesystem.grow(device),
        lambda device: subject.filesystem.grow(device, subject.sizes.between),
        lambda device: subject.filesystem.shrink(device, None),
        lambda device: subject.filesystem.shrink(device, subject.sizes.less),
    ]


def spoil(device: Device, start: int) -> None:
    """Write over what lies behind byte `start` of a device."""
    for offset in range(start, device.size, 8 * MIB):
        os.pwrite(device.fd, NOISE[: device.size - offset], device.start + offset)


def test_every_file_system_of_the_table_is_tested() -> None:
    assert KINDS.keys() == FILESYSTEMS.keys()


def test_it_is_what_blkid_calls_it(subject: Subject) -> None:
    with subject.opened() as device:
        assert probe(device).type == subject.kind.type
    assert subject.kind.type in subject.filesystem.types


def test_nothing_that_it_needs_is_missing_on_a_host_that_runs_these_tests(subject: Subject) -> None:
    assert programs.missing(*subject.filesystem.capabilities.tools) == ()


def test_what_it_cannot_do_it_refuses_with_its_reason_untouched(subject: Subject) -> None:
    able = subject.filesystem.capabilities
    assert (able.why_not is None) == (able.grow and able.shrink)
    if able.why_not is None:
        return
    reason = able.why_not()
    with subject.opened() as device:
        before = fingerprint(device)
        for change in changes(subject)[2 if able.grow else 0 :]:
            with pytest.raises(type(reason), match=re.escape(reason.message)):
                change(device)
        assert subject.filesystem.minimum(device) is None
        assert fingerprint(device) == before


def test_it_grows_to_fill_its_device(subject: Subject) -> None:
    if not grows(subject):
        return
    seen: list[tuple[int, int]] = []
    with subject.opened() as device:
        grown = subject.filesystem.grow(device, watch=lambda *told: seen.append(told))
        assert grown.changed
        assert device.size - MIB < grown.size <= device.size
        subject.require_whole(device, device.size)
    assert all(0 <= done <= total for done, total in seen)


def test_it_grows_to_a_size_and_leaves_what_lies_behind(subject: Subject) -> None:
    if not grows(subject):
        return
    size = subject.sizes.between
    with subject.opened() as device:
        os.pwrite(device.fd, NOISE, size)
        grown = subject.filesystem.grow(device, size + 511)
        assert grown.changed
        assert size - MIB < grown.size <= size + 511
        assert os.pread(device.fd, MIB - 511, size + 511) == NOISE[511:]
        subject.require_whole(device, grown.size)


def test_as_asked_already_it_is_not_written_to(subject: Subject) -> None:
    if not grows(subject):
        return
    with subject.opened() as device:
        present = subject.filesystem.grow(device, subject.sizes.between).size
        before = fingerprint(device)
        same = Resized(present, changed=False)
        assert subject.filesystem.grow(device, present) == same
        assert subject.filesystem.grow(device.part(0, present)) == same
        assert subject.filesystem.shrink(device, present) == same
        assert subject.filesystem.shrink(device, subject.sizes.room) == same
        assert fingerprint(device) == before


def test_a_size_that_it_cannot_grow_to_is_refused_untouched(subject: Subject) -> None:
    if not grows(subject):
        return
    with subject.opened() as device:
        before = fingerprint(device)
        with pytest.raises(UsageError, match=str(device.size)):
            subject.filesystem.grow(device, device.size + MIB)
        with pytest.raises(UsageError, match="shrinkfs"):
            subject.filesystem.grow(device, subject.sizes.less)
        assert fingerprint(device) == before


@pytest.mark.parametrize("far", [False, True])
def test_it_shrinks_and_nothing_of_it_lies_behind(subject: Subject, far: bool) -> None:
    if not shrinks(subject):
        return
    most = subject.sizes.made - MIB if far else subject.sizes.less
    seen: list[tuple[int, int]] = []
    with subject.opened() as device:
        shrunk = subject.filesystem.shrink(
            device, None if far else most + 511, lambda *told: seen.append(told)
        )
        assert shrunk.changed
        assert (0 if far else most - MIB) < shrunk.size <= most + 511
        spoil(device, shrunk.size)
        subject.require_whole(device, shrunk.size)
        again = subject.filesystem.shrink(device, None if far else most + 511)
        assert again.size <= shrunk.size
        assert again.changed == (again.size != shrunk.size)
        assert subject.filesystem.grow(device).size > subject.sizes.made
        subject.require_whole(device, device.size)
    assert all(0 <= done <= total for done, total in seen)


def test_a_size_that_it_does_not_fit_in_is_refused_with_one_that_it_fits_in(
    subject: Subject,
) -> None:
    if not shrinks(subject):
        return
    with subject.opened() as device:
        with pytest.raises(Unsafe) as refused:
            subject.filesystem.shrink(device, 9999)
        subject.require_whole(device, subject.sizes.made)
        told = (int(number) for number in re.findall(r"\d+", refused.value.message))
        smallest = max((number for number in told if number < subject.sizes.made), default=0)
        shrunk = subject.filesystem.shrink(device, smallest)
        assert shrunk.changed
        assert 9999 < shrunk.size <= smallest
        subject.require_whole(device, shrunk.size)


def test_its_minimum_is_one_that_it_can_be_shrunk_to(subject: Subject) -> None:
    with subject.opened() as device:
        before = fingerprint(device)
        minimum = subject.filesystem.minimum(device)
        assert fingerprint(device) == before
        assert minimum is None or shrinks(subject)
        if minimum is None:
            return
        assert 0 < minimum < subject.sizes.made
        assert subject.filesystem.shrink(device, minimum).size <= minimum
        subject.require_whole(device, minimum)


def test_its_size_is_what_it_was_made_with_and_then_what_it_became(subject: Subject) -> None:
    with subject.opened() as device:
        made = subject.filesystem.size(device)
        assert made is None or subject.sizes.made - MIB < made <= subject.sizes.made
        if grows(subject):
            assert made
            assert subject.filesystem.grow(device).size == subject.filesystem.size(device)


@pytest.mark.parametrize("what", ["zeros", "noise", "a part", "wrecked"])
def test_no_contents_make_its_size_or_minimum_raise_or_write(subject: Subject, what: str) -> None:
    size = subject.sizes.made
    with subject.opened() as device:
        if what == "wrecked" and subject.kind.wreck:
            subject.kind.wreck(subject.image)
        elif what == "a part":
            size = size // 2 + 100
        else:
            os.pwrite(device.fd, bytes(MIB) if what == "zeros" else NOISE, 0)
        for length in (size, 5000, 512, 0):
            part = device.part(0, length)
            before = fingerprint(part)
            said = subject.filesystem.size(part)
            assert said is None or said > 0
            minimum = subject.filesystem.minimum(part)
            assert minimum is None or 0 < minimum <= length
            assert fingerprint(part) == before


def test_what_is_none_is_refused_untouched(subject: Subject) -> None:
    for contents in (bytes(MIB), NOISE):
        with subject.opened() as device:
            os.pwrite(device.fd, contents, 0)
            before = fingerprint(device)
            for change in changes(subject):
                with pytest.raises(Error):
                    change(device)
            assert fingerprint(device) == before


def test_one_that_fails_its_check_is_refused_and_keeps_its_size(subject: Subject) -> None:
    if subject.kind.wreck is None:
        return
    subject.kind.wreck(subject.image)
    with subject.opened() as device:
        before = fingerprint(device)
        for change in changes(subject)[: 4 if shrinks(subject) else 2]:
            with pytest.raises(Corrupt):
                change(device)
        assert fingerprint(device) == before


def test_one_that_was_cut_with_its_image_is_refused_untouched(subject: Subject) -> None:
    if not grows(subject):
        return
    with subject.opened(subject.sizes.made - MIB) as device:
        before = fingerprint(device)
        for change in (subject.filesystem.grow, lambda d: subject.filesystem.shrink(d, d.size)):
            with pytest.raises(Corrupt, match="cut"):
                change(device)
        assert fingerprint(device) == before


def test_in_a_partition_it_leaves_alone_what_lies_around(subject: Subject) -> None:
    if not grows(subject):
        return
    if subject.kind.loop and os.geteuid() != 0:
        pytest.skip("only root makes loop devices")
    with subject.in_a_partition() as device:
        grown = subject.filesystem.grow(device)
        assert device.size - MIB < grown.size <= device.size
        subject.require_whole(device, device.size)
        if shrinks(subject):
            shrunk = subject.filesystem.shrink(device, subject.sizes.less)
            assert shrunk.size <= subject.sizes.less
            subject.require_whole(device, shrunk.size)


def test_a_descriptor_for_reading_keeps_nothing_from_being_done(subject: Subject) -> None:
    if not grows(subject):
        return
    with subject.opened(flags=os.O_RDONLY) as device:
        assert subject.filesystem.grow(device).changed
        subject.require_whole(device, device.size)
