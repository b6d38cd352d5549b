"""virtstore: storage for the disk images of virtual machines, on any host that ssh reaches.

What an agent or a command does not need is imported when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from virtstore.errors import (
    ConnectionFailed,
    Corrupt,
    Denied,
    Error,
    Exists,
    Interrupted,
    InUse,
    NoSpace,
    NotFound,
    Unsafe,
    Unsupported,
    UsageError,
)
from virtstore.version import __version__

if TYPE_CHECKING:
    from virtstore.client import Copied, Host, Image, connect
    from virtstore.progress import Progress

__all__ = [
    "ConnectionFailed",
    "Copied",
    "Corrupt",
    "Denied",
    "Error",
    "Exists",
    "Host",
    "Image",
    "InUse",
    "Interrupted",
    "NoSpace",
    "NotFound",
    "Progress",
    "Unsafe",
    "Unsupported",
    "UsageError",
    "__version__",
    "connect",
]

_ELSEWHERE = {
    "Copied": "virtstore.client",
    "Host": "virtstore.client",
    "Image": "virtstore.client",
    "Progress": "virtstore.progress",
    "connect": "virtstore.client",
}


def __getattr__(name: str) -> object:
    if name not in _ELSEWHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_ELSEWHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__]
