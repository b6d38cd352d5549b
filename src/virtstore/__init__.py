"""virtstore: storage for the disk images of virtual machines, on any host that ssh reaches."""

from virtstore.client import Copied, Host, Image, connect
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
from virtstore.progress import Progress
from virtstore.version import __version__

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
