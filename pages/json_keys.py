"""The page of all keys that `--json` prints, of the schemas in docs/schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from .markdown import docstring

#: A part of a schema.
Schema = dict[str, "Part"]
Part = str | int | bool | None | list["Part"] | Schema

_SCHEMAS: Final = Path(__file__).parents[1] / "docs" / "schemas"
_INTRODUCTION: Final = """\
# JSON keys

What each command prints with `--json`, as its [schema](json.md) has it; or [Failure](#failure).
Keys that are not marked as always there may be missing. Words in *italics* are those that are
known now; a newer host may say others.
"""


def page() -> str:
    found = {file.stem: _read(file) for file in sorted(_SCHEMAS.glob("*.json"))}
    rows = [f"| `{name}` | {_answer(schema)} |" for name, schema in found.items()]
    types: Schema = {}
    for schema in found.values():
        types |= _object(schema.get("$defs"))
    answers = ["| command | prints |", "|---|---|", *rows]
    told = [_told(name, _object(types[name])) for name in sorted(types)]
    return "\n".join([_INTRODUCTION, "## Answers\n", *answers, "\n## Types\n", *told])


def _read(file: Path) -> Schema:
    return _object(json.loads(file.read_text()))


def _answer(schema: Schema) -> str:
    """What a command prints where nothing fails."""
    forms = [_type(_object(each)) for each in _list(schema.get("anyOf")) or [schema]]
    first, *more = [form for form in forms if form != "[Failure](#failure)"]
    one = first.startswith("list") or not more
    return first if one else f"{first}; of several locations a list of those"


def _told(name: str, schema: Schema) -> str:
    rows = ["| key | type | always there |", "|---|---|---|"]
    required = _list(schema.get("required"))
    for key, part in _object(schema.get("properties")).items():
        rows.append(f"| `{key}` | {_type(_object(part))} | {'yes' if key in required else ''} |")
    return "\n".join(
        [f"### {name}\n", f"{docstring(str(schema.get('description', '')))}\n", *rows, ""]
    )


def _type(schema: Schema) -> str:
    """The type that a part of a schema is about, as a reader needs it."""
    if isinstance(reference := schema.get("$ref"), str):
        name = reference.rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if several := _list(schema.get("anyOf")):
        return " or ".join(_type(_object(each)) for each in several)
    if "items" in schema:
        return f"list of {_type(_object(schema['items']))}"
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if words := _list(schema.get("enum")):
        return ", ".join(f"`{json.dumps(each)}`" for each in words)
    kind = schema.get("type", "anything")
    named = " or ".join(map(str, kind)) if isinstance(kind, list) else str(kind)
    known = ", ".join(f"*{each}*" for each in _list(schema.get("examples")))
    inside = ", ".join(f"`{key}`" for key in _object(schema.get("properties")))
    return named + (f": {known or inside}" if known or inside else "")


def _object(part: Part) -> Schema:
    return part if isinstance(part, dict) else {}


def _list(part: Part) -> list[Part]:
    return part if isinstance(part, list) else []
