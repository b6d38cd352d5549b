"""The page of all public names of the Python API, of their signatures and docstrings."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from types import ModuleType
from typing import Final, get_args, is_typeddict

import msgspec

import virtstore
from virtstore import copy_options
from virtstore.backups import options as backup_options

from .markdown import docstring

_INTRODUCTION: Final = """\
# Python names

All that `import virtstore` has. How it is used is on [a page of its own](python.md). Everything is
typed (`py.typed`).
"""
_HANDLES: Final = ("Host", "Image", "Made", "Copied")


def page() -> str:
    rest = sorted(
        set(virtstore.__all__) - {"connect", "backup", "restore", "__version__", *_HANDLES}
    )
    named = {name: getattr(virtstore, name) for name in rest}
    errors = [name for name, it in named.items() if _is_a(it, BaseException)]
    keywords = [name for name, it in named.items() if is_typeddict(it)]
    values = [name for name, it in named.items() if _fields(it) and name not in keywords]
    words = [name for name in rest if name not in {*errors, *values, *keywords}]
    parts = [
        _INTRODUCTION,
        "## Sessions and images\n",
        _function("connect", virtstore.connect),
        *(_handle(name) for name in _HANDLES),
        "## Backups\n",
        _function("backup", virtstore.backup),
        _function("restore", virtstore.restore),
        "## Results\n",
        *(_value(name, named[name]) for name in values),
        "## Keywords of copies and backups\n",
        *(_keywords(name, named[name]) for name in keywords),
        "## Words\n",
        *(_word(name, named[name]) for name in words),
        "## Errors\n",
        _errors(errors),
    ]
    return "\n".join(parts)


def _is_a(it: object, class_: type) -> bool:
    return isinstance(it, type) and issubclass(it, class_)


def _function(name: str, it: object, level: str = "###") -> str:
    assert callable(it)
    signature = inspect.signature(it)
    taken = [p for p in signature.parameters.values() if p.name != "self"]
    shown = _clean(str(signature.replace(parameters=taken)))
    return f"{level} {name}\n\n```text\n{name}{shown}\n```\n\n{_doc(it)}\n"


def _handle(name: str) -> str:
    class_ = getattr(virtstore, name)
    own = [(n, f) for n, f in vars(class_).items() if n[0] != "_" and inspect.isfunction(f)]
    told = [f"### {name}\n", f"{_doc(class_)}\n"]
    return "\n".join([*told, *(_function(f"{name}.{n}", f, "####") for n, f in own)])


def _value(name: str, it: object) -> str:
    rows = "\n".join(f"| `{field}` | `{type_}` |" for field, type_ in _fields(it))
    return f"### {name}\n\n{_doc(it)}\n\n| field | type |\n|---|---|\n{rows}\n"


def _keywords(name: str, it: object) -> str:
    module = backup_options if name in ("BackupKeywords", "RestoreKeywords") else copy_options
    told = _told_of_keywords(module)
    rows = "\n".join(f"| `{word}` | `{type_}` | {told[word]} |" for word, type_ in _fields(it))
    return f"### {name}\n\n{_doc(it)}\n\n| keyword | type | |\n|---|---|---|\n{rows}\n"


def _told_of_keywords(module: ModuleType) -> dict[str, str]:
    """What follows the keywords of a module in its source, by keyword."""
    bodies = [
        node.body
        for node in ast.parse(inspect.getsource(module)).body
        if isinstance(node, ast.ClassDef)
    ]
    return {
        field.target.id: " ".join(text.value.value.split())
        for body in bodies
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def _fields(it: object) -> list[tuple[str, str]]:
    """The fields of a class of values, with their types as they are written; none of others."""
    fields = _is_a(it, msgspec.Struct) or dataclasses.is_dataclass(it) or is_typeddict(it)
    return list(_annotations(it)) if fields or hasattr(it, "_fields") else []


def _annotations(it: object) -> Iterator[tuple[str, str]]:
    assert isinstance(it, type)
    for class_ in reversed(it.__mro__):
        for name, type_ in vars(class_).get("__annotations__", {}).items():
            text = (
                type_ if isinstance(type_, str) else getattr(type_, "__forward_arg__", str(type_))
            )
            if name[0] != "_" and not text.startswith("ClassVar"):
                yield name, _clean(text)


def _word(name: str, it: object) -> str:
    words = [f'`"{each}"`' for each in _words(it)]
    told = ", ".join(words) if words else f"`{_clean(str(it))}`"
    return f"### {name}\n\n{told}\n"


def _words(it: object) -> list[str]:
    found: list[str] = []
    for each in get_args(it):
        found += [each] if isinstance(each, str) else []
    return found


def _errors(names: Iterable[str]) -> str:
    rows = (f"| `{name}` | `{getattr(virtstore, name).code}` |" for name in names)
    told = "What each means is in [exit codes](exit-codes.md). All have `message`, `host`, `path`,"
    table = "\n".join(("| class | `code` |", "|---|---|", *rows))
    return f"{told} `code` and `exit_status`.\n\n{table}\n"


def _doc(it: object) -> str:
    return docstring(inspect.getdoc(it) or "")


def _clean(text: str) -> str:
    """A type, or a signature, as a reader needs it."""
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text).replace("'", '"')
    return re.sub(
        r"\bOpen\[(\w+)\]", r"\1", re.sub(r"\b(?:virtstore|collections)\.[\w.]+\.", "", text)
    )
