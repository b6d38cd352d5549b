"""Documents of JSON, held against the schemas in docs/schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from jsonschema import Draft202012Validator

_SCHEMAS: Final = Path(__file__).parents[1] / "docs" / "schemas"


def _strict(schema: Any) -> Any:
    """The schema, under which nothing may be there but what it names."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {"additionalProperties": False} if "properties" in schema else {}
    return {**{key: _strict(value) for key, value in schema.items()}, **closed}


def _schema(name: str) -> Any:
    return json.loads((_SCHEMAS / f"{name}.json").read_text())


def check(name: str, document: Any) -> None:
    """Fails unless a document is what the schema of that name says, with its keys in order."""
    schema = _schema(name)
    Draft202012Validator(_strict(schema)).validate(document)
    orders = list(_orders(schema))
    for keys in _keys(document):
        assert any(keys == [key for key in order if key in keys] for order in orders), keys


def _orders(schema: Any) -> Iterator[list[str]]:
    """The keys of each kind of object, in the order in which a schema has them."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield list(schema["properties"])
        for each in schema.values():
            yield from _orders(each)


def _keys(document: Any) -> Iterator[list[str]]:
    """The keys of each object in a document, as they come."""
    if isinstance(document, dict):
        yield list(document)
    for each in document.values() if isinstance(document, dict) else document:
        if isinstance(each, dict | list):
            yield from _keys(each)
