"""A real agent writes down what it was asked to change, and what it refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import virtstore

MIB = 1 << 20


def configured(tmp_path: Path, log: str, access: str = "write") -> str:
    (tmp_path / "images").mkdir(mode=0o700, exist_ok=True)
    file = tmp_path / f"{access}.toml"
    root = f'[[directory]]\npath = "{tmp_path}/images"\naccess = "{access}"\n'
    file.write_text(f"log = {json.dumps(log)}\n\n{root}")
    return str(file)


def test_each_change_is_a_line_and_nothing_else_is(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with virtstore.connect(config=configured(tmp_path, str(log))) as host:
        image = host.create(f"{tmp_path}/images/a b.img", MIB)
        image.info()
        host.list(f"{tmp_path}/images")
        image.grow(2 * MIB, dry_run=True)
        image.grow(2 * MIB)
        copied = image.copy(host.image(f"{tmp_path}/images/c.img"))
        with pytest.raises(virtstore.Exists):
            host.create(f"{tmp_path}/images/c.img", MIB)
    told = [line.partition(": ")[2] for line in log.read_text().splitlines()]
    assert [line.split()[0] for line in told] == [
        "verb=create",
        "verb=grow",
        "verb=copy",
        "verb=create",
    ]
    assert f'path="{tmp_path}/images/a b.img" outcome=done' in told[0]
    assert f"written={copied.written}" in told[2]
    assert "outcome=exists" in told[3]


def test_what_is_refused_is_a_line_whatever_it_was(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with virtstore.connect(config=configured(tmp_path, str(log), "read")) as host:
        with pytest.raises(virtstore.Denied):
            host.create(f"{tmp_path}/images/x.img", MIB)
        with pytest.raises(virtstore.Denied):
            host.image("/etc/passwd").info()
    create, info = log.read_text().splitlines()
    assert "verb=create" in create
    assert 'verb=info path="/etc/passwd" outcome=denied' in info


def test_nothing_is_written_where_nothing_is_to_be(tmp_path: Path) -> None:
    with virtstore.connect(config=configured(tmp_path, "none")) as host:
        host.create(f"{tmp_path}/images/x.img", MIB)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "write.toml"]


@pytest.mark.parametrize("log", ["stdout", "log", ""])
def test_a_place_that_makes_no_sense_is_said(tmp_path: Path, log: str) -> None:
    with (
        virtstore.connect(config=configured(tmp_path, log)) as host,
        pytest.raises(virtstore.Error, match=r'line 1: log is .*"journal", "syslog", "none"'),
    ):
        host.list()
