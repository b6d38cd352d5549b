"""The configuration: several files make one, and an error in any of them counts for all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from virtstore.agent import config
from virtstore.backends.files.root import DirectoryRoot
from virtstore.errors import Denied, Error


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that stands for /etc/virtstore, with nothing in it."""
    (tmp_path / "conf.d").mkdir()
    monkeypatch.setattr(config, "SYSTEM_FILE", f"{tmp_path}/config.toml")
    monkeypatch.setattr(config, "SYSTEM_DIRECTORY", f"{tmp_path}/conf.d")
    monkeypatch.setenv("XDG_CONFIG_HOME", f"{tmp_path}/home")
    monkeypatch.delenv("VIRTSTORE_CONFIG", raising=False)
    return tmp_path


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o644)
    return str(path)


def test_no_file_allows_nothing(etc: Path) -> None:
    found = config.load(None)
    assert (found.roots, found.sources) == ((), ())


def test_a_whole_file_is_understood(etc: Path) -> None:
    file = write(
        etc / "config.toml",
        '[[directory]]\npath = "/mnt/images"\naccess = "write"\nmode = "0640"\n'
        'owner = "root"\ngroup = 7\nformat = "qcow2"\n'
        '[[volume_group]]\nname = "vg0"\naccess = "append"\n'
        '[limits]\nmax_image_size = "2T"\nmount_guest_filesystems = true\n',
    )
    found = config.load(None)
    directory, group = found.roots
    assert isinstance(directory, DirectoryRoot)
    new = directory.new_files
    assert (directory.path, directory.access) == ("/mnt/images", "write")
    assert (new.mode, new.owner, new.group) == (0o640, 0, 7)
    assert directory.format == "qcow2"
    assert (group.path, group.access) == ("/dev/vg0", "append")
    assert found.limits.largest == 2 << 40
    assert found.limits.mount_guest_filesystems
    assert found.sources == (file,)


def test_what_is_not_said_is_the_least(etc: Path) -> None:
    write(etc / "config.toml", '[[directory]]\npath = "/x"\n[[volume_group]]\nname = "vg0"\n')
    found = config.load(None)
    assert [root.access for root in found.roots] == ["read", "read"]
    assert isinstance(found.roots[0], DirectoryRoot)
    assert found.roots[0].new_files.mode == 0o600
    assert found.roots[0].format == "raw"
    assert found.limits.largest is None
    assert not found.limits.mount_guest_filesystems


def test_later_files_add_roots_and_replace_limits_one_by_one(etc: Path) -> None:
    root = '[[directory]]\npath = "{}"\n'
    write(
        etc / "config.toml",
        root.format("/a") + '[limits]\nmax_image_size = "1G"\nmount_guest_filesystems = true\n',
    )
    write(etc / "conf.d" / "20-c.toml", root.format("/c") + '[limits]\nmax_image_size = "3G"\n')
    write(etc / "conf.d" / "10-b.toml", root.format("/b") + '[limits]\nmax_image_size = "2G"\n')
    write(etc / "conf.d" / "notes.txt", "this is not TOML")
    found = config.load(None)
    assert [each.path for each in found.roots] == ["/a", "/b", "/c"]
    assert found.limits.largest == 3 << 30
    assert found.limits.mount_guest_filesystems
    assert len(found.sources) == 3


def test_a_user_has_a_configuration_of_his_own(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(etc / "config.toml", '[[directory]]\npath = "/a"\n')
    own = write(etc / "home" / "virtstore" / "config.toml", '[[directory]]\npath = "/own"\n')
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert config.configuration_files(None) == (f"{etc}/config.toml",)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() or 1000)
    assert config.configuration_files(None) == (own,)
    assert config.load(None).file_to_write == own


def test_the_command_line_comes_before_the_environment(
    etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTSTORE_CONFIG", "/from/environment")
    assert config.configuration_files("/from/line") == ("/from/line",)
    assert config.configuration_files(None) == ("/from/environment",)


def test_a_file_that_was_named_must_be_there(etc: Path) -> None:
    with pytest.raises(Error, match=r"no\.toml cannot be read: No such file"):
        config.load(f"{etc}/no.toml")


@pytest.mark.parametrize(
    "text",
    [
        "directory = 5",
        '[directory]\npath = "/x"',
        "[[directory]]",
        '[[directory]]\npath = "x"',
        '[[directory]]\npath = ""',
        '[[directory]]\npath = "./x"',
        '[[directory]]\npath = "/x/../y"',
        '[[directory]]\npath = "/x\\ny"',
        '[[directory]]\npath = "/x\\u0000"',
        '[[directory]]\npath = "/x"\nowner = -1',
        '[[directory]]\npath = "/x"\ngroup = 4294967295',
        '[[directory]]\npath = "/x"\naccess = "all"',
        '[[directory]]\npath = "/x"\nacess = "write"',
        '[[directory]]\npath = "/x"\nmode = 600',
        '[[directory]]\npath = "/x"\nmode = "0999"',
        '[[directory]]\npath = "/x"\nowner = "no-such-user-here"',
        '[[directory]]\npath = "/x"\ngroup = "no-such-group-here"',
        '[[volume_group]]\npath = "/dev/vg0"',
        "[limits]\nmax_image_size = 0",
        '[limits]\nmax_image_size = "lots"',
        "[limits]\nmax_image_size = true",
        '[limits]\nmount_guest_filesystems = "no"',
        "[limits]\nmax_images = 3",
        "[[dirctory]]",
        "this is not TOML",
    ],
)
def test_what_makes_no_sense_is_refused_whole(etc: Path, text: str) -> None:
    file = write(etc / "c.toml", text)
    with pytest.raises(Error) as raised:
        config.load(file)
    assert raised.value.code == "failed"
    assert "configuration" in raised.value.message


def test_a_file_that_is_not_text_is_refused(etc: Path) -> None:
    (etc / "c.toml").write_bytes(b"\xff\xfe\x00")
    (etc / "c.toml").chmod(0o600)
    with pytest.raises(Error, match="is not TOML"):
        config.load(f"{etc}/c.toml")


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666, 0o620])
def test_a_file_that_others_could_have_written_is_refused(etc: Path, mode: int) -> None:
    file = write(etc / "c.toml", '[[directory]]\npath = "/x"\n')
    os.chmod(file, mode)
    with pytest.raises(Denied, match=f"chmod go-w {file}"):
        config.load(file)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_refused(etc: Path) -> None:
    file = write(etc / "c.toml", '[[directory]]\npath = "/x"\n')
    os.chown(file, 4711, 4711)
    with pytest.raises(Denied, match="could have been written by others"):
        config.load(file)


def test_one_bad_file_in_conf_d_spoils_the_whole(etc: Path) -> None:
    write(etc / "config.toml", '[[directory]]\npath = "/a"\n')
    write(etc / "conf.d" / "x.toml", "unknown = 1\n")
    with pytest.raises(Error, match=r"config\.toml and .*x\.toml is wrong: .*/x\.toml, line 1"):
        config.load(None)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('mode = "0999"', r'\'0999\' is none; write it in octal, as "0600"'),
        ('mode = "4755"', "'4755' is none"),
        ('mode = "-1"', "'-1' is none"),
        ('owner = "no-such-user"', "there is no user 'no-such-user' here"),
        ('group = "no-such-group"', "there is no group 'no-such-group' here"),
    ],
)
def test_a_wrong_mode_or_owner_is_named(etc: Path, line: str, says: str) -> None:
    file = write(etc / "c.toml", f'[[directory]]\npath = "/x"\n{line}\n')
    with pytest.raises(Error, match=says):
        config.load(file)


@pytest.mark.parametrize(
    "line",
    [
        f"[limits]\nmax_image_size = {'9' * 5000}",
        f'[limits]\nmax_image_size = "{"9" * 5000}"',
        "[limits]\nmax_image_size = -1",
        "[limits]\nmax_image_size = inf",
        "[limits]\nmax_image_size = 1e400",
        '[limits]\nmax_image_size = "\u0663G"',
        f'[[directory]]\npath = "/x"\nowner = {"9" * 5000}',
        '[[directory]]\npath = "/x"\nowner = -2',
        '[[directory]]\npath = "/x"\ngroup = 99999999999999999999',
        "x = " + "[" * 5000 + "]" * 5000,
    ],
    ids=range(10),
)
def test_a_number_that_nothing_can_have_is_a_configuration_s_error(etc: Path, line: str) -> None:
    write(etc / "config.toml", line + "\n")
    with pytest.raises(Error) as caught:
        config.load(None)
    assert len(caught.value.message) < 1000
