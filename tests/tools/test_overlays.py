"""A qcow2 that is laid over another image: never read as if zeros were there instead."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from virtstore import Host, Unsupported, connect

from .test_agent_commands import MIB, images, tree  # noqa: F401

#: What reads or changes the disk of `over`, or takes from it.
USES: dict[str, Callable[[Host, Path], object]] = {
    "copy to raw": lambda host, over: host.image(f"{over}").copy(
        host.image(f"{over.with_name('new.img')}")
    ),
    "copy to qcow2": lambda host, over: host.image(f"{over}").copy(
        host.image(f"{over.with_name('new.qcow2')}")
    ),
    "archive": lambda host, over: host.image(f"{over}").copy(
        host.image(f"{over.with_name('new')}"), archive=True
    ),
    "grow": lambda host, over: host.image(f"{over}").grow("+1M"),
    "shrink": lambda host, over: host.image(f"{over}").shrink("-1M", discard_data=True),
    "overwrite": lambda host, over: host.image(f"{over.with_name('golden.qcow2')}").copy_contents(
        host.image(f"{over}")
    ),
}


@pytest.fixture
def over(images: Path) -> Path:  # noqa: F811
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "golden.qcow2", "4M"], cwd=images)
    write = ["qemu-io", "-f", "qcow2", "-c", "write -P 7 0 1M", "golden.qcow2"]
    subprocess.run(write, cwd=images, check=True, capture_output=True)
    laid = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "golden.qcow2", "-F", "qcow2"]
    subprocess.run([*laid, "over.qcow2"], cwd=images, check=True)
    return images / "over.qcow2"


@pytest.mark.parametrize("use", USES)
def test_an_overlay_is_not_used_without_what_it_is_laid_over(over: Path, use: str) -> None:
    before = tree(over.parent)
    with (
        connect("local:") as host,
        pytest.raises(Unsupported, match=r"overlay of golden\.qcow2.*qemu-img convert"),
    ):
        USES[use](host, over)
    assert tree(over.parent) == before


def test_info_says_what_an_overlay_is_laid_over(over: Path) -> None:
    with connect("local:") as host:
        info = host.image(f"{over}").info()
    assert (info.container, info.size, info.backing) == ("qcow2", 4 * MIB, "golden.qcow2")
    assert any("overlay of golden.qcow2" in warning for warning in info.warnings)
