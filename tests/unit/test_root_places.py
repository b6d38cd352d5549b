"""Which directories may be roots, by their names alone."""

from __future__ import annotations

import os
import pwd

import pytest

from virtstore.backends.files.places import no_place_for_images


@pytest.mark.parametrize(
    "path",
    [
        "/", "/etc", "/etc/virtstore", "/etc/cron.d", "/usr", "/usr/bin", "/usr/lib/x",
        "/boot", "/boot/efi", "/bin", "/sbin", "/lib", "/lib64", "/var", "/var/lib", "/var/log/x",
        "/var/spool/cron", "/root", "/root/.ssh", "/home", "/dev", "/proc", "/proc/1", "/sys",
        "/tmp", "/opt", "/run", "/usr/local",
    ],
)  # fmt: skip
def test_the_systems_own_directories_are_no_place_for_images(path: str) -> None:
    assert "the system's own" in (no_place_for_images(path) or "")


@pytest.mark.parametrize(
    "path",
    [
        "/srv", "/srv/images", "/mnt", "/mnt/images", "/var/lib/libvirt/images", "/var/lib/vz",
        "/home/alice/images", "/root/images", "/opt/images", "/data", "/etcetera", "/usr2",
        "/var/tmp/x", "/media/disk", "/export", "/rhev/data-center/x", "/bootstrap",
    ],
)  # fmt: skip
def test_a_directory_for_images_is_one(path: str) -> None:
    assert no_place_for_images(path) is None


def test_the_home_of_the_agents_own_user_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may make an image there could make one that is called .ssh/authorized_keys."""
    user = pwd.struct_passwd(("alice", "x", 4711, 4711, "", "/srv/backups", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: user)
    for path in ("/srv/backups", "/srv/backups/.ssh"):
        assert "files and keys" in (no_place_for_images(path) or "")
    assert no_place_for_images("/srv/backups/images") is None


def test_a_user_without_a_home_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000_000)
    assert no_place_for_images("/srv/images") is None
