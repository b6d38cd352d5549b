"""What is wrong with a configuration, in the words of whoever wrote it: the line, the key, what
it may be, and which word was probably meant. For the agent's files and the client's."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from types import NoneType
from typing import Annotated, Any, Final, Literal, NamedTuple, get_args, get_origin

import msgspec

_HEADER: Final = re.compile(r"\s*\[\[?\s*([\w-]+)\s*\]\]?")
_KINDS: Final = {
    str: 'a text in quotes, as "…"',
    int: "a number",
    bool: "true or false, without quotes",
}


class Wrong(NamedTuple):
    """`what` is wrong with `key` of the table number `at` that is called `table`. A key outside of
    all tables stands in `table`."""

    what: str
    table: str
    at: int = 0
    key: str = ""


def check(said: dict[str, Any], known: type[msgspec.Struct]) -> Wrong | None:
    """The first thing in a document that a configuration of type `known` has not."""
    fields = {field.name: field for field in msgspec.structs.fields(known)}
    for name, value in said.items():
        if name not in fields:
            return Wrong(f"there is no {name!r}; {_instead(name, fields)}", name)
        if wrong := _check_key(name, value, fields[name].type):
            return wrong
    missing = _missing(said, fields)
    return Wrong(missing, "") if missing else None


def _check_key(name: str, value: Any, kind: Any) -> Wrong | None:
    """What is wrong with a key at the top, or with a table that is called so."""
    several = get_origin(kind) is tuple and _is_table(get_args(kind)[0])
    if not several and not _is_table(kind):
        what = _wrong_value(name, value, kind)
        return Wrong(what, name) if what else None
    if several and not isinstance(value, list):
        return Wrong(f"{name!r} may be there several times; write [[{name}]]", name)
    if not several and not isinstance(value, dict):
        return Wrong(f"{name!r} is there once, with lines of its own; write [{name}]", name)
    table_kind = get_args(kind)[0] if several else kind
    for index, table in enumerate(value if several else [value]):
        if wrong := _check_table(table, table_kind, name, index):
            return wrong
    return None


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _check_table(table: Any, kind: Any, name: str, index: int) -> Wrong | None:
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    if not isinstance(table, dict):
        return Wrong(f"{name!r} has lines of its own; write [[{name}]]", name, index)
    for key, value in table.items():
        if key not in fields:
            return Wrong(f"there is no {key!r} here; {_instead(key, fields)}", name, index, key)
        if what := _wrong_value(key, value, fields[key].type):
            return Wrong(what, name, index, key)
    missing = _missing(table, fields)
    return Wrong(missing, name, index) if missing else None


def _wrong_value(key: str, value: Any, kind: Any) -> str | None:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return f"{key} cannot be {_shown(value)}; it is {_allowed(kind)}"
    return None


def _missing(table: dict[str, Any], fields: dict[str, msgspec.structs.FieldInfo]) -> str | None:
    names = (field.name for field in fields.values() if field.required and field.name not in table)
    name = next(names, None)
    return f'{name} = "…" is missing' if name else None


def _instead(word: str, known: Iterable[str]) -> str:
    names = list(known)
    meant = difflib.get_close_matches(word, names, 1)
    every = f"there are {', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    return f"did you mean {meant[0]}? ({every})" if meant else every


def _allowed(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(f'"{value}"' for value in get_args(kind))
    if get_origin(kind) is Annotated:
        inner, *metas = get_args(kind)
        return f"{_allowed(inner)}{''.join(map(_bounds, metas))}"
    if get_origin(kind) is tuple:
        return 'texts in brackets, as ["…", "…"]'
    if kind in _KINDS:
        return _KINDS[kind]
    kinds = [_allowed(each) for each in get_args(kind) if each is not NoneType]
    return " or ".join(kinds)


def _bounds(meta: msgspec.Meta) -> str:
    low = "" if meta.ge is None else f" of at least {meta.ge}"
    high = "" if meta.le is None else f"{' and' if low else ' of'} at most {meta.le}"
    return low + high


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def line_of(text: str, wrong: Wrong) -> int:
    """The number of the line that it is about, as nearly as it is found: that of the key, else of
    its table, else of what is called like it."""
    lines = text.splitlines()
    headers = [at for at, line in enumerate(lines) if _called(line) == wrong.table]
    if not headers:
        named = (at for at, line in enumerate(lines) if _sets(line, wrong.table))
        return next(named, 0) + 1
    start = headers[min(wrong.at, len(headers) - 1)]
    for at in range(start + 1, len(lines)):
        if _called(lines[at]) is not None:
            break
        if wrong.key and _sets(lines[at], wrong.key):
            return at + 1
    return start + 1


def _called(line: str) -> str | None:
    found = _HEADER.match(line)
    return found[1] if found else None


def _sets(line: str, key: str) -> bool:
    return re.match(rf"""\s*["']?{re.escape(key)}["']?\s*[.=]""", line) is not None
