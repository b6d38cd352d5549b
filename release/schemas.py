"""The schemas of what `--json` prints: a file for each command, and one for lines of progress.

    python -m release.schemas docs/schemas

They are JSON Schema 2020-12, made of the types of the answers. What is always there is `required`.
A later version may add keys, so `additionalProperties` is not forbidden; where a newer host may say
other words than those that are known here, these are `examples`.
"""

from __future__ import annotations

import inspect
import json
import sys
import types
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import (
    Annotated,
    Final,
    Literal,
    NamedTuple,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec

from virtstore import errors
from virtstore.backups.retention import Pruned
from virtstore.backups.series import BackupSeries
from virtstore.cli.commands import COMMANDS
from virtstore.cli.itself import Help, Script
from virtstore.cli.render import NOT_WHERE_EMPTY
from virtstore.model import (
    Authorized,
    BackedUp,
    Changed,
    Cleaned,
    CopyResult,
    Difference,
    Entry,
    Exported,
    Extracted,
    FileEntry,
    Finding,
    ImageInfo,
    Installed,
    Job,
    StorageInfo,
    Uninstalled,
    Verified,
)
from virtstore.progress import Progress, Stage

Schema = dict[str, object]


class Answer(NamedTuple):
    """`kinds`: what is told of one location. `listed`: each location has a list of them.
    `fails_within`: what failed of several is told by one of these, too."""

    kinds: tuple[type[msgspec.Struct], ...]
    listed: bool = False
    fails_within: bool = False


_CHANGED: Final = Answer((Changed,))
#: What each command answers. A new command needs a line here.
ANSWERS: Final[dict[str, Answer]] = {
    "list": Answer((Entry, ImageInfo), listed=True),
    "info": Answer((ImageInfo,)),
    "verify": Answer((Verified,)),
    "diff": Answer((Difference,)),
    "export": Answer((Exported,)),
    "files": Answer((FileEntry,), listed=True),
    "extract": Answer((Extracted,)),
    "create": _CHANGED,
    "snapshot": _CHANGED,
    "rename": _CHANGED,
    "delete": _CHANGED,
    "clean": Answer((Cleaned,)),
    "resize": _CHANGED,
    "grow": _CHANGED,
    "shrink": _CHANGED,
    "growfs": _CHANGED,
    "shrinkfs": _CHANGED,
    "copy": Answer((CopyResult,)),
    "copy-contents": Answer((CopyResult,)),
    "backup": Answer((BackedUp,), listed=True, fails_within=True),
    "restore": Answer((CopyResult,)),
    "compress": _CHANGED,
    "uncompress": _CHANGED,
    "backups": Answer((BackupSeries,), listed=True),
    "prune": Answer((Pruned,)),
    "storage-info": Answer((StorageInfo,)),
    "jobs": Answer((Job,), listed=True),
    "doctor": Answer((Finding,), listed=True),
    "install": Answer((Installed, Authorized)),
    "uninstall": Answer((Uninstalled,)),
    "completion": Answer((Script,)),
    "help": Answer((Help,)),
}

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_PLAIN: Final[dict[object, Schema]] = {
    str: {"type": "string"},
    int: {"type": "integer", "minimum": 0},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    datetime: {"type": "string", "format": "date-time"},
}


def schemas() -> dict[str, Schema]:
    """Each schema by the name of its file, without the suffix."""
    found = {command: _of_command(command, answer) for command, answer in ANSWERS.items()}
    found["progress"] = _of_progress()
    return found


def _of_command(command: str, answer: Answer) -> Schema:
    defined: dict[str, Schema] = {"Failure": _failure()}
    one = [_schema(kind, defined) for kind in answer.kinds]
    failure: Schema = {"$ref": "#/$defs/Failure"}
    whole = [*([_list_of(one)] if answer.listed else one), failure]
    if _takes_several(command) and not answer.fails_within:
        whole.append(_list_of([*one, failure]))
    return {
        "$schema": _DIALECT,
        "title": f"virtstore {command} --json",
        "anyOf": whole,
        "$defs": defined,
    }


def _takes_several(command: str) -> bool:
    """Whether a command takes several locations (`*more`). Its answer is a list then."""
    module, _, name = COMMANDS[command].function.partition(":")
    function = getattr(import_module(f"virtstore.cli.{module}"), name)
    parameters = inspect.signature(function).parameters.values()
    return any(each.kind is each.VAR_POSITIONAL and each.name == "more" for each in parameters)


def _list_of(kinds: list[Schema]) -> Schema:
    return {"type": "array", "items": _any_of(kinds)}


def _any_of(kinds: list[Schema]) -> Schema:
    return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}


def _failure() -> Schema:
    here = filter(inspect.isclass, vars(errors).values())
    kinds = [kind for kind in here if issubclass(kind, errors.Error)]
    nullable: Schema = {"type": ["string", "null"]}
    facts: dict[str, Schema] = {
        "code": {"enum": [kind.code for kind in kinds]},
        "message": {"type": "string"},
        "host": nullable,
        "path": nullable,
    }
    error: Schema = {"type": "object", "properties": facts, "required": list(facts)}
    return {
        "description": "What was refused or went wrong; the exit status says the same as `code`.",
        "type": "object",
        "properties": {"error": error},
        "required": ["error"],
    }


def _of_progress() -> Schema:
    defined: dict[str, Schema] = {}
    _schema(Progress, defined)
    told = defined.pop("Progress")
    properties = told["properties"]
    assert isinstance(properties, dict)
    stage = {"type": "string", "examples": _words(Stage)}  # a newer host may be at others
    marked = {"type": {"const": "progress"}, **properties, "stage": stage}
    return {
        "$schema": _DIALECT,
        "title": "a line on standard error of --json --progress",
        **told,
        "properties": marked,
        "required": [key for key in marked if key != "source"],  # only of several locations
    }


class _Open:
    """In place of `model.Open`: what is said may be another word than those."""

    def __class_getitem__(cls, words: object) -> object:
        return Annotated[str, words]


def _schema(hint: object, defined: dict[str, Schema]) -> Schema:
    """The schema of a type. What it is made of is added to `defined`."""
    if hint in _PLAIN:
        return _PLAIN[hint]
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        if hint.__name__ not in defined:
            defined[hint.__name__] = {}  # it has its place before what it is made of
            defined[hint.__name__] = _object(hint, defined)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    kinds = get_args(hint)
    origin = get_origin(hint)
    if origin is Annotated:
        return {"type": "string", "examples": _words(kinds[1])}
    if origin is Literal:
        return {"enum": list(kinds)}
    if origin is tuple:
        return {"type": "array", "items": _schema(kinds[0], defined)}
    if origin in (Union, types.UnionType):
        return _union([_schema(kind, defined) for kind in kinds if kind is not type(None)])
    raise TypeError(f"{hint} has no schema yet; add it here")


def _words(hint: object) -> list[object]:
    """The words of a literal, or of one that is made of others."""
    found: list[object] = []
    for each in get_args(hint):
        found += _words(each) or [each]
    return found


def _union(kinds: list[Schema]) -> Schema:
    """One of these, or null: all unions in answers are."""
    [kind] = kinds
    if isinstance(kind.get("type"), str):
        return {**kind, "type": [kind["type"], "null"]}
    return {"anyOf": [kind, {"type": "null"}]}


def _object(kind: type[msgspec.Struct], defined: dict[str, Schema]) -> Schema:
    hints = get_type_hints(kind, localns={"Open": _Open}, include_extras=True)
    fields = kind.__struct_fields__
    said: Schema = {"description": " ".join(kind.__doc__.split())} if kind.__doc__ else {}
    return {
        **said,
        "type": "object",
        "properties": {field: _schema(hints[field], defined) for field in fields},
        "required": [field for field in fields if field not in NOT_WHERE_EMPTY],
    }


def texts() -> dict[str, str]:
    """The files: their names, and what is in them."""
    return {
        f"{name}.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for name, schema in schemas().items()
    }


def main() -> None:
    directory = Path(sys.argv[1])
    directory.mkdir(exist_ok=True)
    for name, text in texts().items():
        (directory / name).write_text(text)


if __name__ == "__main__":
    main()
