"""Directories that are configured and may be no roots: what is said, and that nothing is made."""

from __future__ import annotations

import os
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

from .test_agent_commands import images, told, virtstore

__all__ = ["images"]  # a fixture

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts and gives files away")


def configure(*roots: object, more: str = "") -> None:
    text = "".join(f'[[directory]]\npath = "{root}"\naccess = "write"\n{more}' for root in roots)
    Path(os.environ["VIRTSTORE_CONFIG"]).write_text(text)


def mounting(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """Agents see what a shell line mounts; nothing else on this machine does."""
    agent = f"{line} && exec {shlex.quote(sys.executable)} -P -m virtstore.agent"
    monkeypatch.setenv("VIRTSTORE_AGENT", shlex.join(["unshare", "--mount", "sh", "-c", agent]))


@as_root
@pytest.mark.parametrize("root", ["/dev", "/proc", "/sys", "/dev/pts", "/etc", "/usr/../usr/bin"])
def test_no_image_is_made_among_what_is_the_systems(images: Path, root: str) -> None:
    configure(root.replace("/usr/../", "/"))
    refused = f"{root.replace('/usr/../', '/')}/virtstore-test.img"
    assert told("create", refused, "1M", status=5)["error"]["code"] == "denied"
    told("copy", images / "x.img", refused, status=5)
    assert not Path(refused).exists()


@as_root
@pytest.mark.parametrize("source", ["/", "/etc", "/usr/lib", "/proc", "/sys"])
def test_a_bind_mount_is_no_way_around(
    images: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    mounting(monkeypatch, f"mount --bind {source} {images}")
    before = os.listdir(source)
    told("create", images / "virtstore-test.img", "1M", status=5)
    link = images.parent / "link"
    link.symlink_to(source)
    configure(link)
    told("create", link / "virtstore-test.img", "1M", status=5)
    assert "virtstore-test.img" not in set(os.listdir(source)) - set(before)


@as_root
@pytest.mark.parametrize("kind", ["tmpfs", "ramfs"])
def test_a_root_in_memory_wants_the_line_that_is_shown(
    images: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    mounting(monkeypatch, f"mount -t {kind} -o mode=755 none {images}")
    message = told("create", images / "new.img", "1M", status=5)["error"]["message"]
    assert os.environ["VIRTSTORE_CONFIG"] in message
    line = message.partition("\n\n")[2]
    assert tomllib.loads(line) == {"volatile": True}
    text = virtstore("storage-info").stdout
    assert f"in {os.environ['VIRTSTORE_CONFIG']}: volatile = true\n" in text
    configure(images, more=line)
    if kind == "tmpfs":  # the other has no bound, and so no free space to tell
        assert told("create", images / "new.img", "1M")["changed"]
    else:
        assert told("list", images) == []


@as_root
def test_an_ordinary_bind_mount_is_a_root(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = images.parent / "o t\\her"
    other.mkdir(mode=0o755)
    mounting(monkeypatch, f"mount --bind {images} {shlex.quote(str(other))}")
    Path(os.environ["VIRTSTORE_CONFIG"]).write_text(f"[[directory]]\npath = '{other}'\n")
    assert [each["path"] for each in told("list", other)] == [f"{other}/x.img"]


@as_root
def test_a_pool_of_another_user_is_told_how_to_be_managed(images: Path) -> None:
    for uid, name in ((1, "daemon"), (4711, "#4711")):
        os.chown(images, uid, -1)
        message = told("list", images, status=5)["error"]["message"]
        agent = message.partition("VIRTSTORE_AGENT=")[2]
        [words, *_] = shlex.split(agent.partition(", or by ssh")[0])
        assert shlex.split(words) == ["sudo", "-u", name, "virtstore-agent"]


@as_root
def test_a_pool_of_a_group_is_told_how_to_be_managed(images: Path) -> None:
    os.chown(images, -1, 1)
    images.chmod(0o2775)
    message = told("list", images, status=5)["error"]["message"]
    assert "the group daemon has to" in message
    assert "let the agent run as that owner" in message


def test_a_refused_root_is_shown_with_its_reason_although_there_is_no_other(images: Path) -> None:
    images.chmod(0o777)
    info = told("storage-info")
    assert (info["directories"], len(info["warnings"])) == ([], 1)
    assert "others can write to this root" in info["warnings"][0]
    text = virtstore("storage-info").stdout
    assert "nothing is configured" not in text
    assert f"warning: {images}: others can write" in text
    other = images.parent / "other"
    other.mkdir(mode=0o755)
    configure(images, other)
    text = virtstore("storage-info").stdout
    assert f"warning: {images}: others can write" in text
    assert str(other) in text


def test_a_restriction_that_leaves_nothing_is_told(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = f"{sys.executable} -P -m virtstore.agent --restrict-to /srv/typo"
    monkeypatch.setenv("VIRTSTORE_AGENT", agent)
    shown = virtstore("list", "local:", status=5).stderr
    for text in (virtstore("storage-info").stdout, shown):
        assert "restricted to /srv/typo" in text
        assert "nothing is configured" not in text


def test_a_variable_that_does_not_count_is_told_where_nothing_is_configured(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sudo = f"env SUDO_UID={os.geteuid() + 4711} SUDO_COMMAND=/usr/bin/virtstore-agent"
    monkeypatch.setenv("VIRTSTORE_AGENT", f"{sudo} {sys.executable} -P -m virtstore.agent")
    info = told("storage-info")
    if not info["directories"]:  # this machine's own configuration may allow something
        assert "VIRTSTORE_CONFIG is ignored" in info["warnings"][0]
        assert "nothing is configured" not in virtstore("storage-info").stdout


def test_a_configuration_below_a_root_that_holds_everything_is_not_sent_to_another_place_there(
    images: Path,
) -> None:
    configure(Path("/"))
    message = told("info", images / "x.img", status=5)["error"]["message"]
    assert "lies below /, a directory of images" in message
    assert message.endswith("configure another directory")
