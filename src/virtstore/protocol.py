"""What a client and an agent say to each other: the types of their messages.

The agent speaks first: `PREAMBLE`, so that whatever a host's login scripts print is told apart
from an agent, and a `Hello`. The order of the messages of each operation is in docs/protocol.md,
and what they look like as bytes in frames.py.

Two versions understand each other in what both have. A message is sent with those of its fields
that are not at their default. Who does not know a field of a request, or of `Start`, which goes on
with one, refuses it (`Unknown`): what a user asked for is done, or nothing is. In any other
message such a field is passed over. So a new field has a default, under which all is as it was
before. What may be left out where the other side does not know it is one of the features in
`Hello`.
"""

from __future__ import annotations

from typing import (
    Any,
    ClassVar,
    Final,
    Generic,
    TypeVar,
    cast,
    get_args,
)

import msgspec

from virtstore.copy_options import CopyOptions
from virtstore.model import (
    Changed,
    Cleaned,
    Compression,
    Entry,
    FileKind,
    Finding,
    ImageInfo,
    Job,
    Open,
    Origin,
    StorageInfo,
    Verified,
)
from virtstore.progress import Stage
from virtstore.version import OLDEST as OLDEST
from virtstore.version import PROTOCOL as PROTOCOL

PREAMBLE: Final = b"virtstore agent\n"

#: Seconds between two `Alive` of one side, and how long the other side waits for any frame.
HEARTBEAT: Final = 10.0
SILENCE: Final = 60.0

#: Of a client, in its `Hello`: it takes `Progressed` with nothing but a stage, in answer to any
#: request that takes long.
STAGES: Final = "stages"
#: Of an agent, in its `Hello`: it takes `Receive.origin`.
ORIGINS: Final = "origins"

Answer = TypeVar("Answer", bound="Message")


class Message(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Base of all messages; on the wire a map, with the class's name as `type`."""


# Both sides ----------------------------------------------------------------------------


class Hello(Message, frozen=True):
    """Who speaks: virtstore's version, the newest protocol that it speaks and the oldest, and the
    features that the other side may use, and does without where they are not named. `verbose`, of
    a client: the agent is to log what it does. `host`, of an agent: what its host calls itself, as
    in `Origin`."""

    version: str
    protocol: int
    oldest: int
    features: tuple[str, ...] = ()
    verbose: bool = False
    host: str = ""

    @property
    def understood(self) -> bool:
        """Whether there is a protocol that both speak. They speak the newest such one."""
        return self.oldest <= PROTOCOL and self.protocol >= OLDEST


class Alive(Message, frozen=True):
    """Nothing but a sign of life, every `HEARTBEAT` seconds. `busy`: a request is being worked on
    that waits for nothing from the other side. `received`: bytes that have arrived from the other
    side."""

    busy: bool = False
    received: int = 0


# Replies -------------------------------------------------------------------------------


class Listed(Message, frozen=True):
    """Some entries; a long listing has `images` for those that are images. `unseen`: the paths of
    those of them whose contents were not looked at (`ListImages.sparing`)."""

    entries: tuple[Entry, ...] = ()
    images: tuple[ImageInfo, ...] = ()
    unseen: tuple[str, ...] = ()


class ListEnd(Message, frozen=True):
    pass


class Told(Message, frozen=True):
    """The answer of `GetInfo`."""

    info: ImageInfo


class ToldStorage(Message, frozen=True):
    info: StorageInfo


class Examined(Message, frozen=True):
    """What the agent found out about its host. `clock`: the host's time when it was sent, in
    seconds since the epoch. `aes`: the processor has instructions for AES. `knows`: the requests
    that the agent knows, and the fields of each, as `NAME.FIELD`."""

    findings: tuple[Finding, ...]
    clock: float
    aes: bool
    knows: tuple[str, ...] = ()


class ListedJobs(Message, frozen=True):
    """What agents of the same user are working on, as far as this session may see it."""

    jobs: tuple[Job, ...]


class Done(Message, frozen=True):
    """An image was changed, or was already as asked."""

    result: Changed


class DoneVerifying(Message, frozen=True):
    result: Verified


class DoneCleaning(Message, frozen=True):
    result: Cleaned


class Progressed(Message, frozen=True):
    """Both 0 as long as it is not known how much there is to do."""

    done: int
    total: int
    stage: Open[Stage] = "copying"


class Failure(Message, frozen=True):
    """The request failed; `code` is one of errors.py."""

    code: str
    message: str
    path: str | None = None


class FileTold(Message, frozen=True):
    """A file in an image: its `path` there, or below the directory that it is to be extracted to;
    `modified` in seconds since 1970, 0 where that is not known; `target`: where a link leads.
    `trouble`: why the rest is not known."""

    path: bytes
    kind: Open[FileKind]
    size: int = 0
    modified: int = 0
    target: bytes = b""
    trouble: str = ""


class FilesTold(Message, frozen=True):
    """Some files of a listing."""

    files: tuple[FileTold, ...]


class FilePart(Message, frozen=True):
    """The payload is what the file that was told last holds from `offset` on. What is told of no
    part is zeros."""

    offset: int


class FileBroken(Message, frozen=True):
    """The file that was told last cannot be read to its end."""

    message: str


class FilesEnd(Message, frozen=True):
    """All files were told. They are of a file system of this type, in `partition` or the logical
    `volume` if in any."""

    filesystem: str
    partition: int | None = None
    volume: str | None = None
    notes: tuple[str, ...] = ()


# The data of a copy ---------------------------------------------------------------------


class Begin(Message, frozen=True):
    """The source is open and locked: its path, and its image's bytes. `holds`: the foreign kind
    (`names.KINDS`) that these are of, if not a raw disk's. `lost`: a note of what was missing of it
    when it was made longer. `warnings`: what there is to say of how it was opened. `origin`: what
    an archive of it is to say."""

    path: str
    size: int
    holds: str | None = None
    lost: str = ""
    warnings: tuple[str, ...] = ()
    origin: Origin | None = None


class Start(Message, frozen=True, forbid_unknown_fields=True):
    """The target is ready, so the source begins. `compare`: messages `Existing` follow. `check`: an
    archive is read through before any of it is sent. `base`: where the source keeps its snapshot,
    what `Ready` said of the base."""

    compare: bool
    check: bool = False
    base: str = ""


class Ready(Message, frozen=True):
    """The target is checked, locked and reserved, under its final path. `compare`: messages
    `Existing` follow. `in_place`: an image is overwritten, and not replaced once the new one is
    whole. `base`: the digest of the image in the base, in hex, where those messages are of that
    alone."""

    path: str
    compare: bool
    in_place: bool = False
    base: str = ""


class Digests(Message, frozen=True):
    """The next blocks' digests: first `zeros` blocks of zeros, then those in the payload."""

    zeros: int


class Existing(Message, frozen=True):
    """The next chunks that the target has already: first `zeros` chunks of zeros, then those
    whose fingerprints (digest.py) are the payload. `last`: behind these it has nothing."""

    zeros: int
    last: bool = False


class Data(Message, frozen=True):
    """One chunk; the payload is one zstd frame, or the bytes themselves where `raw`."""

    offset: int
    length: int
    raw: bool = False


class Patch(Message, frozen=True):
    """One chunk of which the target has a part: the payload is the blocks (digest.BLOCK) whose
    numbers are `blocks`, in ascending order, as one zstd frame, or as they are where `raw`."""

    offset: int
    length: int
    blocks: tuple[int, ...]
    raw: bool = False


class Zero(Message, frozen=True):
    offset: int
    length: int


class Same(Message, frozen=True):
    """One chunk that the target already has."""

    offset: int
    length: int


class End(Message, frozen=True):
    """The source has sent the whole image; the image's digest in hex. `read`: the bytes of it that
    were read, rather than known to be zeros or as in the base."""

    digest: str
    read: int | None = None


class Published(Message, frozen=True):
    """The archive of what was sent has its name: the source keeps the snapshot that it was made of.
    It is answered by `Closed`."""


class Abandon(Message, frozen=True):
    """The source failed, so that what was received is worthless."""


class Received(Message, frozen=True):
    """The copy is whole, verified, flushed and under its final name. `read`: see `End`."""

    path: str
    size: int
    written: int
    digest: str
    warnings: tuple[str, ...] = ()
    read: int | None = None


# An image that is open for reading --------------------------------------------------------


class ReadRange(Message, frozen=True):
    """Asks for at most a chunk of the image that is open. It is answered by `Data` with the bytes
    as they are, by `Zero` where they are zeros for certain, or by `Unreadable`."""

    offset: int
    length: int


class MapRange(Message, frozen=True):
    """Asks where the image that is open is zeros for certain. It is answered by `Ranges`. `one`:
    the first run is enough."""

    offset: int
    length: int
    one: bool = False


class Ranges(Message, frozen=True):
    """The beginning of a range, at `offset`, as runs that follow one another: so many bytes of
    each, and whether they are zeros for certain."""

    offset: int
    runs: tuple[tuple[int, bool], ...]


class Unreadable(Message, frozen=True):
    """A range cannot be read; `code` is one of errors.py. The image stays open."""

    offset: int
    length: int
    code: str
    message: str


class CloseImage(Message, frozen=True):
    """Nothing more is asked of the image that is open."""


class Closed(Message, frozen=True):
    """The image is not open any more. `warnings`: what there is to say of what was read."""

    warnings: tuple[str, ...] = ()


# Requests ------------------------------------------------------------------------------
# A `path` is untrusted text until the agent's policy has resolved it. A `size` is text as
# units.py reads it: what `+1G` is relative to is known only on the host.


class Ask(Message, Generic[Answer], frozen=True, forbid_unknown_fields=True):
    """Base of requests; each names what it is answered with, at its end, if it does not fail, and
    its `handler`: the module and function of `agent.operations` that does it. `verb`: what it is
    called by users, if it changes something on that host. `force_defined`, where one has it: a
    domain that is shut off may lose what it is defined on."""

    handler: ClassVar[str]
    verb: ClassVar[str] = ""


class CreateImage(Ask[Done], frozen=True):
    handler = "images.create"
    verb = "create"
    path: str
    size: str
    thin: str | None = None
    dry_run: bool = False
    sparse: bool = False
    preallocate: bool = False
    backing: str | None = None


class ListImages(Ask[ListEnd], frozen=True):
    """Answered by any number of `Listed` and a `ListEnd`. `path` None: the host's roots. `sparing`:
    where to look at an image costs a request of its own (in a bucket), a long listing looks at the
    newest backup of each image only, and a directory that nothing is in yet is an empty one."""

    handler = "inspect.list_images"
    path: str | None
    long: bool = False
    recursive: bool = False
    sparing: bool = False


class GetInfo(Ask[Told], frozen=True):
    handler = "inspect.info"
    path: str


class GetStorageInfo(Ask[ToldStorage], frozen=True):
    handler = "storage.storage_info"


class Examine(Ask[Examined], frozen=True):
    """Asks for all that could go wrong on the host, as far as the session may see it."""

    handler = "examining.examine"


class ListJobs(Ask[ListedJobs], frozen=True):
    handler = "jobs.list_jobs"


class DeleteImage(Ask[Done], frozen=True):
    handler = "images.delete"
    verb = "delete"
    path: str
    with_snapshots: bool = False
    dry_run: bool = False
    force_defined: bool = False


class RenameImage(Ask[Done], frozen=True):
    """`name`: what the image is to be called in the directory or VG where it is."""

    handler = "renaming.rename"
    verb = "rename"
    path: str
    name: str
    dry_run: bool = False
    force_defined: bool = False


class GrowImage(Ask[Done], frozen=True):
    handler = "image_size.grow"
    verb = "grow"
    path: str
    size: str
    dry_run: bool = False
    sparse: bool = False


class ShrinkImage(Ask[Done], frozen=True):
    handler = "image_size.shrink"
    verb = "shrink"
    path: str
    size: str
    discard_data: bool = False
    dry_run: bool = False
    force_defined: bool = False


class GrowFilesystem(Ask[Done], frozen=True):
    handler = "filesystem_size.grow_filesystem"
    verb = "growfs"
    path: str
    size: str | None = None
    partition: int | None = None
    dry_run: bool = False


class ShrinkFilesystem(Ask[Done], frozen=True):
    """`size` is also `minimum`."""

    handler = "filesystem_size.shrink_filesystem"
    verb = "shrinkfs"
    path: str
    size: str
    partition: int | None = None
    dry_run: bool = False
    force_defined: bool = False


class ResizeImage(Ask[Done], frozen=True):
    """`size` is also `minimum`. `move_swap`: a swap partition that is in the way is moved."""

    handler = "resizing.resize"
    verb = "resize"
    path: str
    size: str
    partition: int | None = None
    move_swap: bool = False
    dry_run: bool = False
    force_defined: bool = False


class TakeSnapshot(Ask[Done], frozen=True):
    handler = "images.snapshot"
    verb = "snapshot"
    path: str
    name: str | None = None
    size: str | None = None
    dry_run: bool = False


class CompressImage(Ask[Done], frozen=True):
    handler = "archives.compress"
    verb = "compress"
    path: str
    format: Compression = "zstd"
    level: int | None = None
    keep: bool = False
    dry_run: bool = False
    force_defined: bool = False


class UncompressImage(Ask[Done], frozen=True):
    handler = "archives.uncompress"
    verb = "uncompress"
    path: str
    keep: bool = False
    dry_run: bool = False
    force_defined: bool = False


class VerifyImage(Ask[DoneVerifying], frozen=True):
    """`quick`: what an archive keeps checksums of is held against those, and not decompressed."""

    handler = "archives.verify"
    path: str
    quick: bool = False


class ListFiles(Ask[FilesEnd], frozen=True):
    """Answered by any number of `FilesTold` and `FilesEnd`. `inside`: a path in the image; of a
    directory what is in it is told."""

    handler = "files.list_files"
    path: str
    inside: bytes = b"/"
    partition: int | None = None
    volume: str | None = None
    recursive: bool = False


class ReadFiles(Ask[FilesEnd], frozen=True):
    """Answered by a `FileTold` for each file in turn, of a directory for all in it, too, with its
    `FilePart` behind it, and `FilesEnd`. `inside`: paths in the image. Without `contents`
    no `FilePart` comes."""

    handler = "files.read_files"
    path: str
    inside: tuple[bytes, ...]
    partition: int | None = None
    volume: str | None = None
    contents: bool = True


class CleanUp(Ask[DoneCleaning], frozen=True):
    handler = "images.clean"
    verb = "clean"
    path: str
    dry_run: bool = False


class HashImage(Ask[End], frozen=True):
    """Answered by `Begin`, then `Digests` of every block of `block` bytes in each of `chunks`
    (chunk numbers; None: all), in order, then `End`."""

    handler = "copying.hash_image"
    path: str
    block: int
    chunks: tuple[int, ...] | None = None


class CopyHere(Ask[Received], frozen=True):
    """A copy within this host; answered by `Progressed` and `Received`. `contents`, here and in
    `Send` and `Receive`: it is written into an image that is there. With `options.nice` an agent
    lowers its priority, for good. `kept_for`: with `options.keep_snapshot`, 8 hexadecimal digits
    that stand for the place of the archive, for which one snapshot is kept."""

    handler = "copying.copy_here"
    verb = "copy"
    source: str
    target: str
    options: CopyOptions = CopyOptions()
    contents: bool = False
    dry_run: bool = False
    kept_for: str = ""


class Send(Ask[End | Closed], frozen=True):
    """The source's end of a copy. Where its target keeps our frames (`options.compression`), each
    chunk is one. An archive that goes into an image is read through before `Begin`. With
    `options.keep_snapshot`, `Published` is waited for after `End`; `kept_for` as in `CopyHere`."""

    handler = "copying.send_image"
    path: str
    options: CopyOptions = CopyOptions()
    contents: bool = False
    kept_for: str = ""


class Receive(Ask[Received | Ready], frozen=True):
    """The target's end of a copy of `size` bytes. `name` is the source's, for a `path` that
    is a directory, `holds`, `lost` and `origin` what `Begin` said (`ORIGINS`)."""

    handler = "copying.receive_image"
    verb = "copy"
    path: str
    name: str
    size: int
    options: CopyOptions = CopyOptions()
    contents: bool = False
    dry_run: bool = False
    holds: str | None = None
    lost: str = ""
    origin: Origin | None = None


class OpenImage(Ask[Closed], frozen=True):
    """Opens an image, or the image in an archive, to be read at any offset. Answered by `Begin`;
    then each `ReadRange` and `MapRange` is answered in turn, until `CloseImage`. `raw`: the bytes
    are a raw disk's, whatever they look like."""

    handler = "exporting.open_image"
    path: str
    snapshot: bool = False
    allow_in_use: bool = False
    raw: bool = False


#: Any request, whatever it is answered with.
Request = Ask[Any]
Requests = (
    CreateImage
    | ListImages
    | GetInfo
    | GetStorageInfo
    | Examine
    | ListJobs
    | DeleteImage
    | RenameImage
    | GrowImage
    | ShrinkImage
    | GrowFilesystem
    | ShrinkFilesystem
    | ResizeImage
    | TakeSnapshot
    | CompressImage
    | UncompressImage
    | VerifyImage
    | ListFiles
    | ReadFiles
    | CleanUp
    | HashImage
    | CopyHere
    | Send
    | Receive
    | OpenImage
)
Reply = (
    Listed
    | ListEnd
    | Told
    | ToldStorage
    | Examined
    | ListedJobs
    | Done
    | DoneVerifying
    | DoneCleaning
    | Progressed
    | FileTold
    | FilesTold
    | FilePart
    | FileBroken
    | FilesEnd
    | Failure
    | Received
)
CopyMessage = (
    Begin
    | Start
    | Ready
    | Digests
    | Existing
    | Data
    | Patch
    | Zero
    | Same
    | End
    | Abandon
    | Published
)
OpenMessage = ReadRange | MapRange | Ranges | Unreadable | CloseImage | Closed
#: What is sent.
Known = Hello | Alive | Requests | Reply | CopyMessage | OpenMessage


def answers_of(request: type[Ask[Any]]) -> tuple[type[Message], ...]:
    """The types of messages with which a request of this type is answered."""
    (base,) = request.__orig_bases__  # type: ignore[attr-defined]
    (answer,) = get_args(base)
    return get_args(answer) or (answer,)


def known_requests() -> tuple[str, ...]:
    """The requests that this version knows, and the fields of each, as `Examined.knows`."""
    kinds: tuple[type[Request], ...] = get_args(Requests)
    fields = [f"{kind.__name__}.{field}" for kind in kinds for field in kind.__struct_fields__]
    options = [f"{CopyOptions.__name__}.{field}" for field in CopyOptions.__struct_fields__]
    return (*(kind.__name__ for kind in kinds), *fields, *options)


def answer_to(request: Ask[Answer], message: Message) -> Answer | None:
    """The message, if it answers `request` at its end; else None."""
    return cast(Answer, message) if isinstance(message, answers_of(type(request))) else None


class Unknown(Message, frozen=True):
    """A message of a newer peer's, of which this version does not know all. Never sent."""

    name: str
    lacks: str


#: What may arrive.
AnyMessage = Known | Unknown

#: A message with its payload.
Frame = tuple[AnyMessage, bytes]

#: A part of an image as a source tells it, with the payload of `Data` or `Patch`; and its end.
Part = tuple[Data | Patch | Zero | Same, bytes]
Sent = Part | tuple[End, bytes]
