"""radosgw: an S3 server of a cluster, on loopback, with one user whose keys are new each time.

Host tools needed: radosgw.
"""

from __future__ import annotations

import http.client
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from tests import waiting
from tests.hosts.sshd import free_port
from tests.waiting import PATIENCE

from .cluster import Cluster

_REGION: Final = "default"


@dataclass(frozen=True)
class Gateway:
    """An S3 server. `endpoint` is a URL; the keys are those of a user who may make buckets."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str = _REGION

    @property
    def environment(self) -> dict[str, str]:
        """The standard variables, for a process that uses it."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }


def missing() -> tuple[str, ...]:
    """The Debian packages that it would need here and that are not installed."""
    return () if shutil.which("radosgw") else ("radosgw",)


@contextmanager
def serving(cluster: Cluster) -> Iterator[Gateway]:
    """The gateway of a cluster, from answering to gone."""
    port = free_port()
    found = Gateway(
        f"http://127.0.0.1:{port}", secrets.token_hex(10).upper(), secrets.token_urlsafe(30)
    )
    _make_user(cluster, found)
    data = cluster.directory / "rgw"
    data.mkdir()
    with (cluster.directory / "rgw.said").open("wb") as said:
        process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", "--", "radosgw", "-f"),
                *("--conf", str(cluster.conf), "-n", "client.rgw"),
                *("--rgw-frontends", f"beast endpoint=127.0.0.1:{port}"),
                *("--rgw-data", str(data), "--rgw-enable-usage-log", "false"),
                *("--log-file", str(cluster.directory / "rgw.log")),
            ],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
    try:
        waiting.until(lambda: _answers(cluster, process, port), "radosgw to answer")
        yield found
    finally:
        process.kill()
        process.wait(PATIENCE)


def _make_user(cluster: Cluster, gateway: Gateway) -> None:
    words = ["user", "create", "--uid", "tests", "--display-name", "tests"]
    keys = ["--access-key", gateway.access_key, "--secret", gateway.secret_key]
    cluster.call("radosgw-admin", *words, *keys)


def _answers(cluster: Cluster, process: subprocess.Popen[bytes], port: int) -> bool:
    if process.poll() is not None:
        said = (cluster.directory / "rgw.said").read_text(errors="replace")
        raise AssertionError(f"radosgw did not start: {said[-2000:]}")
    asked = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        asked.request("GET", "/")
        return asked.getresponse().status < 500
    except OSError:
        return False
    finally:
        asked.close()
