"""The bundle runs by the system's Python alone: nothing of this checkout, of its environment, or of
what a user has set counts."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Final

import pytest
from release import bundle, deb
from tests.shells import shell

import virtstore
from virtstore.cli.commands import COMMANDS
from virtstore.client.bundle import OF_THE_AGENT

#: Imports all that an agent does.
_EVERY_HANDLER: Final = """
import sys, typing
sys.path.insert(0, {agent!r})
from virtstore import protocol
from virtstore.agent import __main__, operations
for kind in typing.get_args(protocol.Requests):
    operations.handler_of(kind)
"""

#: What a bundle is made for: Debian 12's.
_PYTHON: Final = "/usr/bin/python3"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deb.make(tmp_path_factory.mktemp("deb"), bundle.own_architecture())


@pytest.fixture(scope="module")
def tree(package: Path) -> Path:
    """What the package puts on a system."""
    root = package.parent / "root"
    subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
    return root


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (made := tmp_path / "images").mkdir(0o700)
    config = tmp_path / "config.toml"
    config.write_text(f'[[directory]]\npath = "{made}"\naccess = "write"\n')
    monkeypatch.setenv("VIRTSTORE_CONFIG", str(config))
    monkeypatch.delenv("VIRTSTORE_AGENT", raising=False)
    return made


def run(tree: Path, *words: str) -> str:
    command = [str(tree / "usr/bin/virtstore"), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def asked(tree: Path, *words: str) -> Any:
    return json.loads(run(tree, *words, "--json"))


def test_its_python_is_the_systems() -> None:
    version = "import sys; print(*sys.version_info[:2])"
    said = subprocess.run([_PYTHON, "-c", version], check=True, capture_output=True, text=True)
    assert said.stdout == "3 11\n"


def test_an_image_is_made_copied_and_resized(tree: Path, images: Path) -> None:
    image, archive = f"{images}/x.img", f"{images}/x.img.zst"
    assert asked(tree, "create", image, "8M")["size"] == 8 << 20
    subprocess.run(["mke2fs", "-q", "-t", "ext4", image], check=True)
    assert asked(tree, "resize", image, "16M")["filesystem"] == {"type": "ext4", "size": 16 << 20}
    assert asked(tree, "copy", "--archive", image, archive)["size"] == 16 << 20
    assert asked(tree, "verify", archive)["size"] == 16 << 20
    assert asked(tree, "list", "-l", str(images))[0]["filesystem"]["type"] == "ext4"


def test_an_image_is_exported_by_nbdkits_own_python(tree: Path, images: Path) -> None:
    asked(tree, "create", f"{images}/x.img", "8M")
    said = run(tree, "export", f"{images}/x.img", "--run", 'nbdinfo --size "$uri"')
    assert said == f"{8 << 20}\n"


def test_nothing_that_a_user_has_set_or_installed_counts(
    tree: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for the command nor for the agent that it starts."""
    other = images.parent / "other"
    other.mkdir()
    for module in ("virtstore", "msgspec", "rich", "sitecustomize", "usercustomize"):
        (other / f"{module}.py").write_text("raise SystemExit('not ours')")
    monkeypatch.setenv("PYTHONPATH", str(other))
    monkeypatch.chdir(other)
    assert run(tree, "create", f"{images}/x.img", "1M")
    for command in ("virtstore", "virtstore-agent"):
        argv = [str(tree / "usr/bin" / command), "--version"]
        said = subprocess.run(argv, check=True, capture_output=True, text=True)
        assert virtstore.__version__ in said.stdout


def test_an_agent_of_it_is_one_in_the_eyes_of_others(tree: Path, images: Path) -> None:
    """Or whoever lists while it copies would see a user of the image."""
    (images / "x.img").write_bytes(os.urandom(4 << 20))
    words = ["copy", "--bwlimit", "1M", f"{images}/x.img", f"{images}/y.img"]
    with subprocess.Popen([str(tree / "usr/bin/virtstore"), *words]) as copy:
        while not (images / "y.img.virtstore-partial").exists():
            assert copy.poll() is None
        argv = agents_of(copy.pid)
        copy.terminate()
    assert argv
    assert all(f"{tree}/usr/lib/virtstore/bin/virtstore-agent" in words for words in argv)


def agents_of(process: int) -> list[list[str]]:
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [Path(f"/proc/{each}/cmdline").read_text().split("\0") for each in children]


def test_the_agents_part_has_no_command_line_in_it(tree: Path) -> None:
    ours = tree / "usr/lib/virtstore"
    assert {path.name for path in ours.iterdir()} == {"agent", "bin", "client"}
    installed = {path.name.partition("-")[0] for path in (ours / "agent").glob("*.dist-info")}
    assert installed == {*OF_THE_AGENT, "virtstore"}
    program = _EVERY_HANDLER.format(agent=str(ours / "agent"))
    subprocess.run([_PYTHON, "-I", "-S", "-c", program], check=True)


def test_native_modules_have_no_symbols_left_for_a_debugger(tree: Path) -> None:
    libraries = [*tree.rglob("*.so")]
    assert len(libraries) > 5
    for library in libraries:
        sections = subprocess.run(["objdump", "-h", library], check=True, capture_output=True)
        assert b".debug_" not in sections.stdout, library


def test_a_package_says_what_it_needs_and_keeps_everybodys_licence(
    package: Path, tree: Path
) -> None:
    assert field(package, "Package") == "virtstore"
    assert field(package, "Version") == virtstore.__version__
    assert {"python3 (<< 3.12)", "bubblewrap"} <= set(field(package, "Depends").split(", "))
    licences = (tree / "usr/share/doc/virtstore/copyright").read_text()
    for name in ("Apache License", "zstandard-", "blake3-", "rich-", "cyclopts-"):
        assert name in licences


def test_a_package_has_a_manual_of_each_command(tree: Path) -> None:
    manual = tree / "usr/share/man"
    pages = ["man1/virtstore.1", "man5/virtstore.toml.5", "man8/virtstore-agent.8"]
    pages += [f"man1/virtstore-{verb}.1" for verb in COMMANDS]
    assert {str(path.relative_to(manual)) for path in manual.rglob("*.gz")} == {
        f"{page}.gz" for page in pages
    }
    packed = (manual / "man1/virtstore-grow.1.gz").read_bytes()
    assert packed[4:8] == bytes(4)  # no time, as gzip -n has it: the same package each time
    assert b"virtstore grow a:/dev/vg0/web +5G" in gzip.decompress(packed)


def test_shells_find_the_scripts_by_which_they_complete(tree: Path, tmp_path: Path) -> None:
    share = tree / "usr/share"
    path = f"{tree}/usr/bin:{os.environ['PATH']}"
    environment = {"PATH": path, "HOME": str(tmp_path), "XDG_DATA_DIRS": str(share)}
    reading = {
        "bash": "complete -r\n. /usr/share/bash-completion/bash_completion\n",
        "zsh": f"fpath=({share}/zsh/vendor-completions $fpath)\n",
        "fish": f"set -p fish_complete_path {share}/fish/vendor_completions.d\n",
    }
    for name, script in reading.items():
        (directory := tmp_path / name).mkdir()
        with shell(name, directory, environment, script) as typed:
            assert typed.completed("virtstore unc") == "virtstore uncompress "


def field(package: Path, name: str) -> str:
    command = ["dpkg-deb", "-f", str(package), name]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return " ".join(said.replace(",\n", ", ").split())


def test_a_source_archive_makes_a_wheel_that_lacks_nothing(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--outdir", str(tmp_path), str(bundle.ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    source = bundle.ROOT / "src"
    there = {p for p in source.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
        [points] = [name for name in names if name.endswith("/entry_points.txt")]
        commands = opened.read(points).decode()
    assert {str(path.relative_to(source)) for path in there} <= names
    assert "virtstore = virtstore.cli.start:main" in commands
    assert "virtstore-agent = virtstore.agent.__main__:main" in commands
