"""Rows about archives in a bucket, beside obstore alone and rclone.

The server is Ceph's own gateway, of the cluster that the tests have (tests/ceph). Its data is in
memory, so that programs are measured and no disks. It runs for as long as a row.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from tests import fault_proxy
from tests.ceph import cluster as ceph
from tests.ceph import gateway as rgw
from tests.s3 import Bucket

from bench import changing, demands
from bench.commands import without
from bench.configured import configured
from bench.model import Contender, Demand, Failed, Result
from bench.place import Place
from bench.race import Command, Race, run_text, shell, timed
from bench.study import Study

#: Bytes that the server has room for.
_MEMORY = 6 << 30
#: A process's memory: what is on its way to the server, and from there, is kept until it is done.
_MEGABYTES = 200
_NAME = "bench"
_DISK = "{a}/disk.img"
_FILE, _THERE = "{a}/sparse.img", "/s3/backups"
_OBSTORE = "python -m bench.objects"
#: What is not here of what that needs.
_NEEDED = () if importlib.util.find_spec("obstore") else ("obstore",)
_PUT, _GET = "zstd -1 -T0 | obstore", "obstore | zstd -d"
_RCAT, _CAT = "zstd -1 -T0 | rclone rcat", "rclone cat | zstd -d"
_NOTE = "Ceph's gateway is on the same machine, and takes processor time too."
#: Name and command of each, and whether the image has changed before.
_INCREMENTAL = (
    ("virtstore, the first", f"virtstore copy --archive {_DISK} {_THERE}/1.zst", False),
    (
        "virtstore, 1 % changed",
        f"virtstore copy --archive --base {_THERE}/1.zst {_DISK} {_THERE}/2.zst",
        True,
    ),
)


@dataclass(frozen=True)
class OnS3:
    """A race with a server that has a bucket, in which host a's agent may write."""

    race: Race

    @property
    def name(self) -> str:
        return self.race.name

    def measure(self, place: Place, runs: int) -> Result:
        try:
            with _served(place) as (there, _):
                return self.race.measure(there, runs)
        except Failed as failed:
            entered = Contender("virtstore", "", trouble=str(failed))
            return Result(self.name, self.race.job, (entered,))


def rows() -> tuple[OnS3 | Study, ...]:
    return OnS3(_uploaded()), OnS3(_restored()), Study("s3-incremental", _measure_incremental)


@contextmanager
def _served(place: Place, *, counted: bool = False) -> Iterator[tuple[Place, fault_proxy.Proxy]]:
    """The place with a bucket. What virtstore sends there goes through a proxy that counts, if it
    is to be `counted`."""
    if lacking := (*ceph.missing(), *rgw.missing()):
        raise Failed(f"not here: {', '.join(lacking)}")
    with (
        tempfile.TemporaryDirectory(prefix="ceph-", dir=place.scratch) as directory,
        ceph.running(Path(directory), memory=_MEMORY) as cluster,
        rgw.serving(cluster) as gateway,
        fault_proxy.between(gateway.endpoint.removeprefix("http://")) as proxy,
    ):
        at = gateway.endpoint.removeprefix("http://")
        bucket = Bucket(at, _NAME, gateway.access_key, gateway.secret_key)
        bucket.make()
        table = (bucket.through(proxy.at) if counted else bucket).table()
        with configured(place.scratch / "a" / "config.toml", table):
            yield _for_peers(place, bucket), proxy


def _for_peers(place: Place, bucket: Bucket) -> Place:
    environment = {
        **place.environment,
        **bucket.environment,
        "AWS_REGION": "us-east-1",
        "BENCH_BUCKET": bucket.name,
        "BENCH_ENDPOINT": bucket.endpoint,
        "PYTHONPATH": str(Path(__file__).parent.parent),
        "RCLONE_CONFIG": "/dev/null",
        "RCLONE_CONFIG_BENCH_TYPE": "s3",
        "RCLONE_CONFIG_BENCH_PROVIDER": "Ceph",
        "RCLONE_CONFIG_BENCH_ENV_AUTH": "true",
        "RCLONE_CONFIG_BENCH_ENDPOINT": bucket.endpoint,
    }
    environment.pop("AWS_CA_BUNDLE", None)  # with which rclone does not start, and there is no TLS
    return replace(place, environment=environment)


def _uploaded() -> Race:
    ours = f"{_THERE}/out.zst"
    gone = shell(f"virtstore delete {ours} > /dev/null 2>&1 || true")
    check = shell(f"{_OBSTORE} get out.zst | zstd -dc | cmp - {_FILE}")
    zstd = f"zstd -q -1 -T0 -c {_FILE}"
    return Race(
        "s3-upload",
        "copy sparse.img to an archive in a bucket",
        (
            Command(
                "virtstore",
                f"virtstore copy --archive --json {_FILE} {ours}",
                ("zstd", *_NEEDED),
                gone,
                check,
            ),
            Command(_PUT, f"{zstd} | {_OBSTORE} put out.zst", ("zstd", *_NEEDED), gone, check),
            Command(
                _RCAT,
                f"{zstd} | rclone rcat bench:{_NAME}/out.zst",
                ("zstd", "rclone", *_NEEDED),
                gone,
                check,
            ),
        ),
        (demands.faster(_PUT, 0.9), demands.memory_within(_MEGABYTES)),
        (_NOTE,),
    )


def _restored() -> Race:
    made = "{a}/copied.img"
    write = f"| zstd -q -d --no-sparse -f -o {made} - && sync {made}"
    kept = f"{_THERE}/kept.zst"
    ready = shell(
        f"rm -f {made}; virtstore info {kept} > /dev/null 2>&1"
        f" || virtstore copy --archive {_FILE} {kept}"
    )
    check = shell(f"cmp {_FILE} {made}")
    return Race(
        "s3-restore",
        "copy an archive in a bucket to an image, wholly allocated and flushed",
        (
            Command("virtstore", f"virtstore copy --json {kept} {made}", (), ready, check, made),
            Command(
                _GET,
                f"{_OBSTORE} get kept.zst {write}",
                ("zstd", *_NEEDED),
                ready,
                check,
                made,
            ),
            Command(
                _CAT,
                f"rclone cat bench:{_NAME}/kept.zst {write}",
                ("zstd", "rclone"),
                ready,
                check,
                made,
            ),
        ),
        (demands.faster(_GET, 0.9), demands.memory_within(_MEGABYTES)),
        (_NOTE,),
        after=without(made),
    )


def _measure_incremental(place: Place, runs: int) -> Result:
    """Bytes that the bodies of all requests have, of a first archive and of one that is based on
    it, of an image of which 1 % changed."""
    disk = place.path(_DISK)
    try:
        changing.make(place, disk)
        with _served(place, counted=True) as (there, proxy):
            made = [
                _sent(there, proxy, name, text, changed=changed)
                for name, text, changed in _INCREMENTAL
            ]
            run_text(there, f"virtstore verify {_THERE}/2.zst")
    finally:
        disk.unlink(missing_ok=True)
    first, later = made
    assert first.transferred
    assert later.transferred
    return Result(
        "s3-incremental",
        "copy an image of which 1 % changed to a bucket that has an archive of it",
        (later, first),
        (Demand("bytes of a first one", later.transferred / first.transferred, 0.25, False),),
        (
            f"{changing.WHAT} What did not change is copied by the server itself, in parts of 5 MiB"
            " and more. Bytes are those of the bodies of all requests.",
        ),
    )


def _sent(
    place: Place, proxy: fault_proxy.Proxy, name: str, text: str, *, changed: bool
) -> Contender:
    changing.write(place, place.path(_DISK), changed=changed)
    proxy.forget()
    run = timed(place, Command(name, text))
    run = msgspec.structs.replace(run, transferred=proxy.sent())
    return Contender(name, place.shown(text), runs=(run,))
