"""The schemas in docs/schemas are those of what is printed, and every command has one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from release.schemas import ANSWERS, schemas, texts

from virtstore.cli import main as cli
from virtstore.cli.commands import COMMANDS
from virtstore.cli.render import NOT_WHERE_EMPTY

_COMMITTED = Path(__file__).parents[2] / "docs" / "schemas"


def test_every_command_has_a_schema() -> None:
    new = set(COMMANDS) - set(ANSWERS)
    assert not new, (
        f"{', '.join(new)}: add to ANSWERS in release/schemas.py what it answers, then"
        " 'python -m release.schemas docs/schemas', and a line in tests/tools/test_json.py"
    )
    assert set(ANSWERS) == set(COMMANDS)


def test_the_committed_schemas_are_made_of_the_types() -> None:
    committed = {path.name: path.read_text() for path in _COMMITTED.iterdir()}
    assert committed == texts(), "'python -m release.schemas docs/schemas' makes them anew"


@pytest.mark.parametrize("name", sorted(schemas()))
def test_a_schema_is_one(name: str) -> None:
    Draft202012Validator.check_schema(schemas()[name])


def test_what_is_always_printed_is_required() -> None:
    info = schemas()["info"]["$defs"]
    assert isinstance(info, dict)
    facts = info["ImageInfo"]
    assert set(facts["properties"]) - set(facts["required"]) == {"warnings"}
    assert {"warnings", "lacks", "moved", "places", "unmanaged", "pruned"} == set(NOT_WHERE_EMPTY)
    assert facts["properties"]["modified"] == {"type": ["string", "null"], "format": "date-time"}
    assert "lvm-thin" in facts["properties"]["type"]["examples"]


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_a_wrong_command_line_is_told_as_the_schema_says(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["virtstore", name, "--no-such-option", "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    told = json.loads(capsys.readouterr().out)
    Draft202012Validator(schemas()[name]).validate(told)
    assert list(told["error"]) == ["code", "message", "host", "path"]
