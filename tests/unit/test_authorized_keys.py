"""A line of authorized_keys: once, whole, and never somewhere else."""

from __future__ import annotations

import errno
import os
import shlex
import stat
from pathlib import Path
from typing import Final

import pytest

from virtstore.bare_host import authorized_keys
from virtstore.bare_host.places import Refused
from virtstore.client import public_key
from virtstore.errors import UsageError

DATA: Final = "AAAAC3NzaC1lZDI1NTE5AAAAIFd8qEc8yfjCzlmDe6gWlL1pVP9T9jdqVpkHzsfPqyIy"
KEY: Final = public_key.PublicKey("ssh-ed25519", DATA, "backup@b")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(authorized_keys, "own_home", lambda: str(tmp_path))
    return tmp_path


def line(directory: str = "/srv/backups", access: str = "append") -> str:
    return KEY.line(public_key.agent_command("virtstore-agent", directory, access))


def add(text: str, *, dry_run: bool = False) -> bool:
    return authorized_keys.authorize(text, KEY.data, dry_run=dry_run)


def test_a_line_restricts_its_key_to_an_agent() -> None:
    assert line() == (
        'restrict,command="virtstore-agent --restrict-to /srv/backups --access append"'
        f" ssh-ed25519 {DATA} backup@b"
    )


def test_a_line_is_added_once(home: Path) -> None:
    file = home / ".ssh" / "authorized_keys"
    assert add(line())
    assert file.read_text() == line() + "\n"
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(file.parent.stat().st_mode)) == (
        0o600,
        0o700,
    )
    assert not add(line())
    assert file.read_text() == line() + "\n"


def test_others_lines_and_the_files_mode_stay(home: Path) -> None:
    file = home / ".ssh" / "authorized_keys"
    file.parent.mkdir(0o700)
    file.write_text(f"# {DATA}\nssh-rsa AAAA another")  # and no line break
    file.chmod(0o640)
    assert add(line())
    assert file.read_text() == f"# {DATA}\nssh-rsa AAAA another\n{line()}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert os.listdir(file.parent) == ["authorized_keys"]


def test_a_dry_run_changes_nothing(home: Path) -> None:
    assert add(line(), dry_run=True)
    assert os.listdir(home) == []


@pytest.mark.parametrize("there", [f"ssh-ed25519 {DATA}", line("/srv"), line(access="write")])
def test_the_same_key_with_another_line_is_refused_and_shown(home: Path, there: str) -> None:
    file = home / ".ssh" / "authorized_keys"
    file.parent.mkdir(0o700)
    file.write_text(there + "\n")
    with pytest.raises(Refused, match="another line") as refused:
        add(line())
    assert there in refused.value.message
    assert file.read_text() == there + "\n"


def test_a_link_of_ones_own_stays_a_link(home: Path) -> None:
    (home / ".ssh").mkdir(0o700)
    (home / "keys").write_text("")
    (home / ".ssh" / "authorized_keys").symlink_to("../keys")
    assert add(line())
    assert (home / ".ssh" / "authorized_keys").is_symlink()
    assert (home / "keys").read_text() == line() + "\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes another user's link")
def test_a_link_of_another_user_is_not_followed(home: Path) -> None:
    (home / ".ssh").mkdir(0o700)
    (home / "target").write_text("")
    link = home / ".ssh" / "authorized_keys"
    link.symlink_to(home / "target")
    os.chown(link, 12345, 12345, follow_symlinks=False)
    with pytest.raises(Refused, match="another user"):
        add(line())
    assert (home / "target").read_text() == ""


@pytest.mark.parametrize(
    "directory",
    ["/a b", "/it's", '/say "x"', '/a" ssh-rsa AAAA', "/$(id)", "/`id`;x", '/back\\"slash\\', "/ä"],
)
def test_no_path_breaks_out_of_the_command(directory: str) -> None:
    text = line(directory)
    start = text.index('"') + 1
    command, rest = _as_sshd_reads(text[start:])
    assert rest == f" ssh-ed25519 {DATA} backup@b"
    assert shlex.split(command)[1:] == ["--restrict-to", directory, "--access", "append"]


def _as_sshd_reads(text: str) -> tuple[str, str]:
    """A quoted value and what is behind it, as opt_dequote() of OpenSSH's misc.c has it."""
    value, at = "", 0
    while text[at] != '"':
        at += text[at : at + 2] == '\\"'
        value += text[at]
        at += 1
    return value, text[at + 1 :]


@pytest.mark.parametrize("directory", ["relative", "", "/a\nb", "/a\0b", "/\x1b[2J", "/\udc80"])
def test_a_path_that_a_line_cannot_hold_is_refused(directory: str) -> None:
    with pytest.raises(UsageError):
        line(directory)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", r"private key.*name .*\.pub"),
        ("", "no public key"),
        (f'command="x" ssh-ed25519 {DATA}', "no public key"),
        (f"ssh-rsa {DATA}", "no public key"),
        (f"ssh-ed25519 {DATA}\nssh-ed25519 {DATA}", "no public key"),
        ("ssh-ed25519 not,base64", "no public key"),
        (f"ssh-ed25519-cert-v01@openssh.com {DATA}", "no public key"),
    ],
)
def test_what_is_no_public_key_is_refused(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "key"
    file.write_text(text)
    with pytest.raises(UsageError, match=says):
        public_key.read(str(file))


def test_a_comment_cannot_begin_a_line(tmp_path: Path) -> None:
    file = tmp_path / "key.pub"
    file.write_text(f"# mine\nssh-ed25519 {DATA} back\x7fup\x1b\n")
    assert public_key.read(str(file)) == ("ssh-ed25519", DATA, "backup")


def test_a_full_disk_leaves_the_keys_as_they_were_and_nothing_beside_them(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(line())
    before = (home / ".ssh" / "authorized_keys").read_text()

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    other = line().replace(KEY.data, "AAAAother")
    with pytest.raises(OSError, match="No space left"):
        authorized_keys.authorize(other, "AAAAother", dry_run=False)
    left = {each.name: each.read_text() for each in (home / ".ssh").iterdir()}
    assert left == {"authorized_keys": before}
