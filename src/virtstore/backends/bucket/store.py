"""One directory of a bucket: the objects whose keys begin with its prefix, up to the next slash.

A bucket has no directories: one is there as long as something is in it. Objects are whole or not
there, and are never changed. What is partial is an upload with a claim (claims.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, NoReturn

from virtstore.backends.base import (
    PARTIAL_SUFFIX,
    Capabilities,
    Image,
    ImageDraft,
    Look,
    Store,
    Stored,
    nothing,
)
from virtstore.backends.bucket import claims
from virtstore.backends.bucket.archive import BucketArchive
from virtstore.backends.bucket.client import Client
from virtstore.backends.bucket.image import NO_IMAGES, BucketImage, LeftUpload, identity_of
from virtstore.backends.bucket.objects import Objects
from virtstore.backends.bucket.values import Object, Page, Part
from virtstore.errors import Denied, Error, InUse, NotFound, Unsupported, UsageError

#: Bytes that a key has at the most.
_KEY_MAX: Final = 1024
#: What `free` says: a bucket has no size.
_ENDLESS: Final = 1 << 60
#: Objects in a page of a listing, and such as are remembered until they are opened.
_PAGE: Final = 1000
_MOST_SEEN: Final = 100_000
#: Objects that are open at once for a listing: the ends of all of them are in memory.
_OPEN: Final = 16
#: Ends of objects that are fetched at once.
_AT_ONCE: Final = 16
_READ_ONLY: Final = (
    "what is in a bucket stays as it is; copy it to a directory, where that can be changed"
)


class Bucket(Store):
    """`prefix`: what the keys of this directory begin with, "" or with a slash at its end. With a
    `name` only that is looked for in it."""

    capabilities = Capabilities(
        archives=True, archives_only=NO_IMAGES, far=True, at_once=_OPEN, noun="a bucket"
    )

    def __init__(self, objects: Objects, prefix: str, name: str = "") -> None:
        self._objects = objects
        self._prefix = prefix
        self._name = name
        self._seen: dict[str, Object] = {}
        self._opened: dict[str, BucketImage] = {}  # by `announce`
        self._listed: list[Page] = []  # by `interrupted`, for `scan`

    @property
    def client(self) -> Client:
        """What the bucket is asked with."""
        return self._objects.client

    def close(self) -> None:
        self._objects.close()

    def refresh(self) -> None:
        self._seen.clear()
        self._opened.clear()
        self._listed = []

    def identity(self, name: str) -> str:
        address = self._objects.client.address
        return f"s3:{address.server}{address.path(self._key(name))}"

    def free(self) -> int:
        """See the contract. Raises what keeps the bucket from being listed."""
        next(self._objects.listed(self._prefix, most=1))
        return _ENDLESS

    def has_any(self) -> bool:
        """Whether anything lies in it."""
        page = next(self._objects.listed(self._prefix, most=1))
        return bool(page.objects or page.prefixes)

    def scan(self) -> Iterator[Stored]:
        claimed: dict[str, Object] = {}
        self._seen.clear()
        for page in self._pages():
            for found in page.objects:
                name = found.key[len(self._prefix) :]
                if name.endswith(PARTIAL_SUFFIX):
                    claimed[name.removesuffix(PARTIAL_SUFFIX)] = found
                elif name and self._name in ("", name):
                    if len(self._seen) < _MOST_SEEN:
                        self._seen[name] = found
                    yield self._stored(name, found)
            if not self._name:
                yield from self._directories(page.prefixes)
        for name, claim in claimed.items():
            if self._name in ("", name):
                yield from self._partial(name, claim)

    def interrupted(self) -> list[str]:
        """See the contract. A claim that is there still when the archive is, and its upload is not:
        looked for in a whole directory only, of which the listing then serves `scan`, too."""
        if self._name:
            return []
        pages = list(self._pages())
        self._listed = pages if len(pages) * _PAGE <= _MOST_SEEN else []
        keys = {found.key for page in pages for found in page.objects}
        claimed = [key.removesuffix(PARTIAL_SUFFIX) for key in keys if key.endswith(PARTIAL_SUFFIX)]
        stale = [key for key in claimed if key in keys and not self._uploaded(key)]
        return sorted(key[len(self._prefix) :] for key in stale)

    def mend(self, name: str) -> None:
        key = self._key(name)
        with suppress(InUse, Denied):  # whoever has it removes it; or nobody may
            if claims.abandoned(self._objects, key) and not self._uploaded(key):
                self._objects.delete(claims.key_of(key))
        self._listed = []

    def _pages(self) -> Iterator[Page]:
        listed, self._listed = self._listed, []
        return iter(listed) if listed else self._objects.listed(self._key(self._name), most=_PAGE)

    def _uploaded(self, key: str) -> list[list[Part]]:
        """The parts of each open upload that a claim on a key stands for."""
        ids = claims.uploads(self._objects, key)
        return [p for each in ids if (p := self._objects.parts(key, each)) is not None]

    def find(self, name: str) -> Stored | None:
        found = [stored for stored in self._only(name).scan() if stored.name == name]
        return min(found, key=lambda stored: stored.state, default=None)

    def announce(self, names: Sequence[str]) -> None:
        """See the contract. The ends of the objects are fetched, several at once."""
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="ends") as pool:
            for name, image in pool.map(self._with_end, [n for n in names if n in self._seen]):
                self._opened[name] = image

    def _with_end(self, name: str) -> tuple[str, BucketImage]:
        image = BucketImage(self._objects, self._seen[name])
        with suppress(Error, OSError):  # whoever reads it is told
            image.read_at(max(image.size - 1, 0), 1)
        return name, image

    def open(
        self, name: str, *, writable: bool = False, partial: bool = False, stored: bool = False
    ) -> Image:
        if writable:
            raise Unsupported(_READ_ONLY)
        if partial:
            left = [s for s in self._only(name).scan() if s.name == name and s.state == "partial"]
            if not left:
                raise NotFound("no such image")
            return LeftUpload(left[0].size, left[0].identity)
        if name in self._opened:
            return self._opened.pop(name)
        found = self._seen.pop(name, None) or self._objects.head(self._key(name))
        if found is None:
            self._refuse_missing(name)
        return BucketImage(self._objects, found)

    def _refuse_missing(self, name: str) -> NoReturn:
        """Raises `NotFound` for an object that is not there, or for the bucket. What answers HEAD
        has no words for which of both it is."""
        with suppress(Denied):  # who may not list it
            next(self._objects.listed(self._key(name), most=1))
        raise NotFound("no such image")

    def require_name(self, name: str) -> None:
        length = len((self._key(name) + PARTIAL_SUFFIX).encode(errors="surrogateescape"))
        if length > _KEY_MAX:
            raise UsageError(
                f"its key has {length - len(PARTIAL_SUFFIX)} bytes, and at most"
                f" {_KEY_MAX - len(PARTIAL_SUFFIX)} are possible: choose a shorter name"
            )

    def archive(self, name: str) -> BucketArchive:
        key = self._key(name)
        held = claims.take(self._objects, key)
        try:
            upload, there = self._left(key, held) or (self._objects.begin(key), [])
            held.note(upload)
            parts = {part.number: part for part in there}
            return BucketArchive(self._objects, key, held, upload, parts)
        except BaseException:
            with suppress(Error):
                held.release()
            raise

    def _left(self, key: str, held: claims.Held) -> tuple[str, list[Part]] | None:
        """The upload to go on with, and its parts. There is one at the most: where the one who left
        it could not write down which it was, no other of this key is kept."""
        kept: tuple[str, list[Part]] | None = None
        for upload in held.left:
            parts = self._objects.parts(key, upload)
            if kept:
                self._objects.abort(key, upload)
            elif parts is not None:
                kept = upload, parts
        return kept

    def draft(
        self,
        name: str,
        size: int,
        thin: str | None = None,
        *,
        sparse: bool = False,
        preallocate: bool = False,
        stored: bool = False,
    ) -> ImageDraft:
        raise Unsupported(NO_IMAGES)

    def rework(self, name: str, before: Callable[[Image], None] = lambda image: None) -> ImageDraft:
        raise Unsupported(_READ_ONLY)

    def remove(self, name: str, *, with_snapshots: bool = False) -> None:
        key = self._key(name)
        if self._objects.head(key) is None:
            self._refuse_missing(name)
        self._objects.delete(key)
        self._seen.pop(name, None)
        self.mend(name)

    def discard(self, name: str, *, was_image: bool = False) -> None:
        key = self._key(name)
        if claims.abandoned(self._objects, key):  # else an upload is another program's
            for upload in claims.uploads(self._objects, key):
                self._objects.abort(key, upload)
            self._objects.delete(claims.key_of(key))

    def grow(
        self,
        name: str,
        size: int,
        *,
        in_use: bool = False,
        between: Look = nothing,
        sparse: bool = False,
    ) -> None:
        raise Unsupported(_READ_ONLY)

    def shrink(self, name: str, size: int) -> None:
        raise Unsupported(_READ_ONLY)

    def _key(self, name: str) -> str:
        return self._prefix + name

    def _only(self, name: str) -> Bucket:
        """The same, of which only one name is looked for."""
        other = Bucket(self._objects, self._prefix, name)
        other._seen = self._seen
        return other

    def _stored(self, name: str, found: Object) -> Stored:
        if not _is_sayable(name):  # a name that no request can have
            return Stored(name.encode("ascii", "backslashreplace").decode(), "other")
        return Stored(
            name=name,
            type="object",
            size=found.size,
            allocated=found.size,
            identity=identity_of(self._objects, found),
            modified=found.modified,
        )

    def _directories(self, prefixes: Iterable[str]) -> Iterator[Stored]:
        for prefix in prefixes:
            name = prefix[len(self._prefix) :].rstrip("/")
            if name and _is_sayable(name):
                yield Stored(name, "directory", identity=("s3", prefix))

    def _partial(self, name: str, claim: Object) -> Iterator[Stored]:
        """What was uploaded under a claim. A claim beside a whole object, without an upload, is
        what a writer left that was killed then, or might not remove it: no part of anything."""
        uploaded = self._uploaded(self._key(name))
        if not uploaded and self._objects.head(self._key(name)):
            return
        size = sum(part.size for parts in uploaded for part in parts)
        yield Stored(
            name=name,
            type="object",
            state="partial",
            size=size,
            allocated=size,
            identity=identity_of(self._objects, claim),
            modified=claim.modified,
        )


def _is_sayable(name: str) -> bool:
    with suppress(UnicodeEncodeError):
        name.encode()
        return not any(character in name for character in "\0\n\r") and name not in (".", "..")
    return False
