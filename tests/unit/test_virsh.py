"""What libvirt's refusals tell."""

from __future__ import annotations

import pytest

from virtstore.errors import Error
from virtstore.libvirt import virsh
from virtstore.libvirt.backup_job import Backup

BACKUP = Backup("u", "vda", ("vda",), "/nowhere/socket", "/nowhere/scratch", 1)


@pytest.mark.parametrize(
    ("said", "gone"),
    [
        ("error: failed to get domain 'x'", True),
        ("error: Requested operation is not valid: domain is not running", True),
        ("error: Failed to connect socket to '/run/libvirt/libvirt-sock': No such file", False),
        ("virsh did not end within 60 s and was stopped", False),
    ],
)
def test_a_domain_is_gone_only_where_libvirt_says_so(said: str, gone: bool) -> None:
    assert virsh.says_gone(Error(said)) is gone


def test_a_job_of_a_libvirt_that_does_not_answer_is_not_taken_for_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def call(*words: str, timeout: float = 60) -> str:
        asked.append(words[0])
        if len(asked) == 1:
            raise Error("libvirt refused backup-dumpxml: error: Failed to connect socket")
        raise Error("libvirt refused it: error: no domain backup job present")

    monkeypatch.setattr(virsh, "call", call)
    BACKUP.end()
    assert asked[:2] == ["backup-dumpxml", "backup-dumpxml"]
