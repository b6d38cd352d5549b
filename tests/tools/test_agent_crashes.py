"""An agent that is killed at any moment leaves the old or the new, whole, or a leftover that
is listed as one and can be removed."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.tools.kills import agent_of

import virtstore
from virtstore.backends.files.leftovers import image_name, is_named

MIB = 1 << 20
TIMES = 20
#: Random bytes with a hole and an odd end, made once.
CONTENTS = random.Random(1).randbytes(2 * MIB) + bytes(MIB) + random.Random(2).randbytes(MIB + 513)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (made := tmp_path / "images").mkdir(mode=0o700)
    config = tmp_path / "config.toml"
    config.write_text(f'[[directory]]\npath = "{made}"\naccess = "write"\n')
    monkeypatch.setenv("VIRTSTORE_CONFIG", str(config))
    return made


@pytest.fixture
def survivor(root: Path) -> Iterator[virtstore.Host]:
    """A session of whoever looks afterwards."""
    with virtstore.connect() as host:
        yield host


def killed_in(work: Callable[[virtstore.Host], object], delay: float) -> bool:
    """Whether the agent died before it had answered, killed `delay` seconds into the work."""
    host = virtstore.connect()
    timer = threading.Timer(delay, agent_of(host).kill)
    timer.start()
    try:
        work(host)
        return False
    except virtstore.ConnectionFailed:
        return True
    finally:
        timer.join()
        host.close()


def check_and_clean(root: Path, survivor: virtstore.Host) -> set[str]:
    """The names that are complete; leftovers were told to be such, and are gone now."""
    names = {path.name for path in root.iterdir()}
    complete = {name for name in names if not is_named(name)}
    leftovers = {image_name(name) for name in names - complete}
    listed = survivor.list(str(root))
    assert {Path(e.path).name for e in listed if e.state == "partial"} == leftovers
    assert set(survivor.clean(str(root)).removed) == {f"{root}/{name}" for name in leftovers}
    assert {path.name for path in root.iterdir()} == complete
    return complete


def empty(root: Path) -> None:
    for path in root.iterdir():
        path.unlink()


def delays(seed: str) -> Iterator[float]:
    """Moments in an operation of 20 ms or so; some come after its end."""
    chance = random.Random(seed)
    return (chance.uniform(0, 0.03) for _ in range(TIMES))


def test_create(root: Path, survivor: virtstore.Host) -> None:
    died = 0
    for delay in (each / 10 for each in delays("create")):  # fallocate is quick
        died += killed_in(lambda host: host.create(f"{root}/x.img", 4 * MIB), delay)
        if "x.img" in check_and_clean(root, survivor):
            assert (root / "x.img").read_bytes() == bytes(4 * MIB)
        empty(root)
    assert died


@pytest.mark.parametrize("overwrite", [False, True])
def test_copy(root: Path, survivor: virtstore.Host, overwrite: bool) -> None:
    def copy(host: virtstore.Host) -> None:
        source, target = host.image(f"{root}/x.img"), host.image(f"{root}/y.img")
        source.copy(target, overwrite=overwrite)

    died = 0
    for delay in list(delays("copy"))[:: 1 + overwrite]:
        (root / "x.img").write_bytes(CONTENTS)
        if overwrite:
            (root / "y.img").write_bytes(b"old")
        died += killed_in(copy, delay)
        complete = check_and_clean(root, survivor)
        assert (root / "x.img").read_bytes() == CONTENTS
        if "y.img" in complete:
            assert (root / "y.img").read_bytes() in [CONTENTS, *([b"old"] if overwrite else [])]
        else:
            assert not overwrite
        empty(root)
    assert died


def test_compress(root: Path, survivor: virtstore.Host) -> None:
    died = 0
    for delay in delays("compress"):
        (root / "x.img").write_bytes(CONTENTS)
        died += killed_in(lambda host: host.image(f"{root}/x.img").compress(), delay)
        complete = check_and_clean(root, survivor)
        assert complete
        if "x.img" in complete:
            assert (root / "x.img").read_bytes() == CONTENTS
        if "x.img.zst" in complete:
            found = survivor.image(f"{root}/x.img.zst").verify()
            assert (found.size, found.checked) == (len(CONTENTS), "digest")
        empty(root)
    assert died


def test_uncompress(root: Path, survivor: virtstore.Host) -> None:
    (root / "x.img").write_bytes(CONTENTS)
    survivor.image(f"{root}/x.img").compress()
    archive = (root / "x.img.zst").read_bytes()
    empty(root)

    def uncompress(host: virtstore.Host) -> None:
        host.image(f"{root}/x.img.zst").uncompress()

    died = 0
    for delay in delays("uncompress"):
        (root / "x.img.zst").write_bytes(archive)
        died += killed_in(uncompress, delay)
        complete = check_and_clean(root, survivor)
        assert complete
        if "x.img" in complete:
            assert (root / "x.img").read_bytes() == CONTENTS
        if "x.img.zst" in complete:
            assert (root / "x.img.zst").read_bytes() == archive
        empty(root)
    assert died


def test_contents_that_were_half_overwritten_pass_for_no_image_and_can_be_finished(
    root: Path, survivor: virtstore.Host
) -> None:
    old = bytes(b ^ 1 for b in CONTENTS[:MIB]) * 4 + bytes(MIB)

    def overwrite(host: virtstore.Host) -> None:
        host.image(f"{root}/x.img").copy_contents(host.image(f"{root}/y.img"))

    died = 0
    for delay in list(delays("contents"))[::2]:
        (root / "x.img").write_bytes(CONTENTS)
        (root / "y.img").write_bytes(old)
        died += killed_in(overwrite, delay)
        states = {each.state for each in survivor.list(f"{root}/y.img")}
        if states == {"complete"}:
            whole = CONTENTS.ljust(len(old), b"\0")
            assert (root / "y.img").read_bytes() in (old, whole)
        else:
            assert states == {"partial"}
            with pytest.raises(virtstore.Error):
                survivor.image(f"{root}/y.img").grow("+1M")
        overwrite(survivor)
        assert (root / "y.img").read_bytes() == CONTENTS.ljust(len(old), b"\0")
        empty(root)
    assert died


def test_a_client_that_goes_away_ends_its_agent(root: Path, survivor: virtstore.Host) -> None:
    (root / "x.img").write_bytes(CONTENTS)
    host = virtstore.connect()
    assert host._sessions.first
    process = agent_of(host)

    def copy() -> None:
        source, target = host.image(f"{root}/x.img"), host.image(f"{root}/y.img")
        with suppress(virtstore.Error, OSError, ValueError):
            source.copy(target, bwlimit="256K")

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    while not list(root.glob("y.img*")):
        os.sched_yield()
    host._sessions.first.channel.close()
    assert process.wait(5) is not None
    thread.join(5)
    host.close()
    assert check_and_clean(root, survivor) == {"x.img"}
