"""An archive in the making, in a bucket: an upload in parts under a claim (claims.py).

Nothing has the archive's name before the upload is completed. Whether the name is still free is
asked before that, and the server is told to complete only where it is, which the newer ones heed. A
completion whose answer was lost is known by the ETag of what has the name then.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from virtstore.backends.base import ArchiveSink, Displaced, Readable
from virtstore.backends.bucket import parts
from virtstore.backends.bucket.claims import Held
from virtstore.backends.bucket.connections import Answer
from virtstore.backends.bucket.image import BucketImage
from virtstore.backends.bucket.objects import Objects
from virtstore.backends.bucket.upload import Filling, Upload, refuse_number
from virtstore.backends.bucket.values import Object, Part, combined
from virtstore.errors import Corrupt, Denied, Error, InUse, Unsupported

_STEP = 8 << 20


class BucketArchive(ArchiveSink):
    """Takes the claim `held` over, and gives it back in the end. `upload`: an open one of the key,
    with its parts."""

    def __init__(
        self, objects: Objects, key: str, held: Held, upload: str, there: dict[int, Part]
    ) -> None:
        self.whole = False
        self._objects = objects
        self._key = key
        self._held = held
        self._upload = Upload(objects, key, upload, held, there)
        self._number = 1
        self._filling = Filling(parts.length_of(1))
        self._size = 0
        self._copies: bool | None = None  # whether the server copies parts, once it was seen
        self._parts: list[Part] = []
        self._sources: dict[str, Object] = {}  # of which parts were copied
        self._published = False

    @property
    def size(self) -> int:
        return self._size

    def append(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            some = view[: self._filling.most - self._filling.length]
            self._filling.add(some)
            self._size += len(some)
            view = view[len(some) :]
            if self._filling.length == self._filling.most:
                self._send()

    def append_from(self, other: Readable, offset: int, length: int) -> int:
        """What lies in the same bucket is copied there, if there is enough of it for a part."""
        here = isinstance(other, BucketImage) and other.is_in(self._objects)
        if not isinstance(other, BucketImage) or not here or offset + length > other.size:
            return super().append_from(other, offset, length)
        begin = self._begin_of_copy(offset, length)
        if begin is None:
            self._read_over(other, offset, length)
            return 0
        self._read_over(other, offset, begin - offset)
        if self._filling.length:
            self._send()
        shared = 0
        for start in range(begin, offset + length, parts.MOST_COPIED):
            count = min(parts.MOST_COPIED, offset + length - start)
            if count < parts.LEAST or not self._copy(other.object, start, count):
                self._read_over(other, start, count)
                continue
            shared += count
        return shared

    def finish(self) -> None:
        if self.whole:
            return
        if self._filling.length or self._number == 1:
            self._send()
        self._parts = self._upload.finish()
        for source in self._sources.values():
            self._refuse_another(source)
        self._filling.close()
        self.whole = True

    def note_losses(self, note: str) -> bool:
        return not note

    def publish(self, *, overwrite: bool, like: str | None = None) -> None:
        self.finish()
        self._held.require()
        if not overwrite and self._objects.head(self._key):
            raise _exists(self._key)
        expected = combined(self._parts)
        answer = self._complete(new=not overwrite)
        found = self._objects.head(self._key)
        if answer.status != 200 and not (expected and found and found.etag == expected):
            if answer.status == 412:
                raise _exists(self._key)
            raise Displaced(
                "somebody aborted the upload, as a rule of the bucket's life cycle may; run the"
                " command again"
            )
        if found is None or found.size != self._size:
            raise Corrupt("what the server of the bucket made of the upload is not what was sent")
        self._published = True
        self._held.drop()

    def _complete(self, *, new: bool) -> Answer:
        """Raises `Error` where the server completes no upload of which parts are left out, and an
        earlier one left more parts than there are now."""
        try:
            return self._objects.complete(self._key, self._upload.id, self._parts, new=new)
        except Error as error:
            if self._upload.has_more_than(self._parts) and "InvalidPart" in error.message:
                self.whole = False
                raise Error(
                    "an earlier upload of it left more parts than it has now, which this service"
                    " does not leave out; they are removed: run the command again"
                ) from None
            raise

    def abandon(self) -> None:
        with suppress(Displaced):
            self._held.require()
            try:
                self._objects.abort(self._key, self._upload.id)
            except Denied:  # whoever may finds it by the claim
                self._held.release()
            else:
                self._held.drop()

    def close(self) -> None:
        self._upload.stop()
        self._filling.close()
        if not self._published:
            with suppress(Error):
                self._held.release()

    def _send(self) -> None:
        """The part that is being filled ends here."""
        refuse_number(self._number)
        self._upload.send(self._number, self._filling)
        self._next()

    def _next(self) -> None:
        self._number += 1
        self._filling = Filling(parts.length_of(self._number))

    def _begin_of_copy(self, offset: int, length: int) -> int | None:
        """Where in a range the part begins that can be copied; what is before makes the part long
        enough that is being filled. None where too little is left of the range."""
        if self._copies is False:
            return None
        filled = self._filling.length
        missing = max(parts.least_of(self._number) - filled, 0) if filled else 0
        left = length - missing
        return offset + missing if left >= parts.least_of(self._number + 1) else None

    def _copy(self, source: Object, start: int, length: int) -> bool:
        """Make a part of a range. Whether the server does that."""
        if self._copies is False:
            return False
        refuse_number(self._number)
        try:
            self._upload.copy(self._number, source, start, length, now=self._copies is None)
        except Unsupported:
            self._copies = False
            return False
        self._copies = True
        self._sources[source.key] = source
        self._size += length
        self._next()
        return True

    def _refuse_another(self, source: Object) -> None:
        """Raises `InUse` where what parts were copied from has been replaced. Servers are told not
        to copy then, and not all heed that."""
        found = self._objects.head(source.key)
        if found is None or found.etag != source.etag:
            raise InUse("somebody replaced or removed the base meanwhile; run the command again")

    def _read_over(self, other: Readable, offset: int, length: int) -> None:
        for start in range(offset, offset + length, _STEP):
            self.append(other.read_whole(start, min(_STEP, offset + length - start)))


def _exists(key: str) -> FileExistsError:
    return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), key)
