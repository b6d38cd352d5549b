"""What a bucket is asked for: its objects, and its uploads in parts, as values.

One method is one kind of request. A key is a whole one, with the configured prefix. An ETag is kept
as the server wrote it, with its quotes.

Source: AWS, API reference of Amazon S3 (ListObjectsV2, HeadObject, GetObject, PutObject,
DeleteObject, ListMultipartUploads, CreateMultipartUpload, ListParts, UploadPart, UploadPartCopy,
CompleteMultipartUpload, AbortMultipartUpload).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Final
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from virtstore.backends.bucket import sigv4
from virtstore.backends.bucket.client import NOTHING, Answer, Body, Client, body_of
from virtstore.backends.bucket.complaints import parsed, text
from virtstore.backends.bucket.values import (
    Object,
    Page,
    Part,
    Upload,
    decoder,
    moment_of,
    number_of,
    object_of,
    of_headers,
)
from virtstore.errors import Corrupt, InUse, Unsupported

_PRECONDITION: Final = 412
_READ: Final = "s3:GetObject"
_WRITE: Final = "s3:PutObject"
_LIST: Final = "s3:ListBucket"


class Objects:
    """The objects of one bucket."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._bare = False  # how the server wants the ETag in a condition of writing

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
            objects = tuple(object_of(each, decode) for each in root.findall("Contents"))
            prefixes = root.findall("CommonPrefixes")
            yield Page(objects, tuple(decode(text(each, "Prefix")) for each in prefixes))
            query["continuation-token"] = text(root, "NextContinuationToken")
            if text(root, "IsTruncated") != "true" or not query["continuation-token"]:
                return

    def head(self, key: str) -> Object | None:
        """An object; None where there is none."""
        answer = self.client.ask("HEAD", key, _READ, takes=(404,))
        return None if answer.status == 404 else of_headers(key, answer)

    def get(self, key: str, start: int, length: int, etag: str) -> bytes:
        """A range of an object, all of it there. Raises `InUse` where the object is another by
        now."""
        headers = {"range": f"bytes={start}-{start + length - 1}", "if-match": etag}
        answer = self.client.ask(
            "GET", key, _READ, headers=headers, takes=(404, _PRECONDITION), most=length
        )
        if answer.status in (404, _PRECONDITION):
            what = "removed" if answer.status == 404 else "replaced"
            raise InUse(f"somebody {what} it while it was read; run the command again")
        if answer.status != 206:
            server = self.client.address.server
            raise Unsupported(f"{server} gives no parts of an object, which S3 has to")
        if len(answer.body) != length:
            raise Corrupt(f"the server of the bucket sent {len(answer.body)} of {length} bytes")
        return answer.body

    def small(self, key: str, most: int) -> tuple[Object, bytes, str | None] | None:
        """A small object, its contents, and the server's time; None where there is none."""
        answer = self.client.ask("GET", key, _READ, takes=(404,), most=most)
        if answer.status == 404:
            return None
        return of_headers(key, answer), answer.body, answer.headers.get("date")

    def put(self, key: str, data: bytes, *, new: bool = False, instead: str = "") -> str | None:
        """Write a small object; its ETag. `new`: only where there is none; `instead`: only in place
        of the one with that ETag. None where that is not so."""
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
        answer = self.client.ask(
            "PUT", key, _WRITE, headers=headers, body=body_of(data), takes=takes
        )
        return answer.headers.get("etag", "") if answer.status == 200 else None

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
            if text(root, "IsTruncated") != "true":
                return
            query["key-marker"] = decode(text(root, "NextKeyMarker"))
            query["upload-id-marker"] = text(root, "NextUploadIdMarker")

    def begin(self, key: str) -> str:
        """Begin an upload in parts; its ID. The caller has the claim on the key: so what has no
        parts there, once an answer was lost, was begun here as well, and is aborted."""
        answer = self.client.ask("POST", key, _WRITE, query={"uploads": ""})
        begun = text(parsed(answer.body), "UploadId")
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
            root = parsed(answer.body)
            found += [
                Part(number_of(each, "PartNumber"), text(each, "ETag"), number_of(each, "Size"))
                for each in root.findall("Part")
            ]
            if text(root, "IsTruncated") != "true":
                return found
            query["part-number-marker"] = text(root, "NextPartNumberMarker")

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
        where the server cannot, and `InUse` where that object is another by now."""
        query = {"partNumber": str(number), "uploadId": upload}
        headers = {
            "x-amz-copy-source": sigv4.encoded_path(f"{self.client.address.bucket}/{source.key}"),
            "x-amz-copy-source-if-match": source.etag,
            "x-amz-copy-source-range": f"bytes={start}-{start + length - 1}",
        }
        root = self._xml("PUT", key, _WRITE, query=query, headers=headers, stop=stop)
        return Part(number, text(root, "ETag"), length)

    def complete(self, key: str, upload: str, parts: Sequence[Part], *, new: bool) -> Answer:
        """Make an object of an upload. `new`: only where there is none, as far as the server heeds
        that. The caller looks at the answer, whose status may be 404 or 412."""
        listed = "".join(
            f"<Part><PartNumber>{part.number}</PartNumber><ETag>{escape(part.etag)}</ETag></Part>"
            for part in parts
        )
        document = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>"
        headers = {"content-type": "application/xml", **({"if-none-match": "*"} if new else {})}
        return self.client.ask(
            "POST",
            key,
            _WRITE,
            query={"uploadId": upload},
            headers=headers,
            body=body_of(document.encode()),
            takes=(404, _PRECONDITION),
        )

    def abort(self, key: str, upload: str) -> None:
        """Throw an upload and its parts away, if it is there."""
        action = "s3:AbortMultipartUpload"
        self.client.ask("DELETE", key, action, query={"uploadId": upload}, takes=(404,))

    def _xml(
        self,
        method: str,
        key: str,
        action: str,
        *,
        query: dict[str, str],
        headers: dict[str, str] | None = None,
        stop: threading.Event | None = None,
    ) -> ElementTree.Element:
        """The answer of a request that has no body, as XML."""
        answer = self.client.ask(
            method, key, action, query=query, headers=headers, body=NOTHING, stop=stop
        )
        return parsed(answer.body)
