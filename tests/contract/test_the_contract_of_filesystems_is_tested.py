"""The tests of file systems are whole: each member of the contract is used by one, and a file
system that breaks a promise is found out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from virtstore.errors import Unsafe
from virtstore.filesystems import base
from virtstore.filesystems.base import Capabilities, Device, FileSystem, Resized, Watch, unwatched
from virtstore.filesystems.swap import Swap

from . import test_filesystems
from .filesystems import KINDS, Subject, made
from .watched import Watched, every_test, members_of, protocols

TESTS = every_test(test_filesystems)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An image with swap, of which nothing but a number is ever changed."""
    return made(KINDS["swap"], tmp_path_factory.mktemp("swap")).read_bytes()


@pytest.fixture
def subjects(tmp_path: Path, pristine: bytes) -> Callable[[Any], Subject]:
    def subject(filesystem: Any) -> Subject:
        image = tmp_path / "image"
        image.write_bytes(pristine)
        return Subject(KINDS["swap"], filesystem, image)

    return subject


def test_no_protocol_of_the_contract_is_left_out() -> None:
    assert protocols(base) == {FileSystem}


def test_each_member_and_each_option_of_the_contract_is_used_by_a_test_of_it(
    subjects: Callable[[Any], Subject],
) -> None:
    seen: set[str] = set()
    for test in TESTS.values():
        test(subject=subjects(Watched(Swap(), FileSystem, seen)))
    assert members_of(FileSystem) - seen == set()


class Refusing(Swap):
    """Says that it cannot grow, and not why."""

    capabilities = Capabilities(grow=False, shrink=True, tools=())


class WithoutTools(Swap):
    capabilities = Capabilities(grow=True, shrink=True, tools=("no-such-tool",))


class OfAnotherType(Swap):
    types = ("swap2",)


class Filling(Swap):
    """Grows to fill its device, whatever was asked for."""

    def grow(self, device: Device, size: int | None = None, watch: Watch = unwatched) -> Resized:
        return super().grow(device)


class ChangingAlways(Swap):
    """Says that it changed what it did not."""

    def grow(self, device: Device, size: int | None = None, watch: Watch = unwatched) -> Resized:
        return Resized(super().grow(device, size).size, changed=True)


class ShrinkingTooLittle(Swap):
    def shrink(self, device: Device, size: int | None, watch: Watch = unwatched) -> Resized:
        return super().shrink(device, size and size + 8192)


class SayingNoSize(Swap):
    """Does not say what it fits in."""

    def shrink(self, device: Device, size: int | None, watch: Watch = unwatched) -> Resized:
        try:
            return super().shrink(device, size)
        except Unsafe:
            raise Unsafe("it does not fit") from None


class WritingAround(Swap):
    """Writes to the image where its own part begins and ends."""

    def grow(self, device: Device, size: int | None = None, watch: Watch = unwatched) -> Resized:
        os.pwrite(device.fd, b"!", device.start + device.size)
        return super().grow(device, size)


class Unchecked(Swap):
    """Believes a header that lies."""

    def grow(self, device: Device, size: int | None = None, watch: Watch = unwatched) -> Resized:
        if size is None:
            return super().grow(Device(device.fd, 1 << 43, device.start), device.size)
        return super().grow(device, size)


class SizeOfItsPlace(Swap):
    def size(self, device: Device) -> int | None:
        return device.size


class SizeThatRaises(Swap):
    def size(self, device: Device) -> int | None:
        found = super().size(device)
        if found is None:
            raise Unsafe("it cannot tell")
        return found


class MinimumThatWrites(Swap):
    def minimum(self, device: Device) -> int | None:
        found = super().minimum(device)
        return found and super().shrink(device, None).size


class MinimumThatRaises(Swap):
    def minimum(self, device: Device) -> int | None:
        found = super().minimum(device)
        if found is None:
            raise Unsafe("it cannot tell")
        return found


class MinimumTooSmall(Swap):
    def minimum(self, device: Device) -> int | None:
        found = super().minimum(device)
        return found and found - 4096


BREACHES = [
    *(Refusing, WithoutTools, OfAnotherType, Filling, ChangingAlways, ShrinkingTooLittle),
    *(SayingNoSize, WritingAround, Unchecked, MinimumThatWrites),
    *(MinimumThatRaises, MinimumTooSmall, SizeOfItsPlace, SizeThatRaises),
]


def found_out(filesystem: FileSystem, subjects: Callable[[Any], Subject]) -> bool:
    """Whether a test fails for it."""
    for test in TESTS.values():
        try:
            test(subject=subjects(filesystem))
        except TypeError:
            raise  # the breach is not one that could be called
        except (Exception, pytest.fail.Exception):
            return True
    return False


def test_one_that_keeps_its_promises_is_not_found_out(
    subjects: Callable[[Any], Subject],
) -> None:
    assert not found_out(Swap(), subjects)


@pytest.mark.parametrize("breach", BREACHES)
def test_one_that_breaks_a_promise_is_found_out(
    subjects: Callable[[Any], Subject], breach: Callable[[], FileSystem]
) -> None:
    assert found_out(breach(), subjects)
