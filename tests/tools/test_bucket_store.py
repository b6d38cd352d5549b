"""The store of a bucket: archives appear whole or not at all, and nobody's are lost."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import msgspec
import pytest
from tests import waiting
from tests.fault_proxy import Proxy
from tests.s3 import Bucket

from virtstore.agent.config import Config
from virtstore.agent.policy import Policy
from virtstore.backends.base import ArchiveSink, Displaced
from virtstore.backends.bucket import claims, parts, upload
from virtstore.backends.bucket.objects import Objects
from virtstore.backends.bucket.root import BucketRoot
from virtstore.backends.bucket.store import Bucket as Store
from virtstore.errors import Denied, Error, InUse, NotFound, Unsupported

MIB = 1 << 20
#: Three parts, of which the last is a short one: they are as short as a server takes them.
DATA = random.Random(1).randbytes(11 * MIB)
PART = 5 * MIB
NAME = "web.img.zst"


@dataclass
class Place:
    """A bucket, and the same by way of a proxy."""

    bucket: Bucket
    proxy: Proxy

    @property
    def root(self) -> BucketRoot:
        endpoint = f"http://{self.proxy.at}"
        return BucketRoot("b", endpoint, self.bucket.name, "p/", access="write", patience=2)

    def store(self) -> Store:
        """As another agent opens it."""
        opened = self.root.open(-1, "")
        assert isinstance(opened, Store)
        return opened


@pytest.fixture
def place(bucket: Bucket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Place:
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(parts, "length_of", lambda number: PART)
    return Place(bucket, proxy)


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    with closing(place.store()) as opened:
        yield opened


def written(store: Store, data: bytes = DATA, name: str = NAME) -> ArchiveSink:
    """An archive of which all was written, and nothing is published."""
    archive = store.archive(name)
    for start in range(0, len(data), 3 * MIB + 1):
        archive.append(data[start : start + 3 * MIB + 1])
    return archive


def publish(store: Store, data: bytes = DATA, name: str = NAME, *, overwrite: bool = False) -> None:
    with written(store, data, name) as archive:
        archive.publish(overwrite=overwrite)


def test_an_archive_has_its_name_once_it_is_published(store: Store, bucket: Bucket) -> None:
    with written(store) as archive:
        archive.finish()
        assert bucket.keys() == [f"p/{NAME}.virtstore-partial"]
        assert archive.whole
        archive.publish(overwrite=False)
    assert bucket.keys() == [f"p/{NAME}"]
    assert bucket.uploads() == []
    assert bucket.get(f"p/{NAME}") == DATA


@pytest.mark.parametrize("size", [0, 1, PART, PART + 1])
def test_an_archive_of_any_length_is_what_was_written(
    store: Store, bucket: Bucket, size: int
) -> None:
    publish(store, DATA[:size])
    assert bucket.get(f"p/{NAME}") == DATA[:size]


def test_a_name_that_is_taken_stays_what_it_is(store: Store, bucket: Bucket) -> None:
    bucket.put(f"p/{NAME}", b"old")
    with written(store) as archive, pytest.raises(FileExistsError):
        archive.publish(overwrite=False)
    assert bucket.get(f"p/{NAME}") == b"old"
    assert [(each.state, each.size) for each in store.scan()] == [
        ("complete", 3),
        ("partial", len(DATA)),
    ]
    publish(store, overwrite=True)
    assert bucket.get(f"p/{NAME}") == DATA
    assert [each.state for each in store.scan()] == ["complete"]


def test_a_name_that_was_taken_meanwhile_is_not_replaced(
    store: Store, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The condition of the last step, where the look before it came too early."""
    head = Objects.head
    monkeypatch.setattr(Objects, "head", lambda objects, key: None)
    with written(store) as archive:
        archive.finish()
        bucket.put(f"p/{NAME}", b"new")
        with pytest.raises(FileExistsError):
            archive.publish(overwrite=False)
    monkeypatch.setattr(Objects, "head", head)
    assert bucket.get(f"p/{NAME}") == b"new"


@pytest.mark.parametrize("drops", [set(), {"if-match", "if-none-match"}])
def test_of_two_writers_exactly_one_makes_the_archive(
    place: Place, bucket: Bucket, proxy: Proxy, drops: set[str]
) -> None:
    """Also where the server ignores all conditions."""
    proxy.drops |= drops
    begin, failures = threading.Barrier(2), []

    def write(number: int) -> None:
        with closing(place.store()) as store:
            begin.wait()
            try:
                publish(store, bytes([number]) * (PART + MIB))
            except (InUse, FileExistsError) as error:
                failures.append(error)

    for _ in range(3):
        failures.clear()
        threads = [threading.Thread(target=write, args=(number,)) for number in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(failures) == 1
        assert len(set(bucket.get(f"p/{NAME}"))) == 1
        assert bucket.keys() == [f"p/{NAME}"]
        assert bucket.uploads() == []
        bucket.ask("DELETE", f"p/{NAME}")


def test_what_was_interrupted_is_partial_and_can_be_discarded(store: Store, bucket: Bucket) -> None:
    with written(store) as archive:
        archive.finish()
    [left] = store.scan()
    assert (left.name, left.state, left.type) == (NAME, "partial", "object")
    assert left.size == left.allocated == len(DATA)
    found = store.find(NAME)
    assert found is not None
    assert found.state == "partial"
    with store.open(NAME, partial=True) as image:
        assert image.size == left.size
    with pytest.raises(NotFound):
        store.open(NAME)
    store.discard(NAME)
    bucket.nothing_is_left()
    assert store.find(NAME) is None


def test_what_is_abandoned_leaves_nothing(store: Store, bucket: Bucket) -> None:
    with written(store) as archive:
        archive.finish()
    archive.abandon()
    bucket.nothing_is_left()


def test_parts_that_are_there_are_not_sent_again(
    place: Place, store: Store, bucket: Bucket, proxy: Proxy
) -> None:
    with written(store) as archive:
        archive.finish()
    proxy.forget()
    publish(store, DATA[:PART] + b"other" + DATA[PART:])
    assert bucket.get(f"p/{NAME}") == DATA[:PART] + b"other" + DATA[PART:]
    assert len(DATA) - PART < proxy.sent() < len(DATA) - PART + MIB
    assert bucket.uploads() == []


def test_parts_that_are_too_many_are_removed_where_the_server_keeps_them(
    store: Store, bucket: Bucket, proxy: Proxy
) -> None:
    """As Ceph's gateway does: it completes an upload with all of its parts only."""
    with written(store) as archive:
        archive.finish()
    proxy.happen("answer", verb="POST", target="uploadId=", status=400, code="InvalidPart")
    with written(store, b"short") as archive, pytest.raises(Error, match="run the command again"):
        archive.publish(overwrite=False)
    assert not archive.whole
    archive.abandon()
    bucket.nothing_is_left()


def test_uploads_of_other_programs_are_left_alone(store: Store, bucket: Bucket) -> None:
    for key in (f"p/{NAME}", f"p/{NAME}2", f"q/{NAME}"):
        assert bucket.ask("POST", key, "uploads=").status == 200
    assert list(store.scan()) == []
    store.discard(NAME)
    with written(store) as archive:
        archive.finish()
    store.discard(NAME)
    publish(store)
    assert bucket.get(f"p/{NAME}") == DATA
    assert len(bucket.uploads()) == 3


def test_an_upload_that_nobody_could_write_down_is_gone_on_with(
    store: Store, bucket: Bucket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the key may write what is new only, or the writer was killed in between."""
    with monkeypatch.context() as once:
        once.setattr(claims.Held, "note", lambda held, upload: None)
        with written(store) as archive:
            archive.finish()
    assert bucket.ask("POST", f"p/{NAME}", "uploads=").status == 200  # and a second one
    proxy.forget()
    publish(store)
    assert proxy.sent() < len(DATA) - PART or proxy.sent() < len(DATA) + MIB
    assert bucket.get(f"p/{NAME}") == DATA
    assert (bucket.keys(), bucket.uploads()) == ([f"p/{NAME}"], [])


@pytest.mark.parametrize("left", [b"", bytes(200_000), b"<Error>", b"{}"])
def test_a_mark_that_is_another_programs_is_partial_and_goes(
    store: Store, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, left: bytes
) -> None:
    """As of a directory of archives that was copied into the bucket while one was made there."""
    bucket.put(f"p/{NAME}.virtstore-partial", left)
    bucket.put("p/other", b"12")
    assert {(each.name, each.state) for each in store.scan()} == {
        (NAME, "partial"),
        ("other", "complete"),
    }
    with pytest.raises(InUse):
        store.archive(NAME)
    monkeypatch.setattr(claims, "ABANDONED", -1)
    publish(store)
    assert bucket.keys() == ["p/other", f"p/{NAME}"]


def test_what_may_not_be_aborted_stays_to_be_seen(
    store: Store, bucket: Bucket, proxy: Proxy
) -> None:
    with written(store) as archive:
        archive.finish()
        proxy.happen("answer", verb="DELETE", target="uploadId=", status=403, code="AccessDenied")
        archive.abandon()
    assert [(each.name, each.state) for each in store.scan()] == [(NAME, "partial")]
    store.discard(NAME)
    bucket.nothing_is_left()


def test_a_bucket_in_which_nothing_may_be_replaced_takes_archives(
    store: Store, bucket: Bucket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a policy of Amazon's that denies what has no If-None-Match. No mark can be written
    again there, and so it grows old."""
    somebody = msgspec.structs.replace(claims.myself(), kernel="")
    monkeypatch.setattr(claims, "myself", lambda: somebody)
    monkeypatch.setattr(claims, "ABANDONED", -1)
    denied = {"status": 403, "code": "AccessDenied", "times": -1, "lacks": "if-none-match"}
    proxy.happen("answer", verb="PUT", target=".virtstore-partial", **denied)
    proxy.happen("answer", verb="POST", target="uploadId=", **denied)
    with written(store) as archive:
        archive.finish()
    with pytest.raises(Denied), written(store) as archive:
        archive.publish(overwrite=True)
    publish(store)
    assert bucket.get(f"p/{NAME}") == DATA
    assert (bucket.keys(), bucket.uploads()) == ([f"p/{NAME}"], [])


def test_a_writer_is_seen_where_the_server_ignores_conditions(
    place: Place, store: Store, proxy: Proxy
) -> None:
    proxy.drops |= {"if-match", "if-none-match"}
    with written(store) as archive:
        with closing(place.store()) as other, pytest.raises(InUse, match="is making it"):
            other.archive(NAME)
        archive.publish(overwrite=False)


def test_a_writer_of_another_host_is_waited_for_and_then_not(
    store: Store, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = claims.myself()
    monkeypatch.setattr(claims, "myself", lambda: msgspec.structs.replace(me, kernel="another"))
    with written(store) as archive:
        archive.finish()
        monkeypatch.setattr(claims, "myself", lambda: me)
        with pytest.raises(InUse, match="is making it"):
            store.archive(NAME)
        with pytest.raises(InUse):
            store.discard(NAME)
        monkeypatch.setattr(claims, "ABANDONED", -1)
        publish(store, b"by another")
        with pytest.raises(Displaced):
            archive.publish(overwrite=False)
    assert bucket.get(f"p/{NAME}") == b"by another"


def test_a_claim_of_a_process_that_is_gone_counts_for_nothing(
    store: Store, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = claims.myself()
    gone = msgspec.structs.replace(me, started="1")
    claim = claims.Claim("token", gone, "2026-01-01T00:00:00Z")
    bucket.put(f"p/{NAME}.virtstore-partial", msgspec.json.encode(claim))
    [left] = store.scan()
    assert (left.state, left.size) == ("partial", 0)
    publish(store)
    assert bucket.keys() == [f"p/{NAME}"]


def test_who_lost_the_claim_to_another_leaves_nothing(store: Store, bucket: Bucket) -> None:
    """As where a server lets two writers begin at the same moment."""
    other = claims.Claim("token", claims.myself(), "2026-01-01T00:00:00Z", "their upload")
    with written(store):
        bucket.put(f"p/{NAME}.virtstore-partial", msgspec.json.encode(other))
    assert bucket.keys() == [f"p/{NAME}.virtstore-partial"]
    assert bucket.uploads() == []


def test_who_lost_the_claim_publishes_nothing(store: Store, bucket: Bucket) -> None:
    with written(store) as archive:
        bucket.ask("DELETE", f"p/{NAME}.virtstore-partial")
        with pytest.raises(Displaced):
            archive.publish(overwrite=False)
    bucket.nothing_is_left()


def test_an_upload_that_somebody_aborted_is_told(store: Store, proxy: Proxy) -> None:
    with written(store) as archive:
        archive.finish()
        proxy.happen("answer", verb="POST", target="uploadId=", status=404, code="NoSuchUpload")
        with pytest.raises(Displaced, match="aborted"):
            archive.publish(overwrite=False)


def test_a_last_step_whose_answer_was_lost_has_been_done(
    store: Store, bucket: Bucket, proxy: Proxy
) -> None:
    with written(store) as archive:
        archive.finish()
        proxy.happen("lost-answer", verb="POST", target="uploadId=")
        archive.publish(overwrite=False)
    assert bucket.get(f"p/{NAME}") == DATA
    assert bucket.keys() == [f"p/{NAME}"]


def test_a_part_that_is_refused_stops_the_upload(store: Store, proxy: Proxy) -> None:
    proxy.happen("answer", verb="PUT", target="partNumber=1", status=403, code="AccessDenied")
    with pytest.raises(Denied, match="s3:PutObject"), written(store, 6 * DATA) as archive:
        archive.finish()
    assert proxy.sent() < 60 * MIB


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "answer", "status": 503, "code": "SlowDown", "times": 2},
        {"kind": "answer", "status": 500, "times": 2},
        {"kind": "cut-request", "after": MIB},
        {"kind": "cut-answer"},
        {"kind": "lost-answer"},
    ],
)
def test_what_passes_is_waited_out(
    store: Store, bucket: Bucket, proxy: Proxy, fault: dict[str, object]
) -> None:
    proxy.happen(verb="PUT", target="partNumber=1", **fault)  # type: ignore[arg-type]
    publish(store)
    assert bucket.get(f"p/{NAME}") == DATA
    with store.open(NAME) as image:
        proxy.happen(verb="GET", target=NAME, **{**fault, "after": 100})  # type: ignore[arg-type]
        assert image.read_whole(5 * MIB, 1000) == DATA[5 * MIB :][:1000]


def test_ranges_of_another_archive_are_copied_by_the_server(
    store: Store, bucket: Bucket, proxy: Proxy
) -> None:
    data = random.Random(2).randbytes(24 * MIB)
    publish(store, data, "base")
    proxy.forget()
    with store.open("base") as base, store.archive(NAME) as archive:
        archive.append(b"head")
        shared = archive.append_from(base, 1000, 20 * MIB)
        archive.append(b"changed" * 1000)
        shared += archive.append_from(base, 21 * MIB, MIB)
        archive.publish(overwrite=False)
    made = b"head" + data[1000:][: 20 * MIB] + b"changed" * 1000 + data[21 * MIB :][:MIB]
    assert bucket.get(f"p/{NAME}") == made
    assert shared >= 15 * MIB - 1000
    assert proxy.sent() < len(made) - shared + MIB


def test_a_server_that_copies_no_ranges_is_sent_them(
    store: Store, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise Unsupported("501")

    publish(store, DATA, "base")
    monkeypatch.setattr(Objects, "copy", refuse)
    with store.open("base") as base, store.archive(NAME) as archive:
        assert archive.append_from(base, 0, 10 * MIB) == 0
        assert archive.append_from(base, 10 * MIB, MIB) == 0
        archive.publish(overwrite=False)
    assert bucket.get(f"p/{NAME}") == DATA


@pytest.mark.parametrize("status", [405, 411, 412, 501])
@pytest.mark.parametrize("first", [1, 3])
def test_a_server_that_copies_no_ranges_any_more_is_sent_them(
    store: Store,
    bucket: Bucket,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    first: int,
) -> None:
    """It never did, or another of its machines answers now, which does not."""
    monkeypatch.setattr(parts, "MOST_COPIED", PART)
    data = random.Random(2).randbytes(24 * MIB)
    publish(store, data, "base")
    copies = {"verb": "PUT", "header": "x-amz-copy-source", "status": status, "code": "No"}
    for number in range(first, 6):
        proxy.happen("answer", target=f"partNumber={number}&", **copies)
    with store.open("base") as base, store.archive(NAME) as archive:
        archive.append_from(base, 0, len(data))
        archive.publish(overwrite=False)
    assert bucket.get(f"p/{NAME}") == data


def test_a_base_that_was_replaced_is_not_copied_from(store: Store, bucket: Bucket) -> None:
    publish(store, DATA, "base")
    with store.open("base") as base, store.archive(NAME) as archive:
        archive.append_from(base, 0, 10 * MIB)
        bucket.put("p/base", bytes(len(DATA)))
        with pytest.raises(InUse):
            archive.finish()


def test_an_object_that_was_replaced_while_it_is_read_is_told(store: Store, bucket: Bucket) -> None:
    publish(store)
    with store.open(NAME) as image:
        assert image.read_whole(MIB, 10) == DATA[MIB:][:10]
        bucket.put(f"p/{NAME}", bytes(len(DATA)))
        with pytest.raises(InUse, match="replaced"):
            image.read_at(2 * MIB, 10)


def test_an_archive_is_removed_and_is_gone(store: Store, bucket: Bucket) -> None:
    publish(store, b"x")
    store.remove(NAME)
    bucket.nothing_is_left()
    with pytest.raises(NotFound):
        store.remove(NAME)


def test_a_listing_shows_what_a_directory_would(store: Store, bucket: Bucket) -> None:
    for key in ("p/a", "p/d/b", "p/d/c/e", "p/", "p/d/", "p//odd", "q/other"):
        bucket.put(key, b"12")
    found = {(each.name, each.type, each.size) for each in store.scan()}
    assert found == {("a", "object", 2), ("d", "directory", 0)}


def test_a_long_listing_is_taken_page_by_page(store: Store, bucket: Bucket) -> None:
    for number in range(7):
        bucket.put(f"p/{number}", b"")
    pages = list(store._objects.listed("p/", most=3))
    assert [len(page.objects) for page in pages] == [3, 3, 1]


@pytest.mark.parametrize("verb", ["draft", "rework", "grow", "shrink"])
def test_an_image_cannot_be_there(store: Store, verb: str) -> None:
    with pytest.raises(Unsupported, match="cop"):
        getattr(store, verb)(NAME, *(() if verb == "rework" else (MIB,)))


def test_an_upload_that_was_begun_twice_is_left_once(
    store: Store, bucket: Bucket, proxy: Proxy
) -> None:
    """The answer of the first was lost, so nobody knows its number."""
    proxy.happen("lost-answer", verb="POST", target="uploads=")
    publish(store)
    assert bucket.uploads() == []
    assert bucket.keys() == [f"p/{NAME}"]


def test_a_last_step_that_failed_late_is_done_again(
    store: Store, bucket: Bucket, proxy: Proxy
) -> None:
    """The server had said 200 before it began, and sent an error behind that."""
    proxy.happen("answer", verb="POST", target="uploadId=", status=200, code="InternalError")
    publish(store)
    assert bucket.get(f"p/{NAME}") == DATA


def test_a_claim_beside_a_whole_archive_is_no_part_and_is_mended_away(
    store: Store, bucket: Bucket
) -> None:
    """As a kill leaves it right behind the last step."""
    gone = msgspec.structs.replace(claims.myself(), started="1")
    left = msgspec.json.encode(claims.Claim("token", gone, "2026-01-01T00:00:00Z", "no upload"))
    for name in ("a", "b", "c"):
        bucket.put(f"p/{name}", b"whole")
        bucket.put(f"p/{name}.virtstore-partial", left)
    assert [(each.name, each.state) for each in store.scan()] == [
        (name, "complete") for name in ("a", "b", "c")
    ]
    assert store.interrupted() == ["a", "b", "c"]
    store.mend("a")
    assert store.interrupted() == ["b", "c"]
    store.remove("b")
    publish(store, b"new", "c", overwrite=True)
    assert bucket.keys() == ["p/a", "p/c"]
    assert store.interrupted() == []


def test_a_claim_that_somebody_has_is_not_mended_away(store: Store, bucket: Bucket) -> None:
    bucket.put(f"p/{NAME}", b"old")
    with written(store) as archive:
        assert store.interrupted() == []
        store.mend(NAME)
        archive.publish(overwrite=True)
    assert bucket.get(f"p/{NAME}") == DATA


def test_a_claim_is_written_again_as_long_as_the_archive_is_made(
    store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "RENEWED", 0.05)
    with store.archive(NAME):
        proxy.forget()
        waiting.until(lambda: proxy.verbs["PUT"] >= 3, "the claim to be written again")


def test_a_session_that_is_restricted_to_a_directory_of_a_bucket_sees_no_more(
    place: Place, bucket: Bucket
) -> None:
    for key in ("p/web/a", "p/web/d/b", "p/web2", "p/db/c"):
        bucket.put(key, b"1")
    policy = Policy(Config(roots=(place.root,)), ["/s3/b/web"], "append")
    [(root, access)] = policy.roots()
    assert (root.path, access) == ("/s3/b/web", "append")
    with policy.opened(root) as store:
        assert {each.name for each in store.scan()} == {"a", "d"}
    with policy.store("/s3/b/web/d", "read") as store:
        assert [each.name for each in store.scan()] == ["b"]
    for path in ("/s3/b/db", "/s3/b/web2", "/s3/b"):
        with pytest.raises(Denied), policy.image(path, "read"):
            pass
