"""`virtstore-agent` as an authorized key or sudo starts it: its arguments only ever narrow."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from .test_agent_commands import images, told

__all__ = ["images"]  # a fixture

AGENT = f"{sys.executable} -P -m virtstore.agent"


def agent(monkeypatch: pytest.MonkeyPatch, *arguments: str, before: str = "") -> None:
    monkeypatch.setenv("VIRTSTORE_AGENT", f"{before} {AGENT} {shlex.join(arguments)}")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--access", "all"),
        ("--access", ""),
        ("--access", "Read"),
        ("--access",),
        ("--restrict-to",),
        ("--restrict", "/"),
        ("--acc", "read"),
        ("/srv/images",),
    ],
)
def test_arguments_that_are_not_understood_allow_nothing(
    images: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    agent(monkeypatch, *arguments)
    error = told("info", images / "x.img", status=10)["error"]
    assert "virtstore-agent: error:" in error["message"]


def test_of_several_accesses_the_least_counts(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent(monkeypatch, "--access", "read", "--access", "write")
    told("info", images / "x.img")
    told("delete", images / "x.img", status=5)


def test_who_comes_by_sudo_is_told_why_his_configuration_is_refused(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = os.environ["VIRTSTORE_CONFIG"]
    sudo = f"env SUDO_UID={os.geteuid() + 4711} SUDO_COMMAND=/usr/bin/virtstore-agent"
    agent(monkeypatch, "--config", config, before=sudo)
    message = told("info", images / "x.img", status=5)["error"]["message"]
    assert f"--config {config} is refused" in message
    assert "/etc/virtstore/config.toml" in message
    agent(monkeypatch, before=sudo)
    told("info", images / "x.img", status=5)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_set_user_id_agent_takes_no_configuration_from_its_caller(images: Path) -> None:
    code = (
        "import os, sys; os.setresuid(4711, 0, 0);"
        " from virtstore.agent import config; config.load(sys.argv[1])"
    )
    argv = [sys.executable, "-c", code, os.environ["VIRTSTORE_CONFIG"]]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert "uid 4711, by a set-user-ID" in done.stderr
