"""The contract of every provider of evidence (agent/evidence).

Adding a provider adds a constructor here, of an image that nobody uses, and one that somebody does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import NamedTuple

import pytest

from virtstore.agent import evidence
from virtstore.agent.evidence import Provider, kernel, libvirt, store
from virtstore.backends.base import Image
from virtstore.backends.files.file import FileImage
from virtstore.libvirt.domains import Domain, DomainDisk

from .memory import Contents, MemoryImage


class Subject(NamedTuple):
    """`speaks`: it would show whoever uses an image."""

    look: Callable[[], Provider]
    free: Image
    used: Image
    speaks: bool = True


class CountedImage(MemoryImage):
    def __init__(self, opens: int) -> None:
        super().__init__(Contents())
        self.opens = opens

    @property
    def open_count(self) -> int:
        return self.opens


def of_the_kernel(directory: Path, stack: ExitStack) -> Subject:
    images = []
    for name in ("free.img", "used.img"):
        (directory / name).write_bytes(b"image")
        fd = os.open(directory / name, os.O_RDONLY | os.O_CLOEXEC)
        images.append(stack.enter_context(FileImage(fd)))
    with (directory / "used.img").open("rb") as file:
        program = [sys.executable, "-c", "import sys; sys.stdin.read()"]
        user = subprocess.Popen(program, stdin=subprocess.PIPE, pass_fds=(file.fileno(),))
    stack.callback(user.communicate)
    return Subject(kernel.look, images[0], images[1])


def of_the_store(directory: Path, stack: ExitStack) -> Subject:
    return Subject(store.look, CountedImage(0), CountedImage(2))


def of_libvirt(directory: Path, stack: ExitStack) -> Subject:
    images = []
    for name in ("free.img", "used.img"):
        (directory / name).write_bytes(b"image")
        fd = os.open(directory / name, os.O_RDONLY | os.O_CLOEXEC)
        images.append(stack.enter_context(FileImage(fd)))
    (directory / "other name").symlink_to("used.img")
    disk = DomainDisk("vda", "file", str(directory / "other name"), "raw")
    web = Domain("web", "", "running", disks=(disk,), active=True)
    return Subject(lambda: libvirt.Domains((web,)), images[0], images[1], speaks=False)


SUBJECTS = {"kernel": of_the_kernel, "store": of_the_store, "libvirt": of_libvirt}


@pytest.fixture(params=SUBJECTS)
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    with ExitStack() as stack:
        yield SUBJECTS[request.param](tmp_path, stack)


def others(provider: Provider, *images: Image) -> list[object]:
    """What a provider says of users other than this process."""
    return [each for each in provider.gather(images) if each[1].whose != "self"]


def test_each_module_of_the_package_is_a_provider_and_is_tested_here() -> None:
    found = {module.name for module in iter_modules(evidence.__path__)}
    assert found == set(SUBJECTS)
    assert all(callable(import_module(f"{evidence.__name__}.{name}").look) for name in found)


def test_it_speaks_for_an_image_whether_somebody_uses_it_or_not(subject: Subject) -> None:
    provider = subject.look()
    assert provider.speaks_for(subject.free) == subject.speaks
    assert provider.speaks_for(subject.used) == subject.speaks


def test_it_tells_who_uses_an_image_and_accuses_nobody_of_another(subject: Subject) -> None:
    provider = subject.look()
    assert others(provider, subject.free) == []
    found = others(provider, subject.used)
    assert found
    assert {identity for identity, _ in provider.gather([subject.used])} == {subject.used.identity}


def test_of_many_images_it_says_what_it_says_of_each(subject: Subject) -> None:
    provider = subject.look()
    many = others(provider, subject.free, subject.used)
    assert many == others(provider, subject.free) + others(provider, subject.used)
    assert list(provider.gather([])) == []


def test_for_an_image_of_a_kind_that_it_does_not_know_it_does_not_speak(subject: Subject) -> None:
    unknown = MemoryImage(Contents())
    provider = subject.look()
    assert not provider.speaks_for(unknown)
    assert list(provider.gather([unknown])) == []
