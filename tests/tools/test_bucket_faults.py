"""What goes wrong between virtstore and an S3 server: each is a clear error, and nothing half-made
is ever to be seen under its final name."""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fault_proxy import Kind, Proxy
from tests.moto_server import Moto
from tests.s3 import Bucket
from tests.tools.buckets import MIB, SIZE, BucketHost
from tests.tools.kills import agent_of
from tests.tools.test_agent_commands import told, virtstore
from tests.waiting import PATIENCE, until

import virtstore as api

_PART = "partNumber="
_OTHER = Path(__file__).with_name("agent_of_another_host.py")


@pytest.fixture
def there(
    tmp_path: Path, bucket: Bucket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> BucketHost:
    """A host that reaches its bucket through the proxy."""
    host = BucketHost(tmp_path, bucket, monkeypatch)
    host.allow(by=bucket.through(proxy.at))
    return host


@pytest.fixture
def archived(there: BucketHost, proxy: Proxy) -> Path:
    """An image with an archive in the bucket."""
    image = there.image()
    there.archive(image, "web.img.zst")
    proxy.forget()
    return image


def cleaned(bucket: Bucket) -> None:
    """Nothing is left once `clean` was there."""
    told("clean", "/s3/backups")
    bucket.nothing_is_left()


def test_an_upload_goes_on_after_whatever_passes(
    there: BucketHost, bucket: Bucket, proxy: Proxy
) -> None:
    faults = [
        proxy.happen("lost-answer", verb="POST", target="uploads"),
        proxy.happen("answer", verb="HEAD"),
        proxy.happen("cut-request", verb="PUT", target="partNumber=1", after=3 * MIB),
        proxy.happen("answer", verb="PUT", target="partNumber=2", times=2),
        proxy.happen("answer", verb="PUT", target="partNumber=3", status=503, code="SlowDown"),
        proxy.happen("lost-answer", verb="PUT", target="partNumber=3"),
        proxy.happen("answer", verb="POST", target="uploadId"),
        proxy.happen("lost-answer", verb="POST", target="uploadId"),
        proxy.happen("slow", verb="DELETE", seconds=1.0),
    ]
    image = there.image()
    there.archive(image, "web.img.zst")
    assert [each.times for each in faults] == [0] * len(faults)
    proxy.forget()
    assert there.back("web.img.zst") == image.read_bytes()
    told("clean", "/s3/backups")
    assert (bucket.keys(), bucket.uploads()) == (["web.img.zst"], [])


def test_a_restore_goes_on_after_whatever_passes(
    there: BucketHost, archived: Path, proxy: Proxy
) -> None:
    faults = [
        proxy.happen("answer", verb="HEAD"),
        proxy.happen("cut-answer", verb="GET", after=100_000, times=2),
        proxy.happen("answer", verb="GET", times=2),
        proxy.happen("lost-answer", verb="GET"),
        proxy.happen("slow", verb="GET", seconds=1.0),
    ]
    assert there.back("web.img.zst") == archived.read_bytes()
    assert [each.times for each in faults] == [0] * len(faults)


@pytest.mark.parametrize(
    ("kind", "verb", "target"), [("cut-request", "PUT", _PART), ("answer", "POST", "uploadId")]
)
def test_an_upload_that_cannot_go_on_leaves_nothing_to_be_seen(
    there: BucketHost, bucket: Bucket, proxy: Proxy, kind: Kind, verb: str, target: str
) -> None:
    there.allow(by=bucket.through(proxy.at), patience=2)
    image = there.image()
    fault = proxy.happen(kind, verb=verb, target=target, times=-1, after=3 * MIB)
    error = told("copy", "--archive", image, "/s3/backups/", status=10)["error"]
    assert error["code"] == "connection"
    assert proxy.at in error["message"]
    [left] = told("list", "/s3/backups")
    assert (left["path"], left["state"]) == ("/s3/backups/web.img.zst", "partial")
    fault.times = 0
    cleaned(bucket)


@pytest.mark.parametrize("kind", ["cut-answer", "answer"])
def test_a_restore_that_cannot_go_on_makes_no_image(
    there: BucketHost, archived: Path, proxy: Proxy, kind: Kind
) -> None:
    there.allow(by=there.bucket.through(proxy.at), patience=2)
    proxy.happen(kind, verb="GET", times=-1, after=1000)
    error = told("copy", "/s3/backups/web.img.zst", there.images / "back.img", status=10)["error"]
    assert (error["code"], proxy.at in error["message"]) == ("connection", True)
    assert not (there.images / "back.img").exists()


def test_a_server_that_is_not_there_is_named(there: BucketHost, bucket: Bucket) -> None:
    there.allow(by=bucket.through("127.0.0.1:1"))
    error = told("list", "/s3/backups", status=10)["error"]
    assert error["code"] == "connection"
    assert "127.0.0.1:1" in error["message"]


def test_a_bucket_that_is_not_there_is_named(
    there: BucketHost, bucket: Bucket, proxy: Proxy
) -> None:
    there.allow(by=Bucket(proxy.at, "no-such-bucket", bucket.access_key, bucket.secret))
    image = there.image(size=MIB)
    with there.session() as host:
        for act in (
            lambda: host.list("/s3/backups"),
            lambda: host.image(str(image)).copy(host.image("/s3/backups/x"), archive=True),
            lambda: host.image("/s3/backups/x").info(),
        ):
            with pytest.raises(api.NotFound, match="no-such-bucket"):
                act()
        [found] = [each for each in host.doctor() if "no-such-bucket" in each.what]
    assert found.severity == "problem"


def test_a_clock_that_is_off_is_said_to_be(there: BucketHost, proxy: Proxy) -> None:
    proxy.happen("answer", times=-1, status=403, code="RequestTimeTooSkewed")
    error = told("list", "/s3/backups", status=1)["error"]
    assert "clock" in error["message"]


def test_a_service_that_takes_no_more_has_no_space(
    there: BucketHost, bucket: Bucket, proxy: Proxy
) -> None:
    image = there.image(size=9 * MIB)
    proxy.happen("answer", verb="PUT", target=_PART, times=-1, status=403, code="QuotaExceeded")
    error = told("copy", "--archive", image, "/s3/backups/", status=7)["error"]
    assert error["code"] == "no-space"
    bucket.nothing_is_left()


def test_who_has_no_credentials_is_told_where_to_write_them(
    there: BucketHost, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    error = told("list", "/s3/backups", status=5)["error"]
    assert "AWS_ACCESS_KEY_ID" in error["message"]
    assert ".aws/credentials" in error["message"]
    assert not proxy.asked


def test_who_has_wrong_credentials_is_denied_and_the_secret_is_in_no_message(
    there: BucketHost, moto: Moto, bucket: Bucket, proxy: Proxy
) -> None:
    image = there.image(size=MIB)
    with moto.watchful():
        for words in (
            ("list", "/s3/backups"),
            ("copy", "--archive", image, "/s3/backups/"),
            ("storage-info", "local:"),
            ("doctor",),
        ):
            done = virtstore("-v", *words, status=None)
            assert bucket.secret not in done.stdout + done.stderr
            if words[0] in ("list", "copy"):
                assert done.returncode == 5, done.stderr
                assert "from the environment of the agent" in done.stderr
    bucket.nothing_is_left()


class Agent:
    """An archive in the making, whose agent is held in the middle: its parts arrive, and nobody
    tells it so."""

    def __init__(self, there: BucketHost, proxy: Proxy, image: Path) -> None:
        self._fault = proxy.happen("slow", verb="PUT", target=_PART, times=-1, seconds=PATIENCE)
        self._proxy = proxy
        self.failed: api.Error | None = None
        self.host = api.connect(config=str(there.config))
        self._image = image
        self._thread = threading.Thread(target=self._copy, name="copy")
        self._thread.start()

    def _copy(self) -> None:
        try:
            target = self.host.image("/s3/backups/web.img.zst")
            self.host.image(str(self._image)).copy(target, archive=True)
        except api.Error as error:
            self.failed = error

    @property
    def pid(self) -> int:
        return agent_of(self.host).pid

    def parts_are_told(self) -> None:
        """Let the agent go on."""
        self._fault.times = 0
        self._proxy.go_on.set()

    def over(self) -> None:
        self.parts_are_told()
        self._thread.join(PATIENCE)
        self.host.close()


def parts_there(bucket: Bucket) -> list[str]:
    """Which parts of an upload have arrived."""
    for number in bucket.ask("GET", query="uploads=").all_of("UploadId"):
        return bucket.ask("GET", "web.img.zst", f"uploadId={number}").all_of("PartNumber")
    return []


@pytest.fixture
def killed(there: BucketHost, bucket: Bucket, proxy: Proxy) -> Path:
    """The image of which an archive was in the making when its agent was killed. Two parts of three
    had arrived."""
    image = there.image()
    agent = Agent(there, proxy, image)
    try:
        until(lambda: {"1", "2"} <= {*parts_there(bucket)}, "two parts to arrive")
        os.kill(agent.pid, signal.SIGKILL)
    finally:
        agent.over()
    assert agent.failed
    proxy.forget()
    return image


def test_what_a_killed_agent_left_is_partial_and_clean_removes_it(
    there: BucketHost, bucket: Bucket, killed: Path
) -> None:
    [left] = told("list", "-l", "/s3/backups")
    assert (left["path"], left["state"]) == ("/s3/backups/web.img.zst", "partial")
    assert told("verify", "/s3/backups/web.img.zst", status=3)["error"]["code"] == "not-found"
    keys = bucket.keys()
    assert "web.img.zst" not in keys
    assert told("clean", "-n", "/s3/backups")["removed"] == ["/s3/backups/web.img.zst"]
    assert told("clean", "/s3/backups")["removed"] == ["/s3/backups/web.img.zst"]
    bucket.nothing_is_left()


def test_the_same_copy_again_sends_only_what_is_missing(
    there: BucketHost, bucket: Bucket, proxy: Proxy, killed: Path
) -> None:
    there.archive(killed, "web.img.zst")
    assert proxy.sent() < SIZE - 15 * MIB
    assert there.back("web.img.zst") == killed.read_bytes()
    assert (bucket.keys(), bucket.uploads()) == (["web.img.zst"], [])


def test_parts_of_what_has_changed_since_are_sent_again(
    there: BucketHost, bucket: Bucket, proxy: Proxy, killed: Path
) -> None:
    with killed.open("r+b") as file:
        file.write(os.urandom(MIB))
    there.archive(killed, "web.img.zst")
    assert there.back("web.img.zst") == killed.read_bytes()
    assert (bucket.keys(), bucket.uploads()) == (["web.img.zst"], [])


def test_the_mark_of_an_upload_that_a_kill_left_beside_its_archive_goes(
    there: BucketHost, bucket: Bucket, proxy: Proxy
) -> None:
    """The server is asked to remove the mark, does not, and its answer is waited for."""
    proxy.happen("answer", verb="DELETE", times=-1, status=503, code="SlowDown")
    agent = Agent(there, proxy, there.image(size=MIB))
    try:
        until(lambda: parts_there(bucket), "the part to arrive")
        agent.parts_are_told()
        until(lambda: proxy.verbs["DELETE"], "the mark to be removed")
        os.kill(agent.pid, signal.SIGKILL)
    finally:
        agent.over()
    assert bucket.keys() == ["web.img.zst", "web.img.zst.virtstore-partial"]
    proxy.forget()
    told("clean", "/s3/backups")
    assert (bucket.keys(), bucket.uploads()) == (["web.img.zst"], [])


def test_a_name_that_somebody_takes_meanwhile_is_left_to_them(
    there: BucketHost, bucket: Bucket, proxy: Proxy
) -> None:
    agent = Agent(there, proxy, there.image())
    try:
        until(bucket.uploads, "the upload to begin")
        bucket.put("web.img.zst", b"somebody's")
    finally:
        agent.over()
    assert agent.failed
    assert agent.failed.code == "exists"
    assert bucket.get("web.img.zst") == b"somebody's"
    told("clean", "/s3/backups")
    assert (bucket.keys(), bucket.uploads()) == (["web.img.zst"], [])


def test_of_two_hosts_that_make_one_archive_one_does(
    there: BucketHost, bucket: Bucket, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = there.image(), there.image("other.img", seed=2)
    agent = Agent(there, proxy, first)
    try:
        until(bucket.uploads, "the upload to begin")
        other = shlex.join([sys.executable, str(_OTHER), str(tmp_path / "locks")])
        monkeypatch.setenv("VIRTSTORE_AGENT", f"{other} --config {there.config}")
        error = told("copy", "--archive", second, "/s3/backups/web.img.zst", status=6)["error"]
        assert error["path"] == "/s3/backups/web.img.zst"
        monkeypatch.delenv("VIRTSTORE_AGENT")
    finally:
        agent.over()
    assert agent.failed is None
    assert there.back("web.img.zst") == first.read_bytes()
    assert (bucket.keys(), bucket.uploads()) == (["web.img.zst"], [])


def test_an_archive_that_is_replaced_while_it_is_read_is_never_mixed_with_the_new_one(
    there: BucketHost, bucket: Bucket, proxy: Proxy, archived: Path
) -> None:
    new = there.image("new.img", seed=9)
    there.archive(new, "new.img.zst")
    replacement = bucket.get("new.img.zst")
    proxy.forget()
    fault = proxy.happen("slow", verb="GET", times=-1, seconds=PATIENCE)
    failed: list[api.Error] = []

    def restore() -> None:
        try:
            there.back("web.img.zst")
        except api.Error as error:
            failed.append(error)

    thread = threading.Thread(target=restore, name="restore")
    thread.start()
    try:
        until(lambda: fault.times < -1, "the archive to be read")
        bucket.put("web.img.zst", replacement)
    finally:
        fault.times = 0
        proxy.go_on.set()
        thread.join(PATIENCE)
    assert [each.code for each in failed] == ["in-use"]
    assert not (there.images / "back.img").exists()


def test_the_secret_is_in_no_command_line_environment_of_tools_or_output(
    there: BucketHost, bucket: Bucket, proxy: Proxy
) -> None:
    agent = Agent(there, proxy, there.image())
    try:
        until(bucket.uploads, "the upload to begin")
        lines = [file.read_bytes() for file in _command_lines()]
        assert not [line for line in lines if bucket.secret.encode() in line]
    finally:
        agent.over()
    assert agent.failed is None
    for words in (("-v", "info", "/s3/backups/web.img.zst"), ("-v", "list", "-l", "/s3/backups")):
        done = virtstore(*words)
        assert bucket.secret not in done.stdout + done.stderr


def test_the_secret_is_in_no_log_and_in_nothing_that_is_printed(
    there: BucketHost, bucket: Bucket, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither where all goes well, nor where the server, or the credentials, are wrong."""
    log, token = tmp_path / "log", secrets.token_hex(20)
    there.config.write_text(f'log = "{log}"\n{there.config.read_text()}')
    image = there.image(size=MIB)
    told_ = []

    def tell(*words: str | Path) -> None:
        for options in ("-v", "--json"), ("-v",):
            done = virtstore(*options, *words, status=None)
            told_.append(done.stdout + done.stderr)

    for session in (token, f"{token}\nof two lines"):
        monkeypatch.setenv("AWS_SESSION_TOKEN", session)
        tell("backup", image, "/s3/backups/nightly")
        proxy.happen("answer", times=2, status=403, code="SignatureDoesNotMatch")
        tell("list", "-l", "/s3/backups/nightly")
        tell("doctor")
    assert all(word not in text for word in (bucket.secret, token) for text in told_)
    assert "two lines" not in "".join(told_)
    written = log.read_text()
    assert "/s3/backups/nightly" in written
    assert bucket.secret not in written
    assert token not in written


def _command_lines() -> Iterator[Path]:
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        if os.access(file, os.R_OK):
            yield file
