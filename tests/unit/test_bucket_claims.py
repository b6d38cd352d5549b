"""Whether whoever wrote a claim is there still."""

from __future__ import annotations

import os
import subprocess

import msgspec
import pytest

from virtstore.backends.bucket import claims
from virtstore.backends.bucket.claims import Writer


def test_this_process_is_not_gone() -> None:
    assert claims.myself().is_gone is False


def test_a_process_of_another_machine_cannot_be_seen() -> None:
    assert msgspec.structs.replace(claims.myself(), kernel="another").is_gone is None


def ended() -> Writer:
    """A process that is no more."""
    with subprocess.Popen(["true"]) as process:
        pass
    return msgspec.structs.replace(claims.myself(), process=process.pid)


def test_a_process_that_ended_is_gone_and_so_is_one_whose_number_has_another() -> None:
    assert ended().is_gone is True
    assert msgspec.structs.replace(claims.myself(), started="1").is_gone is True
    assert msgspec.structs.replace(ended(), process=10**30).is_gone is True


def test_a_process_of_a_user_whose_processes_are_hidden_is_not_taken_for_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where /proc is mounted with hidepid, it looks as if it had ended."""

    def refuse(process: int, signal: int) -> None:
        raise PermissionError

    writer = ended()
    monkeypatch.setattr(os, "kill", refuse)
    assert writer.is_gone is None
