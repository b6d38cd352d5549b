"""Whatever may take long says what it is at, before it does that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import virtstore as api

from .test_agent_commands import images, virtstore

__all__ = ["images"]  # a fixture


@pytest.mark.parametrize(
    "line",
    [
        "create {}/new.img 1M",
        "info {}/x.img",
        "list -l {}",
        "storage-info",
        "doctor",
        "grow {}/x.img 4M",
        "shrink {}/x.img 2M --discard-data",
        "rename {}/x.img y.img",
        "copy {}/x.img {}/y.img",
        "verify {}/x.img",
        "compress {}/x.img",
        "clean {}",
        "delete {}/x.img",
    ],
)
def test_each_verb_names_its_stages_from_the_first_on(images: Path, line: str) -> None:
    words = line.format(images, images).split()
    done = virtstore(*words, "--json", "--progress")
    events = [json.loads(each) for each in done.stderr.splitlines()]
    assert {each["operation"] for each in events} == {words[0]}
    stages = [each["stage"] for each in events]
    assert stages[:2] == ["connecting", "checking"]
    assert stages[-1] == "done"


def test_python_is_told_what_looking_and_cleaning_are_at(images: Path) -> None:
    told: list[api.Progress] = []
    with api.connect() as host:
        host.image(f"{images}/x.img").info(progress=told.append)
        host.clean(str(images), progress=told.append)
    assert [(each.operation, each.stage) for each in told] == [
        *(("info", stage) for stage in ("checking", "done")),
        *(("clean", stage) for stage in ("checking", "done")),
    ]
