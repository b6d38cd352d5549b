"""Whose a copy's snapshot is: told apart from every other process that had its number."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from virtstore.backends.owner import Owner


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose name looks like the fields behind it."""
    program = tmp_path / "a) S 1 (b"
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([str(program), "60"], stdout=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def _owner(pid: int) -> Owner:
    """What that process would write of itself."""
    start = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[19]
    return msgspec.structs.replace(Owner.here(), pid=pid, start=int(start))


def test_this_process_is_alive_and_its_text_says_who_it_is() -> None:
    here = Owner.here()
    assert here.pid == os.getpid()
    assert here.is_alive()
    assert Owner.parse(here.text) == here


def test_the_text_is_a_valid_lvm_tag() -> None:
    # lvm(8): at most 1024 of these, not beginning with a hyphen.
    assert set(Owner.here().text) <= set("0123456789abcdef.")


def test_a_process_is_known_whatever_it_is_called(other: subprocess.Popen[bytes]) -> None:
    assert _owner(other.pid).is_alive()


def test_a_process_that_has_ended_is_not_alive(other: subprocess.Popen[bytes]) -> None:
    owner = _owner(other.pid)
    other.kill()
    other.wait()
    assert not owner.is_alive()


@pytest.mark.parametrize("change", [{"start": 1}, {"boot": "0" * 32}])
def test_another_process_with_the_same_number_is_not_the_owner(change: dict[str, object]) -> None:
    assert not msgspec.structs.replace(Owner.here(), **change).is_alive()


@pytest.mark.parametrize("text", ["", ".", "..", "boot", "boot.1", "boot.x.1", "boot.1.", "b.-1.2"])
def test_what_nobody_of_ours_wrote_names_no_owner(text: str) -> None:
    assert Owner.parse(text) is None
