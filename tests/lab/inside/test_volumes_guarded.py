"""A volume whose file system is being shrunk is the old one or the new one, whatever happens."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import virtstore

from ...waiting import until
from .shell import MIB, lvs, rest_has, sh

SIZE = 48 * MIB
_FAKES = Path("/run/fakes")
#: Stands in for resize2fs where that would change something: it spoils the file system.
_SPOILER = """#!/bin/sh
for word; do
    case $word in
        */resize2fs) spoils=yes ;;
        -P) spoils= ;;
        /proc/self/fd/*) device=$word ;;
    esac
done
[ -n "$spoils" ] || exec /usr/bin/bwrap "$@"
tr '\\0' '\\252' </dev/zero | dd of="$device" bs=1M count=20 seek=2 conv=notrunc,fsync 2>/dev/null
%s
"""


#: Of what power cuts show for both (test_power_cuts_resize.py), one is enough here.
THICK, THIN = (pytest.param(kind, marks=pytest.mark.torture) for kind in ("thick", "thin"))
#: What makes a tool go on until it is killed, and says that it does.
GOES_ON = f"echo $$ >{_FAKES}/running; exec sleep 600"


@pytest.fixture(params=["thick", "thin"])
def volume(request: pytest.FixtureRequest, here: virtstore.Host) -> virtstore.Image:
    """A volume with an ext4 file system full of files."""
    thin = None
    if request.param == "thin":
        sh("lvcreate -qq -y -T -Zn -L 140M vg0/pool")
        thin = "pool"
    image = here.create("/dev/vg0/web", SIZE, thin=thin)
    sh("mkfs.ext4 -q -d /usr/share/perl5/Debconf /dev/vg0/web")
    return image


@pytest.fixture
def spoiled() -> Iterator[str]:
    """PATH for an agent whose resize2fs spoils what it works on; how it ends is put into place
    of `{end}` by `spoil`."""
    _FAKES.mkdir()
    yield f"{_FAKES}:{os.environ['PATH']}"
    sh(f"rm -r {_FAKES}")


def spoil(end: str) -> None:
    fake = _FAKES / "bwrap"
    fake.write_text(_SPOILER % end)
    fake.chmod(0o755)


def contents(path: str = "/dev/vg0/web") -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.mark.parametrize("volume", ["thick", THIN], indirect=True)
def test_a_shrunk_volume_leaves_nothing_of_its_guard(volume: virtstore.Image) -> None:
    before = lvs("-a")
    done = volume.resize("minimum")
    assert (done.size or SIZE) < SIZE
    sh("e2fsck -fn /dev/vg0/web")
    assert lvs("-a") == before
    assert sh("lvs --noheadings -o lv_tags vg0").split() == []


@pytest.mark.parametrize("volume", ["thick"], indirect=True)
def test_a_shrink_that_fails_leaves_every_byte_as_it_was(
    volume: virtstore.Image, spoiled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents()
    spoil("exit 1")
    monkeypatch.setenv("PATH", spoiled)
    with virtstore.connect() as host, pytest.raises(virtstore.Error, match="resize2fs"):
        host.image(volume.path).resize("minimum")
    assert contents() == before
    assert lvs() - {"pool"} == {"web"}
    sh("e2fsck -fn /dev/vg0/web")


@pytest.mark.parametrize("volume", [THICK, "thin"], indirect=True)
def test_after_a_crash_the_next_agent_writes_back_what_was_there(
    volume: virtstore.Image, spoiled: str
) -> None:
    before = contents()
    spoil(GOES_ON)
    _crash(spoiled)
    # No domain can start from what is neither the old nor the new.
    assert not Path("/dev/vg0/web").exists()
    with virtstore.connect() as host:
        assert [e.path for e in host.list("/dev/vg0")] == ["/dev/vg0/web"]
        assert [e.state for e in host.list("/dev/vg0")] == ["complete"]
        assert contents() == before
        assert host.image(volume.path).resize("minimum").changed
    sh("e2fsck -fn /dev/vg0/web")
    assert lvs() - {"pool"} == {"web"}


@pytest.mark.parametrize("volume", ["thick"], indirect=True)
def test_a_guard_that_lvm_made_half_is_not_written_back(volume: virtstore.Image) -> None:
    """lvcreate, stopped before it makes a snapshot of the volume that it begins with."""
    before = contents()
    sh("lvchange -qq --addtag virtstore.shrinking vg0/web")
    sh("lvrename -qq vg0 web web.virtstore-shrinking")
    sh("lvcreate -qq -y -Wn -Zn -L 52M --addtag virtstore.undo -n web.virtstore-undo vg0")
    assert [entry.path for entry in volume.host.list("/dev/vg0")] == [volume.path]
    assert (lvs("-a"), contents()) == ({"web"}, before)
    assert sh("lvs --noheadings -o lv_tags vg0").split() == []


@pytest.mark.parametrize("volume", ["thin"], indirect=True)
def test_nobody_else_touches_a_volume_while_a_tool_that_outlived_its_agent_works_on_it(
    volume: virtstore.Image, spoiled: str
) -> None:
    spoil(GOES_ON)
    running = _start(spoiled)
    _kill_agent(running)
    try:
        with virtstore.connect() as host:
            assert [e.state for e in host.list("/dev/vg0")] == ["partial"]
            assert host.clean("/dev/vg0").removed == ()
            for ask in (volume.delete, volume.growfs, lambda: host.create(volume.path, MIB)):
                with pytest.raises(virtstore.InUse):
                    ask()
    finally:
        _kill_tool()
    with virtstore.connect() as host:
        assert [e.state for e in host.list("/dev/vg0")] == ["complete"]
    sh("e2fsck -fn /dev/vg0/web")


def test_what_the_guard_kept_shows_in_no_free_space(here: virtstore.Host) -> None:
    image = here.create("/dev/vg0/web", SIZE)
    sh("mkfs.ext4 -q /dev/vg0/web && mkdir -p /run/m && mount /dev/vg0/web /run/m")
    sh("tr '\\0' '\\314' </dev/zero | dd of=/run/m/low bs=1M count=4 status=none")
    sh("fallocate -l 20M /run/m/hole")
    sh("tr '\\0' '\\314' </dev/zero | dd of=/run/m/high bs=1M count=8 status=none")
    sh("rm /run/m/hole; umount /run/m")
    image.shrinkfs("minimum")
    assert not rest_has(b"\xcc")


def test_a_volume_with_snapshots_is_refused_before_anything_is_shrunk(
    here: virtstore.Host,
) -> None:
    image = here.create("/dev/vg0/web", SIZE)
    sh("mkfs.ext4 -q /dev/vg0/web")
    image.snapshot("web-s")
    before = contents()
    with pytest.raises(virtstore.InUse, match=r"web-s.*shrinkfs"):
        image.resize("minimum")
    assert contents() == before


def test_without_room_for_a_guard_it_shrinks_all_the_same(here: virtstore.Host) -> None:
    image = here.create("/dev/vg0/web", SIZE)
    sh("mkfs.ext4 -q /dev/vg0/web && lvcreate -qq -y -l 100%FREE -n rest vg0")
    assert (image.resize("minimum").size or SIZE) < SIZE
    sh("e2fsck -fn /dev/vg0/web")
    assert lvs() == {"web", "rest"}


def _start(path: str) -> subprocess.Popen[bytes]:
    """A shrink that has spoiled the file system and goes on."""
    argv = ["virtstore", "resize", "/dev/vg0/web", "minimum"]
    running = subprocess.Popen(
        argv, env={**os.environ, "PATH": path}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until(lambda: _tool() or running.poll() is not None, "resize2fs was run")
    assert running.poll() is None
    return running


def _crash(path: str) -> None:
    """The agent and its tool die in the middle of it."""
    running = _start(path)
    _kill_agent(running)
    _kill_tool()


def _kill_agent(running: subprocess.Popen[bytes]) -> None:
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    running.wait(30)


def _kill_tool() -> None:
    pid = _tool()
    os.killpg(os.getpgid(pid), signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}").exists(), "it has ended")


def _tool() -> int:
    """The spoiler that is done with spoiling, and goes on; 0 if there is none."""
    told = _FAKES / "running"
    return int(told.read_text() or 0) if told.exists() else 0
