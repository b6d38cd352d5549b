"""What is said of a wrong configuration: the line, and what to write there instead."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from virtstore.agent import config
from virtstore.errors import Error

ROOT = '[[directory]]\npath = "/x"\n'


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('\n[directory]\npath = "/x"', 2, r"write \[\[directory\]\]"),
        ('[volume_group]\nname = "vg0"', 1, r"write \[\[volume_group\]\]"),
        ("directory = 5", 1, r"write \[\[directory\]\]"),
        ('directory = ["/x"]', 1, r"write \[\[directory\]\]"),
        ('[[limits]]\nmax_image_size = "2T"', 1, r"write \[limits\]"),
        ("limits = 5", 1, r"write \[limits\]"),
        (f'{ROOT}\n{ROOT.replace("x", "y")}acess = "write"', 6, "did you mean access?"),
        (f'# acess\n{ROOT}"acess" = "write"', 4, "did you mean access?"),
        ('[[volume_group]]\nnam = "vg0"', 2, "did you mean name?"),
        ("[limits]\nmax_images = 3", 2, "did you mean max_image_size?"),
        ("[[dirctory]]", 1, "did you mean directory?"),
        ("[quotas]\nx = 1", 1, "there are directory, block_device, volume_group, rbd_pool, bucket"),
        ('sources = ["x"]', 1, "there is no 'sources'"),
        ("[[directory]]\n[[volume_group]]", 1, 'path = "…" is missing'),
        (f"{ROOT}[[volume_group]]", 3, 'name = "…" is missing'),
        (f'{ROOT}access = "rw"', 3, 'cannot be "rw"; it is "read" or "append" or "write"'),
        (f"{ROOT}access = true", 3, "cannot be true; it is"),
        (f"{ROOT}mode = 600", 3, "cannot be 600; it is a text in quotes"),
        (f'{ROOT}volatile = "yes"', 3, "true or false, without quotes"),
        (f'{ROOT}format = "vmdk"', 3, 'cannot be "vmdk"; it is "raw" or "qcow2"'),
        (f"{ROOT}owner = 1.5", 3, "a text in quotes, as .* or a number"),
        ('[limits]\nmount_guest_filesystems = "true"', 2, "true or false, without quotes"),
        (f'{ROOT}mode = "0999"', 3, "write it in octal"),
        (f'{ROOT}owner = "no-such-user-here"', 3, "there is no user"),
        (f"{ROOT}group = -1", 3, "there is no group"),
        (f'{ROOT}[[directory]]\naccess = "read"\npath = "/x/"', 5, "is there twice"),
        (f'{ROOT}[limits]\nmax_image_size = "2X"', 4, "'2X' is not a size"),
        ('[[volume_group]]\nname = "/dev/vg0"', 2, "it is what vgs shows"),
        ('[[directory]]\n\npath = "~/images"', 3, f"write '{os.path.expanduser('~/images')}'"),
        ('[[directory]]\npath = "$HOME/images"', 2, f"write '{os.environ['HOME']}/images'"),
        ('[[directory]]\npath = "images"', 2, "it is not absolute"),
        ('[[directory]]\npath = "/x/../y"', 2, r"it has a '\.\.' in it"),
    ],
)
def test_the_line_and_the_remedy_are_told(tmp_path: Path, text: str, line: int, says: str) -> None:
    file = tmp_path / "c.toml"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(Error, match=f"{file} is wrong: line {line}: .*{says}") as raised:
        config.load(str(file))
    assert "msgspec" not in raised.value.message
    assert "`" not in raised.value.message


@pytest.mark.parametrize(
    "text", ["[limits] mount_guest_filesystems = true", f"{ROOT}mode = 0600", '[x]\ny = "z\n']
)
def test_what_is_no_toml_is_told_with_its_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "c.toml"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(Error, match=r"is not TOML: .*line \d.*a line of its own"):
        config.load(str(file))


def test_of_several_files_the_wrong_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "SYSTEM_FILE", "/nonexistent")
    monkeypatch.setattr(config, "SYSTEM_DIRECTORY", str(tmp_path))

    monkeypatch.setenv("VIRTSTORE_CONFIG", "")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/nonexistent")
    for name in ("1.toml", "2.toml"):
        (tmp_path / name).write_text(ROOT)
        (tmp_path / name).chmod(0o600)
    with pytest.raises(Error, match=f"{tmp_path}/2.toml, line 2: directory '/x' is there twice"):
        config.load(None)
