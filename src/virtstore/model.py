"""What virtstore answers: frozen typed values whose fields are the JSON keys.

Sizes are bytes. `host` is the host's name as the user wrote it, `local` for this
machine; an agent leaves it empty and the client fills it in.

Words that a host says are of the kinds named here; a newer host may have more of them (`Open`).
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import msgspec

ImageType = Literal[
    "file",
    "lvm",
    "lvm-thin",
    "lvm-snapshot",
    "lvm-thin-snapshot",
    "block",
    "rbd",
    "rbd-snapshot",
    "object",
]
EntryType = Literal[ImageType, "directory", "volume-group", "other", "rbd-pool", "bucket"]
Compression = Literal["zstd", "lz4", "lzop", "gzip", "xz"]
#: Files that hold a disk in a format of their own, as `formats.containers` recognises them.
ContainerFormat = Literal[
    "qcow2", "vmdk", "vdi", "vhdx", "vhd", "qcow", "qed", "parallels", "dmg", "bochs", "cloop"
]
State = Literal["complete", "partial"]
Access = Literal["read", "append", "write"]
#: For whom virtstore is installed on a host: everybody, or the one user who logs in.
Scope = Literal["root", "user"]
#: What makes an archive the image of one moment (`Origin`).
Moment = Literal["snapshot", "live", "unused", "in-use"]
ExtentKind = Literal["data", "zero", "unknown"]
#: What a file in an image is; `other`: a device, a socket, a named pipe.
FileKind = Literal["file", "directory", "symlink", "other"]
#: `ok` and `note` leave the exit status of `doctor` at 0; the others make it 1.
Severity = Literal["ok", "note", "warning", "problem"]
UseKind = Literal[
    "mount", "swap", "loop", "holder", "process", "open-count", "qemu-lock", "domain", "watcher"
]

if TYPE_CHECKING:
    Word = TypeVar("Word")
    Open = Annotated[Word, "any text that a newer host says is taken as it is"]
else:

    class Open:
        """`Open[Words]` is one of `Words`, or any text that a newer host says instead."""

        def __class_getitem__(cls, words: object) -> type[str]:
            return str


class Extent(msgspec.Struct, frozen=True):
    """A run of an image. `zero` reads as zeros without reading it; `unknown` must be read."""

    offset: int
    length: int
    kind: ExtentKind

    @property
    def end(self) -> int:
        return self.offset + self.length


class Filesystem(msgspec.Struct, frozen=True):
    """What blkid recognised. `size` and `minimum` are null where it cannot be told."""

    type: str
    uuid: str | None = None
    label: str | None = None
    size: int | None = None
    minimum: int | None = None


class Partition(msgspec.Struct, frozen=True):
    """One partition; `start` and `size` in bytes, `type` an MBR id or a GPT type GUID."""

    number: int
    start: int
    size: int
    type: str
    name: str | None = None
    filesystem: Filesystem | None = None


class InUse(msgspec.Struct, frozen=True):
    """One piece of evidence that somebody uses an image."""

    by: Open[UseKind]
    detail: str


class Domain(msgspec.Struct, frozen=True):
    """A libvirt domain, and its state in libvirt's words (`running`, `shut off`, …)."""

    name: str
    state: str


class InnerFilesystem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file system that an archive's image had: its type, its label, and the number of the
    partition that it was in (null without partitions)."""

    type: str
    label: str | None = None
    partition: int | None = None


class Origin(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an archive was made of, and how. `made`: UTC; of a snapshot, when that was taken.
    `host`: the host's own name; `path` and `type`: the image's there. `moment`: what made it one
    moment's image: a snapshot, a domain's own job (`live`), that nobody used it (`unused`), or
    nothing (`in-use`). `quiesced`: the guest's file systems were frozen for it."""

    made: datetime
    host: str
    path: str
    type: Open[ImageType]
    moment: Open[Moment]
    quiesced: bool = False
    filesystems: tuple[InnerFilesystem, ...] = ()


class ImageInfo(msgspec.Struct, frozen=True):
    """Everything that can be read off an image. `size` is what a guest sees (null where the
    format of an archive or a container does not say), `allocated` the space taken on the host,
    `stored` the archive's own length (null for what is no archive in a file).
    `container`: the format of a file that is no raw image, `backing`: the path of the image that
    it lies over, as an absolute path if the file's name says its format, else as the header has it.
    An archive has the container that is in it. `overlays`: the paths of the images that lie over
    it, as far as they lie beside it; only `info` looks for them, and tells of 100 at the most.
    `cluster_size`: the bytes that a qcow2 allocates at a time; `internal_snapshots` and `bitmaps`:
    the names of those in it.
    `domain`: the libvirt domain that has it; null where that was not looked for.
    `modified`: when it was last written to (UTC, whole seconds); null where that is not known: LVM
    keeps no such time of a volume. Of an archive of virtstore's own, `made`, `source` (`HOST:PATH`,
    by the host's own name), `moment` and `quiesced` say when, of what and how it was made
    (`Origin`). `owner`: the user whose file it is, by name, or by number where
    the host knows no name; null for what is no file."""

    path: str
    host: str
    type: Open[ImageType]
    size: int | None
    allocated: int
    compression: Open[Compression] | None = None
    container: Open[ContainerFormat] | None = None
    backing: str | None = None
    domain: Domain | None = None
    modified: datetime | None = None
    owner: str | None = None
    state: Open[State] = "complete"
    snapshot_of: str | None = None
    snapshots: tuple[str, ...] = ()
    filesystem: Filesystem | None = None
    partitions: tuple[Partition, ...] = ()
    mounted: bool = False
    in_use: tuple[InUse, ...] = ()
    warnings: tuple[str, ...] = ()
    stored: int | None = None
    cluster_size: int | None = None
    internal_snapshots: tuple[str, ...] = ()
    bitmaps: tuple[str, ...] = ()
    overlays: tuple[str, ...] = ()
    made: datetime | None = None
    source: str | None = None
    moment: Open[Moment] | None = None
    quiesced: bool | None = None


class Entry(msgspec.Struct, frozen=True):
    """One line of `list`: a directory, a root, an image. With `-l` an image is an
    `ImageInfo`, which has these fields too."""

    path: str
    host: str
    type: Open[EntryType]
    state: Open[State] = "complete"


class FileEntry(msgspec.Struct, frozen=True):
    r"""A file in an image. `path`: from `/` on, with `\xNN` for what is no UTF-8, or a terminal
    would obey; `size`: bytes of a file, 0 of what is none; `modified`: UTC, whole seconds;
    `target`: where a link leads. `warnings`: why the rest is not known."""

    path: str
    type: Open[FileKind]
    size: int
    modified: datetime | None = None
    target: str | None = None
    warnings: tuple[str, ...] = ()


class Extracted(msgspec.Struct, frozen=True):
    """What was taken out of an image, or would be (`dry_run`): `files` of `size` bytes in all,
    `directories` and `links`, to `directory` here."""

    path: str
    host: str
    directory: str
    files: int
    directories: int
    links: int
    size: int
    dry_run: bool = False
    warnings: tuple[str, ...] = ()


class DirectoryInfo(msgspec.Struct, frozen=True):
    """A root. `snapshots`: its file system can share blocks between files (reflinks). `lacks`:
    what else of what virtstore uses it has not got (docs/design.md); not looked at where
    nothing may be written."""

    path: str
    access: Open[Access]
    filesystem: str
    total: int
    free: int
    snapshots: bool
    lacks: tuple[str, ...] = ()


class PlaceInfo(msgspec.Struct, frozen=True):
    """A root of which there is no more to say than this. `type`: what `list` calls it."""

    path: str
    access: Open[Access]
    type: Open[EntryType]
    total: int
    free: int

    @property
    def filesystem(self) -> str:
        return self.type

    @property
    def snapshots(self) -> bool:
        return self.type == "rbd-pool"


class ThinPool(msgspec.Struct, frozen=True):
    name: str
    total: int
    free: int


class VolumeGroup(msgspec.Struct, frozen=True):
    path: str
    access: Open[Access]
    total: int
    free: int
    extent_size: int
    thin_pools: tuple[ThinPool, ...] = ()

    @property
    def filesystem(self) -> str:
        return "LVM"

    @property
    def snapshots(self) -> bool:
        return True


#: What `storage-info` tells of a root.
RootInfo = DirectoryInfo | VolumeGroup | PlaceInfo


class FilesystemSupport(msgspec.Struct, frozen=True):
    """What this host can do with a file system; `missing` names the tools that would be needed."""

    type: str
    grow: bool
    shrink: bool
    missing: tuple[str, ...] = ()


class FormatSupport(msgspec.Struct, frozen=True):
    name: Open[Compression]
    read: bool
    write: bool


class LibvirtPool(msgspec.Struct, frozen=True):
    """A pool of libvirt's that lies in no root. `remedy`: what to do so that one has it, the lines
    of configuration among that."""

    name: str
    path: str
    remedy: str


class StorageInfo(msgspec.Struct, frozen=True):
    """`places`: the roots of other kinds than the first two. `warnings`: roots that are configured
    and cannot be used, or lack something, and why. `unmanaged`: libvirt's pools in no root."""

    host: str
    version: str
    directories: tuple[DirectoryInfo, ...]
    volume_groups: tuple[VolumeGroup, ...]
    filesystems: tuple[FilesystemSupport, ...]
    formats: tuple[FormatSupport, ...]
    warnings: tuple[str, ...] = ()
    places: tuple[PlaceInfo, ...] = ()
    unmanaged: tuple[LibvirtPool, ...] = ()

    @property
    def roots(self) -> tuple[RootInfo, ...]:
        return (*self.directories, *self.volume_groups, *self.places)


class CopyResult(msgspec.Struct, frozen=True):
    """`size`: image bytes. `transferred`: bytes over the wire. `written`: bytes written to
    the target. `digest`: the image's, in hex (docs/archive-format.md). `seconds`: elapsed.
    `warnings`: what the copy is not, such as a disk that any program reads."""

    source: str
    target: str
    size: int
    transferred: int
    written: int
    digest: str
    seconds: float
    warnings: tuple[str, ...] = ()


class Failed(msgspec.Struct, frozen=True):
    """Why one of several could not be done: what an error says."""

    code: str
    message: str
    host: str | None = None
    path: str | None = None


class BackedUp(msgspec.Struct, frozen=True):
    """What the backup of one image led to. `target`: the backup; null where it was not begun.
    `size`: image bytes. `transferred`: bytes over the wire. `base`: the backup that it has the
    unchanged chunks from. `error`: why there is no backup, or what was to follow failed; null where
    all went well. `pruned`: the older backups that were removed, as no rule keeps them. `warnings`:
    what the backup is not, such as quiesced. `read`: bytes of the image that were read, which is
    less where it is known what has changed; null where its host did not say."""

    source: str
    target: str | None = None
    size: int | None = None
    transferred: int = 0
    base: str | None = None
    seconds: float = 0.0
    error: Failed | None = None
    pruned: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    read: int | None = None


class ResizedFilesystem(msgspec.Struct, frozen=True):
    """The file system that a resize was about: its type, and its bytes now."""

    type: str
    size: int


class MovedPartition(msgspec.Struct, frozen=True):
    """A partition that lies elsewhere now: the bytes where it begins and where it began."""

    number: int
    start: int
    old_start: int
    size: int


class Changed(msgspec.Struct, frozen=True):
    """What changing an image led to. `size` and `allocated` are the image's now (with
    `dry_run`: what they would be, at the most where only shrinking it tells). Of a resize,
    `partition` is the number of the partition that it was about (null for an image without
    partitions), `filesystem` what is in it (null in a dry run where only doing it tells its size)
    and `moved` what was moved out of its way. `changed` is false where things were already as
    asked. `plan` says what a dry run would do, `warnings` what there is to know of the outcome, or
    is left for others to do."""

    path: str
    host: str
    changed: bool
    size: int | None = None
    allocated: int | None = None
    partition: int | None = None
    filesystem: ResizedFilesystem | None = None
    dry_run: bool = False
    plan: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    moved: MovedPartition | None = None


class Verified(msgspec.Struct, frozen=True):
    """A read-through: `digest` is the image's digest as computed from what was read;
    `checked` says what it was held against (`"digest"`, `"checksums"` or `"nothing"`)."""

    path: str
    host: str
    size: int
    compression: Open[Compression] | None
    digest: str
    checked: Open[Literal["digest", "checksums", "nothing"]]
    warnings: tuple[str, ...] = ()


class Difference(msgspec.Struct, frozen=True):
    """`different` bytes of `size` lie in blocks (of `granularity` bytes) that differ;
    what one image has beyond the other's end counts as different."""

    left: str
    right: str
    size: int
    different: int
    granularity: int
    warnings: tuple[str, ...] = ()


class Exported(msgspec.Struct, frozen=True):
    """Where an image is served as NBD: `uri` is what clients take, `socket` the path in it; `size`:
    bytes of the image."""

    source: str
    uri: str
    socket: str
    size: int
    warnings: tuple[str, ...] = ()


class Cleaned(msgspec.Struct, frozen=True):
    """`removed`: the paths, as `list` shows them, whose leftovers were removed;
    `freed`: bytes given back; `warnings`: which leftovers stay, and why."""

    path: str
    host: str
    removed: tuple[str, ...]
    freed: int
    dry_run: bool = False
    warnings: tuple[str, ...] = ()


class Finding(msgspec.Struct, frozen=True):
    """One thing that `doctor` looked at: `what` it is like, how bad that is, and what to do about
    it (`remedy`; null where nothing is to be done). `ok`: nothing is wrong. `note`: worth knowing,
    or something cannot be done that nobody may want to do. `warning`: it works, and will not for
    long, or not in every case. `problem`: something that is configured does not work."""

    host: str
    severity: Open[Severity]
    what: str
    remedy: str | None = None

    @property
    def is_wrong(self) -> bool:
        """Whether somebody has to look after it."""
        return self.severity not in ("ok", "note")


class Job(msgspec.Struct, frozen=True):
    """What an agent is working on. `pid`: the agent's; `user`: who came by ssh, or sudo, and
    `from_` (JSON: `from`) the address from which; null where that is not known. `path`: null where
    it is about the host as a whole. `began`: UTC, whole seconds. `done` and `total` are bytes, as
    in progress: both 0 as long as that is not known."""

    host: str
    pid: int
    user: str
    from_: str | None = msgspec.field(name="from")
    verb: str
    path: str | None
    began: datetime
    stage: str
    done: int
    total: int


class MissingPackage(msgspec.Struct, frozen=True):
    """A Debian package that a host lacks, and what it is for. `needed`: nothing is done without
    it."""

    package: str
    purpose: str
    needed: bool = False


class Installed(msgspec.Struct, frozen=True):
    """What `install` led to. `directory` is that of the bundle, `configuration` the file that says
    what is allowed. `lines` are still to be added there, by hand: there was a configuration
    already. `agent` is how a session starts its agent where the host's PATH does not tell, as
    hosts.toml has it. `plan` says what a dry run would do."""

    host: str
    version: str
    directory: str
    configuration: str
    changed: bool
    lines: str | None = None
    agent: str | None = None
    missing: tuple[MissingPackage, ...] = ()
    dry_run: bool = False
    plan: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Uninstalled(msgspec.Struct, frozen=True):
    """What `uninstall` removed, and what it left: what it did not put there, or is others' by
    now."""

    host: str
    removed: tuple[str, ...]
    kept: tuple[str, ...]
    changed: bool
    dry_run: bool = False


class Authorized(msgspec.Struct, frozen=True):
    """The line of a key in the authorized_keys `file` of a host. `changed` is false where it was
    there already. `warnings` say what else the host lacks for that key to be of use."""

    host: str
    file: str
    line: str
    changed: bool
    dry_run: bool = False
    warnings: tuple[str, ...] = ()
