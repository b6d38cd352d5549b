"""Progress names what an operation is at, on this machine and between hosts."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import pytest

import virtstore

from .command import Client
from .conftest import Hosts, client_environment, random_image
from .sshd import Remote
from .trees import MIB


def stages(client: Client, *words: str | Path) -> list[str]:
    """Those of a command, each once. Within each, `done` only rises, and never passes `total`;
    tools that resize in turn begin anew."""
    done = client.run(*words, "--json", "--progress")
    assert done.status == 0, done
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert {event["operation"] for event in events} == {words[0]}
    for earlier, later in itertools.pairwise(events):
        restarts = later["stage"] in ("resizing", "zeroing") or later["stage"] != earlier["stage"]
        assert restarts or later["done"] >= earlier["done"]
    assert all(0 <= event["done"] <= event["total"] for event in events)
    assert events[-1]["done"] == events[-1]["total"]
    return list(dict.fromkeys(event["stage"] for event in events))


def test_each_operation_names_its_stages(client: Client, a: Remote, b: Remote, ext4: Path) -> None:
    image = a.images / "x.img"
    begin, end = ["connecting", "checking"], ["flushing", "done"]
    assert stages(client, "create", a.at(image), "2M") == [*begin, "allocating", *end]
    assert stages(client, "grow", a.at(image), "3M") == [*begin, "allocating", "done"]
    assert stages(client, "shrink", a.at(image), "2M") == [*begin, "resizing", "done"]
    shutil.copy(ext4, image)
    assert stages(client, "resize", a.at(image), "32M") == [*begin, "resizing", "done"]
    assert stages(client, "growfs", a.at(image)) == [*begin, "resizing", "done"]
    assert stages(client, "resize", a.at(image), "24M") == [*begin, "resizing", "zeroing", "done"]
    within = [*begin, "allocating", "copying", *end]
    assert stages(client, "copy", a.at(image), a.at(a.images / "y.img")) == within
    assert stages(client, "copy", a.at(image), b.at(b.images / "y.img")) == within
    assert stages(client, "copy-contents", a.at(image), b.at(b.images / "y.img")) == within
    assert stages(client, "diff", a.at(image), b.at(b.images / "y.img")) == [
        *begin,
        "comparing",
        "done",
    ]
    assert stages(client, "compress", a.at(image)) == [*begin, "compressing", *end]
    archive = a.at(a.images / "x.img.zst")
    assert stages(client, "verify", archive) == [*begin, "verifying", "done"]
    assert stages(client, "uncompress", archive) == [*begin, "uncompressing", *end]
    assert stages(client, "delete", a.at(image)) == [*begin, "done"]


@pytest.mark.parametrize("option", ["--progress", "--verbose"])
def test_lines_name_the_stage_too(client: Client, a: Remote, option: str) -> None:
    source = random_image(a.images / "disk", MIB)
    done = client.run("copy", a.at(source), a.at(a.images / "copy"), option)
    lines = done.stderr.splitlines()
    assert "copy: connecting" in lines
    assert "copy: checking" in lines
    assert lines[-2 if option == "--verbose" else -1] == "copy: 100 %, 1 MiB of 1 MiB (done)"


@pytest.mark.parametrize(
    "words",
    [
        "list a:", "info a:{x}", "storage-info a:", "verify a:{x}", "diff a:{x} a:{x}",
        "create a:{x}2 1M", "copy a:{x} b:{b}/x", "resize a:{x} 1M", "clean a:{x}",
        "delete a:{x}",
    ],
)  # fmt: skip
def test_verbose_tells_hosts_programs_versions_and_times(
    client: Client, a: Remote, b: Remote, words: str
) -> None:
    source = random_image(a.images / "disk", MIB)
    said = client.run(*words.format(x=source, b=b.images).split(), "--verbose").stderr
    for host in ("a", "b") if "b:" in words else ("a",):
        lines = [line for line in said.splitlines() if line.startswith(f"{host}: ")]
        assert lines[0].startswith(f"{host}: started by: ssh -F ")
        assert "virtstore-agent --config " in lines[0]
        assert any(
            line.startswith(f"{host}: virtstore {virtstore.__version__}, ") for line in lines
        )
        assert lines[-1].startswith(f"{host}: session ended, after ")
        assert any(f"{host}: virtstore-agent: " in line for line in lines)


def test_python_gets_typed_stages(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in client_environment(hosts).items():
        monkeypatch.setenv(key, value)
    source = random_image(hosts.local / "disk", 2 * MIB)
    events: list[virtstore.Progress] = []
    with virtstore.connect() as host:
        host.image(str(source)).copy(host.image(str(hosts.local / "copy")), progress=events.append)
    assert events[0] == virtstore.Progress("copy", 0, 0, "checking")  # it is connected
    assert events[-1] == virtstore.Progress("copy", 2 * MIB, 2 * MIB, "done")
