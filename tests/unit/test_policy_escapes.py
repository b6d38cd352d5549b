"""Ways out of a root that somebody could lay: links, mounts, special files, and races."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from tests.waiting import PATIENCE

from virtstore.agent.config import Config
from virtstore.agent.policy import Policy
from virtstore.backends.files import places
from virtstore.backends.files.root import DirectoryRoot
from virtstore.errors import Denied, NotFound


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root, beside a directory that is none and that has a secret."""
    for name, text in (("images", b"inside"), ("outside", b"secret")):
        (tmp_path / name / "sub").mkdir(parents=True)
        for path in ("x.img", "sub/x.img"):
            (tmp_path / name / path).write_bytes(text)
    return tmp_path / "images"


@pytest.fixture
def anything_is_a_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a directory of the system's, where what a test needs is there without being made."""
    monkeypatch.setattr(places, "refuse_unfit", lambda *_, **__: None)


def policy_of(root: Path) -> Policy:
    return Policy(Config((DirectoryRoot(str(root), "write"),)))


def contents(policy: Policy, path: Path) -> bytes:
    with policy.image(str(path), "write") as place, place.store.open(place.name) as image:
        return image.read_at(0, 100)


def test_a_link_in_the_middle_of_a_path_is_not_followed(root: Path) -> None:
    (root / "way").symlink_to(root.parent / "outside")
    with pytest.raises(Denied, match="symbolic link on the way"):
        contents(policy_of(root), root / "way" / "x.img")


def test_not_even_one_that_stays_inside(root: Path) -> None:
    (root / "way").symlink_to("sub")
    with pytest.raises(Denied, match="symbolic link on the way"):
        contents(policy_of(root), root / "way" / "x.img")


@pytest.mark.parametrize("target", ["../outside/x.img", "/etc/passwd", "x.img", "nowhere"])
def test_a_link_at_the_end_of_a_path_is_no_image(root: Path, target: str) -> None:
    (root / "link.img").symlink_to(target)
    policy = policy_of(root)
    with pytest.raises(Denied, match="it is a symbolic link"):
        contents(policy, root / "link.img")
    with policy.image(f"{root}/link.img", "write") as place:
        found = place.store.find(place.name)
        assert found
        assert (found.type, found.size) == ("other", 0)
        with pytest.raises(Denied):
            place.store.remove(place.name)
        with pytest.raises(Denied):
            place.store.grow(place.name, 100)


def test_a_root_that_is_a_link_stays_what_it_was_when_it_was_opened(root: Path) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    policy = policy_of(link)
    assert contents(policy, link / "x.img") == b"inside"
    link.unlink()
    link.symlink_to(root.parent / "outside")
    assert contents(policy, link / "x.img") == b"inside"


@pytest.mark.usefixtures("anything_is_a_root")
def test_a_magic_link_of_proc_is_not_followed(root: Path) -> None:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(Denied):
            contents(policy_of(Path("/proc")), Path(f"/proc/{os.getpid()}/fd/{fd}/x.img"))
    finally:
        os.close(fd)


@pytest.mark.usefixtures("anything_is_a_root")
def test_another_file_system_below_a_root_is_not_entered() -> None:
    with pytest.raises(Denied, match="another file system is mounted on the way"):
        contents(policy_of(Path("/")), Path("/proc/version"))


_IN_A_NAMESPACE = """
import subprocess, sys
from pathlib import Path
from virtstore.agent.config import Config
from virtstore.agent.policy import Policy
from virtstore.backends.files import places
from virtstore.backends.files.root import DirectoryRoot
from virtstore.errors import Denied
root = Path(sys.argv[1])
policy = Policy(Config((DirectoryRoot(str(root), "write"),)))
for over, path in (("sub", "sub/x.img"), ("x.img", "x.img")):
    subprocess.run(["mount", "--bind", root.parent / "outside" / over, root / over], check=True)
    assert (root / path).read_bytes() == b"secret"
    try:
        with policy.image(f"{root}/{path}", "read") as place, place.store.open(place.name):
            print("escaped by", path)
    except Denied as error:
        print("denied:", error.message)
"""


def test_a_bind_mount_is_not_entered_though_its_device_is_the_same(root: Path) -> None:
    options = "-m" if os.geteuid() == 0 else "-rm"
    told = subprocess.run(
        ["unshare", options, sys.executable, "-c", _IN_A_NAMESPACE, str(root)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.split(":")[0] for line in told.stdout.splitlines()] == ["denied", "denied"]


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's address is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


@pytest.mark.parametrize(
    ("make", "kind"),
    [(os.mkfifo, "a FIFO"), (_socket, "a socket")],
    ids=["FIFO", "socket"],
)
def test_what_is_no_plain_file_is_refused_without_waiting_on_it(
    root: Path, make: Callable[[Path], None], kind: str
) -> None:
    make(root / "odd.img")
    with pytest.raises(Denied, match=f"it is {kind}"):
        contents(policy_of(root), root / "odd.img")


@pytest.mark.usefixtures("anything_is_a_root")
def test_a_character_device_is_refused() -> None:
    with pytest.raises(Denied, match="it is a character device node"):
        contents(policy_of(Path("/dev")), Path("/dev/null"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device nodes")
def test_a_block_device_node_in_a_directory_is_refused(root: Path) -> None:
    os.mknod(root / "disk.img", stat.S_IFBLK | 0o600, os.makedev(7, 0))
    with pytest.raises(Denied, match="it is a block device node"):
        contents(policy_of(root), root / "disk.img")


def test_a_directory_that_is_exchanged_while_it_is_used_never_leads_outside(root: Path) -> None:
    policy = policy_of(root)
    stop = threading.Event()

    def exchange() -> None:
        while not stop.is_set():
            (root / "sub").rename(root / "real")
            (root / "sub").symlink_to(root.parent / "outside" / "sub")
            (root / "sub").unlink()
            (root / "real").rename(root / "sub")
            time.sleep(0.0001)  # so that there is something to be found, now and then

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        seen = _attempts(policy, root / "sub" / "x.img")
    finally:
        stop.set()
        thread.join()
    assert b"secret" not in seen
    assert b"inside" in seen


def _attempts(policy: Policy, path: Path) -> set[bytes | None]:
    """What is seen in 500 attempts, and in more where that has not been what may be seen."""
    seen: set[bytes | None] = set()
    tries, deadline = 0, time.monotonic() + PATIENCE
    while tries < 500 or (b"inside" not in seen and time.monotonic() < deadline):
        seen.add(_attempt(policy, path))
        tries += 1
    return seen


def _attempt(policy: Policy, path: Path) -> bytes | None:
    with suppress(Denied, NotFound):
        return contents(policy, path)
    return None


def test_an_image_that_is_exchanged_for_a_link_never_leads_outside(root: Path) -> None:
    policy = policy_of(root)
    stop = threading.Event()

    def exchange() -> None:
        for name, turn in (("plain", "inside"), ("link", "")):
            if turn:
                (root / name).write_bytes(b"inside")
            else:
                (root / name).symlink_to(root.parent / "outside" / "x.img")
        while not stop.is_set():
            for name in ("plain", "link"):
                os.rename(root / name, root / "x.img")
                time.sleep(0.0001)
                os.rename(root / "x.img", root / name)

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        seen = _attempts(policy, root / "x.img")
    finally:
        stop.set()
        thread.join()
    assert b"secret" not in seen
    assert b"inside" in seen
