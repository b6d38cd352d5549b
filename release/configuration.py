"""What each key of the configuration means, for the manual and the reference. Which keys there are,
and what they are if nothing is said, is read from the types that the agent checks them with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

from virtstore.agent.config import Config, Limits
from virtstore.backends.kinds import KINDS

_ACCESS: Final = (
    'What clients may do: "read", "append" (read, and make new images, but neither change nor'
    ' remove one), or "write".'
)

#: By table and key; those of no table are under "".
_MEANINGS: Final[dict[str, dict[str, str]]] = {
    "": {
        "log": 'Where is written who changed what, and what was refused: "journal", "syslog",'
        ' "none", or the whole path of a file.',
    },
    "directory": {
        "path": "The directory. All below it is part of it, but for links and other mounts. It must"
        " belong to root or to the agent's user, and nobody else may write to it.",
        "access": _ACCESS,
        "mode": "The mode of new files, in octal.",
        "owner": "The owner of new files: a name or a number. Default: the agent's user.",
        "group": "The group of new files: a name or a number.",
        "volatile": "Whether the directory may lie in memory (tmpfs), where a reboot empties it.",
        "format": "What images are whose names say nothing, because they end in .img or in nothing"
        ' known: "raw" or "qcow2". Names that end in .qcow2, .vmdk, .vdi, .vhdx, .raw or .iso mean'
        " what they say.",
    },
    "block_device": {
        "path": "The device, or a link to it: a disk, partition, LUN, DRBD device or ZFS volume,"
        " which is one image of fixed size. A name below /dev/disk/by-id stays the same.",
        "access": _ACCESS,
    },
    "volume_group": {
        "name": "The volume group, as vgs(8) shows it. Its logical volumes are images.",
        "access": _ACCESS,
    },
    "rbd_pool": {
        "name": "The pool of a Ceph cluster. Its images are /dev/rbd/POOL/IMAGE, their snapshots"
        " /dev/rbd/POOL/IMAGE@SNAPSHOT.",
        "access": _ACCESS,
        "conf": "Ceph's configuration, which says where the monitors are.",
        "user": 'Ceph\'s user, without "client.". One suffices whose capabilities are: mon "profile'
        ' rbd", osd "profile rbd pool=POOL".',
        "keyring": "The file with the user's key. Default: the one that Ceph's configuration says.",
        "namespace": "The namespace of the pool, in which the images are. Default: none.",
    },
    "bucket": {
        "name": "What the bucket is called here: its archives are /s3/NAME/KEY.",
        "endpoint": 'The S3 service: "https://HOST" or "https://HOST:PORT".',
        "bucket": "What the service calls the bucket. Credentials are those of the agent's user.",
        "prefix": 'What all keys begin with, such as "site-a/". Other keys are not seen.',
        "region": "The region, as the service calls it. Default: that of the agent's user.",
        "access": _ACCESS,
        "path_style": "Whether the bucket's name stands in the path, and not before the name of the"
        " server. Default: by the endpoint.",
        "patience": "For how many seconds an outage of the service is waited out.",
    },
    "limits": {
        "max_image_size": 'The largest size that an image may get, such as "2T".',
        "mount_guest_filesystems": "Whether XFS and Btrfs may be mounted in this host's kernel,"
        " which is the only way of resizing them.",
    },
}


class Key(NamedTuple):
    """`default`: its value if nothing is said, as TOML; "" where there is none."""

    name: str
    default: str
    required: bool
    meaning: str


class Table(NamedTuple):
    """`header`: as it is written; "" for the keys that stand before all tables."""

    header: str
    keys: tuple[Key, ...]


def tables() -> Iterator[Table]:
    """All tables that there are, in the order of a file."""
    log = next(field for field in msgspec.structs.fields(Config) if field.name == "log")
    yield Table("", (_key("", log),))
    for kind in KINDS:
        yield _table(f"[[{kind.section}]]", kind.section, kind)
    yield _table("[limits]", "limits", Limits)


def _table(header: str, name: str, kind: type[msgspec.Struct]) -> Table:
    return Table(header, tuple(_key(name, field) for field in msgspec.structs.fields(kind)))


def _key(table: str, field: msgspec.structs.FieldInfo) -> Key:
    return Key(field.name, _toml(field.default), field.required, _MEANINGS[table][field.name])


def _toml(value: Any) -> str:
    if value is None or value is msgspec.NODEFAULT:
        return ""
    return str(value).lower() if isinstance(value, int) else f'"{value}"'
