"""What a bucket is asked for: its objects, and its uploads in parts, as values.

One method is one kind of request. A key is a whole one, with the configured prefix. An ETag is kept
as the server wrote it, with its quotes.

Source: AWS, API reference of Amazon S3 (ListObjectsV2, HeadObject, GetObject, PutObject,
DeleteObject, ListMultipartUploads, CreateMultipartUpload, ListParts, UploadPart, UploadPartCopy,
CompleteMultipartUpload, AbortMultipartUpload).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from virtstore.backends.bucket import sigv4
from virtstore.backends.bucket.client import Client
from virtstore.backends.bucket.complaints import result, text
from virtstore.backends.bucket.connections import Answer, Body, body_of, body_of_chunks
from virtstore.backends.bucket.values import (
    Object,
    Page,
    Part,
    Upload,
    decoder,
    goes_on,
    moment_of,
    number_of,
    object_of,
    of_headers,
    plain,
)
from virtstore.errors import ConnectionFailed, Corrupt, InUse, Unsupported

#: Bytes of a range that are in memory at once.
_PIECE: Final = 8 << 20
_PRECONDITION: Final = 412
_NO_RANGE: Final = 416
_READ: Final = "s3:GetObject"
_WRITE: Final = "s3:PutObject"
_LIST: Final = "s3:ListBucket"


class Objects:
    """The objects of one bucket."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._bare = False  # how the server wants the ETag in a condition of writing
        self._knows_conditions = True  # of writing; those that ignore them are not seen here

    def close(self) -> None:
        self.client.close()

    def listed(self, prefix: str, *, delimiter: str = "/", most: int = 1000) -> Iterator[Page]:
        """The objects whose keys begin with `prefix`, a page at a time. Of those with a
        `delimiter` behind that, the common prefixes. `most`: objects in a page."""
        query = {
            "list-type": "2",
            "prefix": prefix,
            "max-keys": str(most),
            "encoding-type": "url",
        }
        if delimiter:
            query["delimiter"] = delimiter
        while True:
            root = self._xml("GET", "", _LIST, query=query)
            decode = decoder(root)
            objects = (object_of(each, decode) for each in root.findall("Contents"))
            prefixes = (decode(text(each, "Prefix")) for each in root.findall("CommonPrefixes"))
            yield Page(  # not every server heeds the prefix
                tuple(each for each in objects if each.key.startswith(prefix)),
                tuple(each for each in prefixes if each.startswith(prefix)),
            )
            if not goes_on(
                root, query, {"continuation-token": text(root, "NextContinuationToken")}
            ):
                return

    def head(self, key: str) -> Object | None:
        """An object; None where there is none."""
        answer = self.client.ask("HEAD", key, _READ, takes=(404,))
        return None if answer.status == 404 else of_headers(key, answer)

    def get(self, key: str, start: int, length: int, etag: str) -> bytes:
        """A range of an object, all of it there. Raises `InUse` where the object is another by
        now."""
        span, server = f"{start}-{start + length - 1}", self.client.address.server
        headers = {"range": f"bytes={span}", "if-match": etag}
        takes = (404, _PRECONDITION, _NO_RANGE)
        answer = self.client.ask("GET", key, _READ, headers=headers, takes=takes, most=length)
        # Not every server heeds the condition.
        is_another = plain(answer.headers.get("etag", etag)) != plain(etag)
        if answer.status in takes or is_another:
            what = "removed" if answer.status == 404 else "replaced"
            raise InUse(f"somebody {what} it while it was read; run the command again")
        if answer.status != 206:
            raise Unsupported(f"{server} gives no parts of an object, which S3 has to")
        given = answer.headers.get("content-range", "").removeprefix("bytes ").partition("/")[0]
        if given not in ("", span):
            raise Corrupt(f"{server} gave bytes {given} of an object where {span} were asked for")
        if len(answer.body) != length:
            raise ConnectionFailed(
                f"{server} gave {len(answer.body)} bytes of an object where {length} were asked"
                " for; try again later"
            )
        return answer.body

    def to_send(self, source: Object, start: int, length: int) -> Body:
        """A range of an object, to be sent. It is asked for twice, in pieces, and never in memory
        as a whole."""

        def chunks() -> Iterator[bytes]:
            for at in range(start, start + length, _PIECE):
                count = min(_PIECE, start + length - at)
                yield self.get(source.key, at, count, source.etag)

        return body_of_chunks(length, chunks)

    def beginning(self, key: str, most: int) -> tuple[Object, bytes, str | None] | None:
        """An object, the first bytes of its contents, and the server's time; None where there is
        none."""
        headers, takes = {"range": f"bytes=0-{most - 1}"}, (404, _NO_RANGE)
        answer = self.client.ask("GET", key, _READ, headers=headers, takes=takes, most=most)
        if answer.status == 404:
            return None
        date = answer.headers.get("date")
        if answer.status == _NO_RANGE:  # it is empty
            found = self.head(key)
            return (found, b"", date) if found else None
        return of_headers(key, answer, len(answer.body)), answer.body, date

    def put(self, key: str, data: bytes, *, new: bool = False, instead: str = "") -> str | None:
        """Write a small object; its ETag. `new`: only where there is none; `instead`: only in place
        of the one with that ETag. None where that is not so, as far as the server heeds that."""
        if not instead:
            return self._put(key, data, {"if-none-match": "*"} if new else {})
        # Ceph's gateway compares it without its quotes, and others with them.
        for bare in (self._bare, not self._bare):
            etag = instead.strip('"') if bare else instead
            if (made := self._put(key, data, {"if-match": etag})) is not None:
                self._bare = bare
                return made
        return None

    def _put(self, key: str, data: bytes, headers: dict[str, str]) -> str | None:
        takes = (404, _PRECONDITION) if "if-match" in headers else (_PRECONDITION,)
        body = body_of(data)

        def ask(headers: dict[str, str]) -> Answer:
            return self.client.ask("PUT", key, _WRITE, headers=headers, body=body, takes=takes)

        answer = self._on_condition(headers, ask)
        return answer.headers.get("etag", "") if answer.status == 200 else None

    def _on_condition(
        self, headers: dict[str, str], ask: Callable[[dict[str, str]], Answer]
    ) -> Answer:
        """Ask on a condition. A server that refuses all conditions is asked without, as one that
        ignores them is: the caller has looked, and looks again."""
        if headers and self._knows_conditions:
            try:
                return ask(headers)
            except Unsupported:
                self._knows_conditions = False
        return ask({})

    def delete(self, key: str) -> None:
        """Remove an object, or nothing."""
        self.client.ask("DELETE", key, "s3:DeleteObject", takes=(404,))

    def uploads(self, prefix: str) -> Iterator[Upload]:
        """The open uploads of keys that begin with `prefix`."""
        query = {"uploads": "", "prefix": prefix, "encoding-type": "url"}
        while True:
            root = self._xml("GET", "", "s3:ListBucketMultipartUploads", query=query)
            decode = decoder(root)
            for each in root.findall("Upload"):
                key, begun = decode(text(each, "Key")), moment_of(text(each, "Initiated"))
                if key.startswith(prefix):  # not every server heeds it
                    yield Upload(key, text(each, "UploadId"), begun)
            from_ = {
                "key-marker": decode(text(root, "NextKeyMarker")),
                "upload-id-marker": text(root, "NextUploadIdMarker"),
            }
            if not goes_on(root, query, from_):
                return

    def begin(self, key: str) -> str:
        """Begin an upload in parts; its ID. The caller has the claim on the key: so what has no
        parts there, once an answer was lost, was begun here as well, and is aborted."""
        answer = self.client.ask("POST", key, _WRITE, query={"uploads": ""})
        begun = text(result(answer.body), "UploadId")
        if not begun:
            raise Corrupt("the server of the bucket began an upload, and does not say which")
        for other in self.uploads(key) if answer.again else ():
            if other.key == key and other.id != begun and not self.parts(key, other.id):
                self.abort(key, other.id)
        return begun

    def parts(self, key: str, upload: str) -> list[Part] | None:
        """The parts of an open upload; None where there is no such upload."""
        query = {"uploadId": upload}
        action = "s3:ListMultipartUploadParts"
        found: list[Part] = []
        while True:
            answer = self.client.ask("GET", key, action, query=query, takes=(404,))
            if answer.status == 404:
                return None
            root = result(answer.body)
            found += [
                Part(number_of(each, "PartNumber"), text(each, "ETag"), number_of(each, "Size"))
                for each in root.findall("Part")
            ]
            if not goes_on(root, query, {"part-number-marker": text(root, "NextPartNumberMarker")}):
                return found

    def send(self, key: str, upload: str, number: int, body: Body, stop: threading.Event) -> Part:
        """Send a part."""
        query = {"partNumber": str(number), "uploadId": upload}
        answer = self.client.ask("PUT", key, _WRITE, query=query, body=body, stop=stop)
        return Part(number, answer.headers.get("etag", ""), body.length)

    def copy(
        self,
        key: str,
        upload: str,
        number: int,
        source: Object,
        start: int,
        length: int,
        stop: threading.Event,
    ) -> Part:
        """Make a range of another object of the bucket a part, on the server. Raises `Unsupported`
        where the server does not: it cannot, or takes that object for another by now."""
        query = {"partNumber": str(number), "uploadId": upload}
        headers = {
            "x-amz-copy-source": sigv4.encoded_path(f"{self.client.address.bucket}/{source.key}"),
            "x-amz-copy-source-if-match": source.etag,
            "x-amz-copy-source-range": f"bytes={start}-{start + length - 1}",
        }
        answer = self.client.ask(
            "PUT", key, _WRITE, query=query, headers=headers, takes=(_PRECONDITION,), stop=stop
        )
        # Who does not know of copying makes a part of nothing, and says no more.
        if answer.status == _PRECONDITION or not answer.body.strip():
            raise Unsupported(f"{self.client.address.server} does not copy parts of {source.key}")
        return Part(number, text(result(answer.body), "ETag"), length)

    def complete(self, key: str, upload: str, parts: Sequence[Part], *, new: bool) -> Answer:
        """Make an object of an upload. `new`: only where there is none, as far as the server heeds
        that. The caller looks at the answer, whose status may be 404 or 412."""
        listed = "".join(
            f"<Part><PartNumber>{part.number}</PartNumber><ETag>{escape(part.etag)}</ETag></Part>"
            for part in parts
        )
        document = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>"
        body = body_of(document.encode())

        def ask(headers: dict[str, str]) -> Answer:
            return self.client.ask(
                "POST",
                key,
                _WRITE,
                query={"uploadId": upload},
                headers={"content-type": "application/xml", **headers},
                body=body,
                takes=(404, _PRECONDITION),
            )

        return self._on_condition({"if-none-match": "*"} if new else {}, ask)

    def abort(self, key: str, upload: str) -> None:
        """Throw an upload and its parts away, if it is there."""
        action = "s3:AbortMultipartUpload"
        self.client.ask("DELETE", key, action, query={"uploadId": upload}, takes=(404,))

    def _xml(
        self, method: str, key: str, action: str, *, query: dict[str, str]
    ) -> ElementTree.Element:
        """The answer of a request that has no body, as XML."""
        return result(self.client.ask(method, key, action, query=query).body)
