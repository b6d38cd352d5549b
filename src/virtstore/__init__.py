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
    LeftRunning,
    NoSpace,
    NotFound,
    Unsafe,
    Unsupported,
    UsageError,
)
from virtstore.version import __version__

if TYPE_CHECKING:
    from virtstore.client.api import Copied, Host, Image, Made, Size, connect
    from virtstore.copy_options import ContentsKeywords, CopyKeywords, Rate
    from virtstore.location import HostAddress
    from virtstore.model import (
        Access,
        Authorized,
        Changed,
        Cleaned,
        Compression,
        ContainerFormat,
        CopyResult,
        Difference,
        DirectoryInfo,
        Domain,
        Entry,
        EntryType,
        Filesystem,
        FilesystemSupport,
        Finding,
        FormatSupport,
        ImageInfo,
        ImageType,
        Installed,
        Job,
        LibvirtPool,
        MissingPackage,
        MovedPartition,
        Partition,
        PlaceInfo,
        ResizedFilesystem,
        RootInfo,
        Scope,
        Severity,
        State,
        StorageInfo,
        ThinPool,
        Uninstalled,
        UseKind,
        Verified,
        VolumeGroup,
    )
    from virtstore.model import InUse as Use
    from virtstore.progress import Progress, ProgressCallback, Stage

__all__ = [
    "Access",
    "Authorized",
    "Changed",
    "Cleaned",
    "Compression",
    "ConnectionFailed",
    "ContainerFormat",
    "ContentsKeywords",
    "Copied",
    "CopyKeywords",
    "CopyResult",
    "Corrupt",
    "Denied",
    "Difference",
    "DirectoryInfo",
    "Domain",
    "Entry",
    "EntryType",
    "Error",
    "Exists",
    "Filesystem",
    "FilesystemSupport",
    "Finding",
    "FormatSupport",
    "Host",
    "HostAddress",
    "Image",
    "ImageInfo",
    "ImageType",
    "InUse",
    "Installed",
    "Interrupted",
    "Job",
    "LeftRunning",
    "LibvirtPool",
    "Made",
    "MissingPackage",
    "MovedPartition",
    "NoSpace",
    "NotFound",
    "Partition",
    "PlaceInfo",
    "Progress",
    "ProgressCallback",
    "Rate",
    "ResizedFilesystem",
    "RootInfo",
    "Scope",
    "Severity",
    "Size",
    "Stage",
    "State",
    "StorageInfo",
    "ThinPool",
    "Uninstalled",
    "Unsafe",
    "Unsupported",
    "UsageError",
    "Use",
    "UseKind",
    "Verified",
    "VolumeGroup",
    "__version__",
    "connect",
]

#: The module of each that is not imported yet. What an error is called, evidence of use cannot be.
_ELSEWHERE = {
    "Copied": "client.api:Copied",
    "Host": "client.api:Host",
    "Image": "client.api:Image",
    "Made": "client.api:Made",
    "Size": "client.api:Size",
    "connect": "client.api:connect",
    "ContentsKeywords": "copy_options:ContentsKeywords",
    "CopyKeywords": "copy_options:CopyKeywords",
    "Rate": "copy_options:Rate",
    "HostAddress": "location:HostAddress",
    "Access": "model:Access",
    "Authorized": "model:Authorized",
    "Changed": "model:Changed",
    "Cleaned": "model:Cleaned",
    "Compression": "model:Compression",
    "ContainerFormat": "model:ContainerFormat",
    "CopyResult": "model:CopyResult",
    "Difference": "model:Difference",
    "DirectoryInfo": "model:DirectoryInfo",
    "Domain": "model:Domain",
    "Entry": "model:Entry",
    "EntryType": "model:EntryType",
    "Filesystem": "model:Filesystem",
    "FilesystemSupport": "model:FilesystemSupport",
    "Finding": "model:Finding",
    "FormatSupport": "model:FormatSupport",
    "ImageInfo": "model:ImageInfo",
    "ImageType": "model:ImageType",
    "Installed": "model:Installed",
    "LibvirtPool": "model:LibvirtPool",
    "MissingPackage": "model:MissingPackage",
    "Job": "model:Job",
    "MovedPartition": "model:MovedPartition",
    "Partition": "model:Partition",
    "PlaceInfo": "model:PlaceInfo",
    "ResizedFilesystem": "model:ResizedFilesystem",
    "RootInfo": "model:RootInfo",
    "Scope": "model:Scope",
    "Severity": "model:Severity",
    "State": "model:State",
    "StorageInfo": "model:StorageInfo",
    "ThinPool": "model:ThinPool",
    "Uninstalled": "model:Uninstalled",
    "UseKind": "model:UseKind",
    "Verified": "model:Verified",
    "VolumeGroup": "model:VolumeGroup",
    "Progress": "progress:Progress",
    "ProgressCallback": "progress:ProgressCallback",
    "Stage": "progress:Stage",
    "Use": "model:InUse",
}


def __getattr__(name: str) -> object:
    if name not in _ELSEWHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, original = _ELSEWHERE[name].partition(":")
    value: object = getattr(import_module(f"virtstore.{module}"), original)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__]
