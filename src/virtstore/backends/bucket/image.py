"""What is in a bucket, opened: a whole object to be read, or what is left of an upload."""

from __future__ import annotations

import errno
from typing import NoReturn

from virtstore.backends.base import Identity, Image, PageCache, Version
from virtstore.backends.bucket.objects import Objects
from virtstore.backends.bucket.reading import Ranges
from virtstore.backends.bucket.values import Object
from virtstore.errors import Unsupported

NO_IMAGES = (
    "a bucket holds archives, which are whole and stay as they are; 'virtstore copy --archive'"
    " makes one there, and 'virtstore copy' makes an image of it elsewhere"
)


class BucketImage(Image):
    """An object. Every read is of that very one, or raises `InUse`."""

    def __init__(self, objects: Objects, found: Object) -> None:
        self.object = found
        self._objects = objects
        self._ranges = Ranges(found.size, self._fetch)

    def is_in(self, objects: Objects) -> bool:
        """Whether it lies in the bucket of these objects."""
        return self._objects.client.address == objects.client.address

    @property
    def size(self) -> int:
        return self.object.size

    @property
    def identity(self) -> Identity:
        return identity_of(self._objects, self.object)

    @property
    def version(self) -> Version:
        return Version(self.identity, self.object.size, self.object.modified)

    @property
    def cache(self) -> PageCache:
        return self._ranges

    @property
    def self_checking(self) -> bool:
        return True

    @property
    def open_count(self) -> int:
        """Whoever reads an object reads that one, or is told: there is nobody to wait for."""
        return 0

    def read_at(self, offset: int, length: int) -> bytes:
        return self._ranges.read(offset, length)

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        raise Unsupported(NO_IMAGES)

    def zero(self, offset: int, length: int) -> None:
        raise Unsupported(NO_IMAGES)

    def close(self) -> None:
        self._ranges.close()

    def _fetch(self, start: int, length: int) -> bytes:
        return self._objects.get(self.object.key, start, length, self.object.etag)


class LeftUpload(Image):
    """What an interrupted upload left: so many bytes, which nobody can read back."""

    def __init__(self, size: int, identity: Identity) -> None:
        self._size = size
        self._identity = identity

    @property
    def size(self) -> int:
        return self._size

    @property
    def identity(self) -> Identity:
        return self._identity

    @property
    def version(self) -> Version:
        return Version(self._identity, self._size)

    @property
    def open_count(self) -> int:
        """Who works on it has its claim."""
        return 0

    def read_at(self, offset: int, length: int) -> bytes:
        _refuse_reading()

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        raise Unsupported(NO_IMAGES)

    def zero(self, offset: int, length: int) -> None:
        raise Unsupported(NO_IMAGES)

    def close(self) -> None:
        """Nothing is open."""


def identity_of(objects: Objects, found: Object) -> Identity:
    return "s3", objects.client.address.server, objects.client.address.path(found.key), found.etag


def _refuse_reading() -> NoReturn:
    raise OSError(errno.ENODATA, "the parts of an upload cannot be read before it is whole")
