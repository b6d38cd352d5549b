"""The public Python names are stable: what is public, what it is called, what it takes."""

from __future__ import annotations

import builtins
import dataclasses
import inspect
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import is_typeddict

import msgspec
import pytest

import virtstore
from virtstore import model
from virtstore.client import api

#: What is there besides what is reached from the public methods.
ERRORS = {
    "ConnectionFailed", "Corrupt", "Denied", "Error", "Exists", "InUse", "Interrupted",
    "LeftRunning", "NoSpace", "NotFound", "Unsafe", "Unsupported", "UsageError",
}  # fmt: skip
#: What `model` calls otherwise than the package.
_CALLED = {"InUse": "Use"}
#: Names in annotations that are Python's own, and one that type checkers do not see.
_PYTHONS = {
    "Open",
    "Callable",
    "Iterator",
    "Sequence",
    "ClassVar",
    "Final",
    "Literal",
    "None",
    "Self",
    "Unpack",
    "datetime",
    "timedelta",
    *vars(builtins),
}


def hints(thing: object) -> Iterator[str]:
    """Those of a function, and of all that is public in a class or a value."""
    if inspect.isfunction(thing):
        yield from thing.__annotations__.values()
        return
    assert inspect.isclass(thing)
    for name, member in vars(thing).items():
        if inspect.isfunction(member) and (not name.startswith("_") or name == "__init__"):
            yield from hints(member)
        elif isinstance(member, property) and not name.startswith("_"):
            yield from hints(member.fget)
    fields = issubclass(thing, (msgspec.Struct, tuple)) or dataclasses.is_dataclass(thing)
    if fields or is_typeddict(thing):
        yield from inspect.get_annotations(thing).values()


def reached() -> dict[str, set[str]]:
    """The names in annotations of what is public, each with those that it leads to."""
    found: dict[str, set[str]] = {}
    waiting = ["connect", "backup", "restore", "Host", "Image", "ProgressCallback", *ERRORS]
    while waiting:
        name = waiting.pop()
        thing = getattr(virtstore, name, None)
        if name in found or not (inspect.isclass(thing) or inspect.isfunction(thing)):
            found.setdefault(name, set())
            continue
        words = " ".join(getattr(each, "__forward_arg__", str(each)) for each in hints(thing))
        words = re.sub(r"Literal\[[^]]*\]|\"[^\"]*\"", "", words)
        named = set(re.findall(r"[A-Za-z_][A-Za-z_.]*", words)) - _PYTHONS
        called = _CALLED if thing.__module__ == model.__name__ else {}
        found[name] = {called.get(each, each) for each in named}
        waiting += found[name]
    return found


def test_every_type_that_a_public_method_takes_or_gives_can_be_imported() -> None:
    names = reached()
    assert {"StorageInfo", "VolumeGroup", "ThinPool", "Difference", "Rate", "UseKind"} <= set(names)
    missing = {name for name in names if not hasattr(virtstore, name)}
    assert not missing, {name: [n for n, to in names.items() if name in to] for name in missing}


def test_what_is_public_is_what_is_reached_and_nothing_else() -> None:
    known = set(reached()) | {"Progress", "Stage", "__version__"}
    assert set(virtstore.__all__) == known
    assert len(virtstore.__all__) == len(known)
    for name in virtstore.__all__:
        assert getattr(virtstore, name) is not None


def test_evidence_of_use_and_the_error_for_it_have_names_of_their_own() -> None:
    assert virtstore.Use is model.InUse
    assert issubclass(virtstore.InUse, virtstore.Error)


@pytest.mark.parametrize(
    "name",
    [
        "create",
        "list",
        "backups",
        "prune",
        "image",
        "storage_info",
        "doctor",
        "jobs",
        "clean",
        "install",
        "uninstall",
        "authorize",
        "close",
        "__enter__",
        "__exit__",
    ],
)
def test_a_host_can(name: str) -> None:
    assert callable(getattr(virtstore.Host, name))


IMAGE_CAN = [
    "info", "delete", "rename", "grow", "shrink", "growfs", "shrinkfs", "resize", "snapshot",
    "copy", "copy_contents", "compress", "uncompress", "verify", "diff",
    "export",
    "files", "extract", "read_file",
]  # fmt: skip


@pytest.mark.parametrize("name", IMAGE_CAN)
def test_an_image_can(name: str) -> None:
    assert callable(getattr(virtstore.Image, name))


@pytest.mark.parametrize(
    "name", ["copy", "copy_contents", "compress", "uncompress", "verify", "export"]
)
def test_long_operations_take_a_callable_for_their_progress(name: str) -> None:
    parameters = inspect.signature(getattr(virtstore.Image, name)).parameters
    assert parameters["progress"].kind is inspect.Parameter.KEYWORD_ONLY
    assert parameters["progress"].default is None


#: What changes nothing, whatever is asked of it. Every other method does.
LOOKING = {
    "info", "verify", "diff", "export", "list", "backups", "storage_info", "doctor", "jobs",
    "image", "open",
    "close", "abort", "files", "read_file",
}  # fmt: skip
METHODS = [
    (kind, name)
    for kind in (virtstore.Host, virtstore.Image)
    for name, member in vars(kind).items()
    if inspect.isfunction(member) and not name.startswith("_")
]


@pytest.mark.parametrize(("kind", "name"), METHODS)
def test_whatever_changes_something_can_be_tried_dry(kind: type, name: str) -> None:
    parameters = inspect.signature(getattr(kind, name)).parameters
    assert ("dry_run" in parameters) != (name in LOOKING)
    if name not in LOOKING:
        assert parameters["dry_run"].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters["dry_run"].default is False


def test_what_the_api_defines_for_itself_is_private_by_name() -> None:
    own = {
        name
        for name, value in vars(api).items()
        if getattr(value, "__module__", None) == api.__name__ and not name.startswith("_")
    }
    assert own <= set(virtstore.__all__)


def test_a_star_import_and_dir_show_what_is_public_and_nothing_else() -> None:
    assert dir(virtstore) == sorted(virtstore.__all__)
    found: dict[str, object] = {}
    exec("from virtstore import *", found)
    assert set(found) - {"__builtins__"} == set(virtstore.__all__)


def test_an_image_is_a_frozen_value() -> None:
    image = virtstore.Image.__new__(virtstore.Image)
    with pytest.raises(AttributeError):
        image.path = "/elsewhere"  # type: ignore[misc]


def test_what_is_answered_is_frozen() -> None:
    kinds = [
        kind
        for kind in vars(model).values()
        if inspect.isclass(kind) and issubclass(kind, msgspec.Struct)
    ]
    assert len(kinds) > 10
    assert all(kind.__struct_config__.frozen for kind in kinds)


def test_type_checkers_are_told_that_there_are_types() -> None:
    assert files("virtstore").joinpath("py.typed").is_file()
