"""What of a contract its tests use: each object that keeps it is wrapped, and says what is asked
of it from outside. What an object does by itself does not count.

A contract is a set of protocols. What has to be used of them is each member, and each parameter
that has a default, with another value than that.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final, Self, get_args, get_type_hints

import pytest

#: What every protocol has that says nothing of a contract.
_OF_ANY: Final = frozenset({"__init__", "__subclasshook__"})
_CONTEXT: Final = frozenset({"__enter__", "__exit__"})


def members(protocol: type) -> Iterator[str]:
    """What a protocol says itself: `NAME`, and `NAME(PARAMETER)` for what may be left out."""
    for name, value in vars(protocol).items():
        if name in _OF_ANY or (name.startswith("_") and name not in _CONTEXT):
            continue
        if not (callable(value) or isinstance(value, property)):
            continue
        yield name
        if callable(value) and name not in _CONTEXT:
            for parameter in inspect.signature(value).parameters.values():
                if parameter.default is not parameter.empty:
                    yield f"{name}({parameter.name})"


def protocols(module: ModuleType) -> set[type]:
    """Those that a module defines."""
    found = {each for each in vars(module).values() if _is_protocol(each)}
    return {each for each in found if each.__module__ == module.__name__}


def members_of(*protocols: type) -> set[str]:
    return {f"{protocol.__name__}.{name}" for protocol in protocols for name in members(protocol)}


class Watched:
    """An object that is used by way of this, which keeps `protocol`."""

    def __init__(self, target: Any, protocol: type, seen: set[str]) -> None:
        self._target, self._protocol, self._seen = target, protocol, seen

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        self._see(name)
        declared = getattr(self._protocol, name, None)
        if isinstance(declared, property):
            kind = get_type_hints(declared.fget)["return"]
            return self._watched(value, self._protocol if kind is Self else kind)
        return self._call(name, value) if inspect.ismethod(value) else value

    def __enter__(self) -> Watched:
        self._see("__enter__")
        self._target.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._see("__exit__")
        self._target.__exit__(*raised)

    def _call(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        declared = getattr(self._protocol, name)
        signature = inspect.signature(declared)
        result = get_type_hints(declared)["return"]

        def call(*args: Any, **named: Any) -> Any:
            for given, value in signature.bind(self, *args, **named).arguments.items():
                if value != signature.parameters[given].default:
                    self._see(f"{name}({given})")
            return self._watched(method(*args, **named), result)

        return call

    def _watched(self, value: Any, kind: Any) -> Any:
        kinds = [each for each in (kind, *get_args(kind)) if _is_protocol(each)]
        return Watched(value, kinds[0], self._seen) if kinds and value is not None else value

    def _see(self, member: str) -> None:
        for protocol in self._protocol.__mro__:
            self._seen.add(f"{protocol.__name__}.{member}")


def _is_protocol(kind: object) -> bool:
    return isinstance(kind, type) and getattr(kind, "_is_protocol", False)


def every_test(module: ModuleType) -> dict[str, Callable[..., None]]:
    """Each test of a module that can be run with `run`, with each of its sets of arguments."""
    return {
        f"{name}[{number}]": _with(test, arguments)
        for name, test in vars(module).items()
        if name.startswith("test_")
        for number, arguments in enumerate(_argument_sets(test))
    }


def _with(test: Callable[..., None], arguments: dict[str, object]) -> Callable[..., None]:
    def run(**fixtures: object) -> None:
        wanted = inspect.signature(test).parameters.keys() - arguments.keys()
        test(**arguments, **{name: fixtures[name] for name in wanted})

    return run


def _argument_sets(test: Callable[..., None]) -> list[dict[str, object]]:
    marks: list[pytest.Mark] = getattr(test, "pytestmark", [])
    found: list[dict[str, object]] = [{}]
    for mark in marks:
        assert mark.name == "parametrize"
        names, values = mark.args
        names = [names] if isinstance(names, str) else list(names)
        rows = [dict(zip(names, [v] if len(names) == 1 else v, strict=True)) for v in values]
        found = [before | row for before in found for row in rows]
    return found
