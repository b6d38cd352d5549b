"""What a server of S3, or what stands for one, may say that is not so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from email.utils import formatdate

import pytest
from tests.liar import Asked, Says, answer, in_chunks, lying

from virtstore.backends.bucket.address import Address
from virtstore.backends.bucket.client import Client
from virtstore.backends.bucket.connections import body_of
from virtstore.backends.bucket.credentials import Credentials
from virtstore.backends.bucket.objects import Objects
from virtstore.backends.bucket.patience import Patience
from virtstore.backends.bucket.values import Object, Part, moment_of
from virtstore.errors import ConnectionFailed, Corrupt, Denied, Error, InUse, NotFound, Unsupported

_ETAG = '"e"'
_SOURCE = Object("base", 1000, _ETAG, 0)
_DONE = b"<CompleteMultipartUploadResult/>"


@contextmanager
def told(says: Says | bytes) -> Iterator[tuple[Objects, list[Asked]]]:
    """The objects of a server that says this."""
    with lying(says if callable(says) else lambda asked: says) as (at, asked):
        who = Credentials("AKID", "secret", "", "a test")
        address = Address.of(f"http://{at}", "vms", None)
        client = Client(address, who, "us-east-1", Patience(0.01, 0.02, 0.1, 0.1))
        with closing(Objects(client)) as objects:
            yield objects, asked


def in_turn(*answers: bytes) -> Says:
    """Each answer once, and the last for ever."""
    left = list(answers)
    return lambda asked: left.pop(0) if len(left) > 1 else left[0]


def error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>it is so</Message></Error>".encode()


def ranged(body: bytes, span: str, etag: str = _ETAG) -> bytes:
    return answer(body, 206, f"Content-Range: bytes {span}/1000", f"ETag: {etag}")


def test_a_range_is_what_was_asked_for() -> None:
    with told(ranged(b"12345", "10-14")) as (objects, asked):
        assert objects.get("k", 10, 5, _ETAG) == b"12345"
    assert asked[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (ranged(b"12345", "0-4"), Corrupt),
        (ranged(b"12345", "10-14", '"another"'), InUse),
        (answer(error("InvalidRange"), 416), InUse),
        (answer(b"12345", 200), Unsupported),
        (ranged(b"123", "10-14"), ConnectionFailed),
        (answer(b"123", 206, length=5), ConnectionFailed),
        (b"HTTP/1.0 206 X\r\n\r\n123", ConnectionFailed),
        (answer(bytes(1 << 17), 206), Corrupt),
        (in_chunks(bytes(1 << 17), 206), Corrupt),
        (b"HTTP/1.1 206 X\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", ConnectionFailed),
        (b"nothing that is HTTP\r\n\r\n", ConnectionFailed),
    ],
)
def test_a_range_that_is_another_is_not_taken_for_it(said: bytes, kind: type[Error]) -> None:
    with told(said) as (objects, _), pytest.raises(kind):
        objects.get("k", 10, 5, _ETAG)


@pytest.mark.parametrize("etag", ["e", 'W/"e"'])
def test_what_stands_between_may_write_an_etag_in_its_own_way(etag: str) -> None:
    with told(ranged(b"12345", "10-14", etag)) as (objects, _):
        assert objects.get("k", 10, 5, _ETAG) == b"12345"


def test_an_error_without_a_length_is_the_error_that_it_is() -> None:
    """Amazon sends its errors so, also where few bytes were asked for."""
    busy = in_chunks(error("SlowDown"), 503)
    with told(in_turn(busy, ranged(b"12345", "10-14"))) as (objects, asked):
        assert objects.get("k", 10, 5, _ETAG) == b"12345"
    assert len(asked) == 2


def listing(inside: str) -> bytes:
    return answer(f"<ListBucketResult>{inside}</ListBucketResult>".encode())


@pytest.mark.parametrize(
    "inside",
    [
        "<IsTruncated>true</IsTruncated>",
        "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>",
    ],
)
def test_a_listing_that_does_not_go_on_is_not_taken_for_a_whole_one(inside: str) -> None:
    with told(listing(inside)) as (objects, _), pytest.raises(Corrupt, match="goes on"):
        list(objects.listed("p/"))


def uploads_of(objects: Objects) -> object:
    return list(objects.uploads("k"))


def parts_of(objects: Objects) -> object:
    return objects.parts("k", "u")


@pytest.mark.parametrize("act", [uploads_of, parts_of])
@pytest.mark.parametrize("marker", ["", "3"])
def test_uploads_and_parts_are_not_told_for_ever(
    act: Callable[[Objects], object], marker: str
) -> None:
    names = ("NextKeyMarker", "NextUploadIdMarker", "NextPartNumberMarker")
    markers = "".join(f"<{name}>{marker}</{name}>" for name in names)
    with (
        told(listing(f"<IsTruncated>true</IsTruncated>{markers}")) as (objects, _),
        pytest.raises(Corrupt, match="goes on"),
    ):
        act(objects)


def test_keys_that_were_not_asked_for_are_not_shown() -> None:
    keys = "".join(f"<Contents><Key>{k}</Key><Size>1</Size></Contents>" for k in ("p/a", "qqqq"))
    dirs = "".join(
        f"<CommonPrefixes><Prefix>{p}</Prefix></CommonPrefixes>" for p in ("p/d/", "qqq/")
    )
    with told(listing(keys + dirs)) as (objects, _):
        [page] = objects.listed("p/")
    assert ([each.key for each in page.objects], page.prefixes) == (["p/a"], ("p/d/",))


@pytest.mark.parametrize(
    "page",
    [b"<html><body>Welcome</body></html>", b"Welcome", b"", b"<!DOCTYPE html><html></html>"],
)
def test_a_web_server_is_no_empty_bucket(page: bytes) -> None:
    with told(answer(page)) as (objects, _), pytest.raises(Corrupt, match="endpoint"):
        list(objects.listed(""))


def test_a_web_server_that_knows_no_such_page_is_no_bucket_without_an_image() -> None:
    with (
        told(answer(b"<html>Not found</html>", 404)) as (objects, _),
        pytest.raises(NotFound, match="endpoint"),
    ):
        list(objects.listed(""))


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_nothing_is_sent_to_another_server(status: int) -> None:
    with lying(lambda asked: answer(_DONE)) as (at, elsewhere):
        moved = answer(error("TemporaryRedirect"), status, f"Location: http://{at}/vms/k")
        with told(moved) as (objects, asked), pytest.raises(Error, match="elsewhere"):
            objects.put("k", b"x")
    assert (len(asked), elsewhere) == (1, [])


@pytest.mark.parametrize(
    "body",
    [
        error("InternalError"),
        b' \n<?xml version="1.0"?>' + b" " * 5000 + error("InternalError"),
        b'<?xml version="1.0"?><Error xmlns="urn:x"><Code>InternalError</Code></Error>',
        b"<Error></Error>",
    ],
)
def test_an_error_behind_the_status_of_success_is_tried_again(body: bytes) -> None:
    with told(in_turn(answer(body), answer(_DONE))) as (objects, asked):
        assert objects.complete("k", "u", [Part(1, _ETAG, 1)], new=True).status == 200
    assert len(asked) == 2


def test_a_refusal_behind_the_status_of_success_is_one() -> None:
    """What cannot become better is not asked for again."""
    for code, kind in (("InvalidPart", Error), ("AccessDenied", Denied)):
        with told(answer(error(code))) as (objects, asked), pytest.raises(kind, match=code):
            objects.complete("k", "u", [], new=True)
        assert len(asked) == 1
    for code, status in (("PreconditionFailed", 412), ("NoSuchUpload", 404)):
        with told(answer(error(code))) as (objects, asked):
            assert objects.complete("k", "u", [], new=True).status == status
    with told(answer(error("NoSuchBucket"))) as (objects, _), pytest.raises(NotFound, match="vms"):
        list(objects.listed(""))


def test_white_space_before_an_answer_is_no_part_of_it() -> None:
    text = b'\n\n <?xml version="1.0"?><CopyPartResult><ETag>"x"</ETag></CopyPartResult>'
    with told(answer(text)) as (objects, _):
        assert objects.copy("k", "u", 1, _SOURCE, 0, 9, threading.Event()).etag == '"x"'


@pytest.mark.parametrize(
    "said",
    [
        answer(error("MethodNotAllowed"), 405),
        answer(error("MissingContentLength"), 411),
        answer(error("PreconditionFailed"), 412),
        answer(error("NotImplemented"), 501),
        answer(error("NotImplemented"), 400),
        answer(error("PreconditionFailed"), 200),
        answer(b"", 200, 'ETag: "d41d8cd98f00b204e9800998ecf8427e"'),  # it made an empty part
    ],
)
def test_a_server_that_does_not_copy_is_known_by_each_of_its_answers(said: bytes) -> None:
    with told(said) as (objects, asked), pytest.raises(Unsupported):
        objects.copy("k", "u", 1, _SOURCE, 0, 9, threading.Event())
    assert len(asked) == 1


def test_a_server_that_refuses_conditions_is_asked_without() -> None:
    def says(asked: Asked) -> bytes:
        if {"if-none-match", "if-match"} & set(asked.headers):
            return answer(error("NotImplemented"), 501)
        return answer(_DONE, 200, f"ETag: {_ETAG}")

    with told(says) as (objects, asked):
        assert objects.put("k", b"x", new=True) == _ETAG
        assert objects.put("k", b"x", instead=_ETAG) == _ETAG
        assert objects.complete("k", "u", [], new=True).status == 200
    assert len(asked) == 4  # it is asked on a condition once


@pytest.mark.parametrize(
    "begun", [b"<InitiateMultipartUploadResult/>", b"<html/>", b"not even that"]
)
def test_an_upload_without_a_number_is_none(begun: bytes) -> None:
    with told(answer(begun)) as (objects, _), pytest.raises(Corrupt):
        objects.begin("k")


@pytest.mark.parametrize("length", ["²", "-1", "x", "9" * 5000])
def test_a_length_that_is_no_number_is_none(length: str) -> None:
    head = f"HTTP/1.1 200 X\r\nContent-Length: {length}\r\n\r\n".encode("latin-1")
    with told(head) as (objects, _), pytest.raises((Corrupt, ConnectionFailed)):
        objects.head("k")


@pytest.mark.parametrize("size", ["²", "", "9" * 5000])
def test_a_size_that_is_no_number_is_none(size: str) -> None:
    page = listing(f"<Contents><Key>k</Key><Size>{size}</Size></Contents>")
    with told(page) as (objects, _), pytest.raises(Corrupt, match="number"):
        list(objects.listed(""))


def test_a_wait_that_is_no_number_is_none() -> None:
    busy = answer(error("SlowDown"), 503, "Retry-After: \xb2")
    with told(busy) as (objects, _), pytest.raises(ConnectionFailed):
        objects.head("k")


def test_a_date_that_is_none_is_no_time() -> None:
    dates = ("9999-12-31T23:59:59-23:00", "0001-01-01T00:00:00+23:00", "soon", "")
    assert all(isinstance(moment_of(date), int) for date in dates)
    odd = "Mon, 31 Dec 9999 23:59:59 -2300"
    with told(answer(b"", 200, f"Last-Modified: {odd}", f"Date: {odd}")) as (objects, _):
        assert objects.head("k") is not None


def test_a_clock_that_is_off_is_seen_where_the_answer_has_no_words() -> None:
    date = formatdate(time.time() + 3600, usegmt=True)
    with (
        told(answer(b"", 403, f"Date: {date}")) as (objects, _),
        pytest.raises(Error, match="clock"),
    ):
        objects.head("k")
    with (
        told(answer(b"", 403, f"Date: {formatdate(usegmt=True)}")) as (objects, _),
        pytest.raises(Denied, match="s3:GetObject"),
    ):
        objects.head("k")


def test_the_beginning_of_an_object_is_told_however_long_it_is() -> None:
    with told(in_chunks(b"{}", 206)) as (objects, asked):
        found = objects.beginning("k", 4096)
        assert found
        assert found[1] == b"{}"
    assert asked[0].headers["range"] == "bytes=0-4095"
    empty = in_turn(answer(error("InvalidRange"), 416), answer(b"", 200, f"ETag: {_ETAG}"))
    with told(empty) as (objects, _):
        found = objects.beginning("k", 4096)
    assert found
    assert (found[0].etag, found[1]) == (_ETAG, b"")


def test_a_part_that_is_not_taken_whole_is_sent_again() -> None:
    with told(in_turn(b"", answer(b"", 200, f"ETag: {_ETAG}"))) as (objects, asked):
        part = objects.send("k", "u", 1, body_of(b"12345"), threading.Event())
    assert part == Part(1, _ETAG, 5)
    assert [each.body for each in asked] == [b"12345"] * 2
