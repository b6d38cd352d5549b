"""The public Python names are stable: what is public, what it is called, what it takes."""

from __future__ import annotations

import inspect
from importlib.resources import files

import msgspec
import pytest

import virtstore
from virtstore import model

PUBLIC = {
    "ConnectionFailed", "Copied", "Corrupt", "Denied", "Error", "Exists", "Host", "Image", "InUse",
    "Interrupted", "NoSpace", "NotFound", "Progress", "Unsafe", "Unsupported", "UsageError",
    "__version__", "connect",
}  # fmt: skip


def test_the_public_names_are_exactly_these() -> None:
    assert set(virtstore.__all__) == PUBLIC
    assert len(virtstore.__all__) == len(PUBLIC)
    assert all(hasattr(virtstore, name) for name in PUBLIC)


@pytest.mark.parametrize(
    "name", ["create", "list", "image", "storage_info", "clean", "close", "__enter__", "__exit__"]
)
def test_a_host_can(name: str) -> None:
    assert callable(getattr(virtstore.Host, name))


IMAGE_CAN = [
    "info", "delete", "grow", "shrink", "growfs", "snapshot", "copy", "copy_contents", "compress",
    "uncompress", "verify", "diff",
]  # fmt: skip


@pytest.mark.parametrize("name", IMAGE_CAN)
def test_an_image_can(name: str) -> None:
    assert callable(getattr(virtstore.Image, name))


@pytest.mark.parametrize("name", ["copy", "copy_contents", "compress", "uncompress", "verify"])
def test_long_operations_take_a_callable_for_their_progress(name: str) -> None:
    parameters = inspect.signature(getattr(virtstore.Image, name)).parameters
    assert parameters["progress"].kind is inspect.Parameter.KEYWORD_ONLY
    assert parameters["progress"].default is None


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
