"""What can be wrong with a bucket: for `doctor`. Only what changes nothing is tried."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from virtstore.backends.bucket import credentials
from virtstore.backends.bucket.client import Client
from virtstore.backends.bucket.complaints import behind
from virtstore.errors import Error
from virtstore.findings import note, ok, problem, warning
from virtstore.model import Access, Finding

#: Seconds that a clock may be off; servers refuse requests from 15 minutes on.
_OFF: Final = 60


def examine(path: str, client: Client, access: Access) -> Iterator[Finding]:
    server = client.address.server
    yield from _reachable(path, client, access)
    for file in credentials.files():
        if credentials.is_open_to_others(file):
            yield warning(
                f"{path}: other users of this host may read {file}, in which credentials may be",
                f"chmod 600 {file}",
            )
    if not client.address.secure:
        yield note(
            f"{path}: what goes to {server} and comes from there is in clear",
            "use an https:// endpoint, unless the network is yours alone",
        )


def _reachable(path: str, client: Client, access: Access) -> Iterator[Finding]:
    query = {"list-type": "2", "max-keys": "1"}
    try:
        answer = client.ask("GET", "", "s3:ListBucket", query=query)
    except Error as error:
        yield problem(f"{path}: {error.message}", "mend that; until then nothing in it is reached")
        return
    off = behind(answer.headers.get("date"))
    if off is not None and abs(off) > _OFF:
        way = "fast" if off > 0 else "slow"
        yield warning(
            f"{path}: by the clock of {client.address.server} this host's is {abs(off):.0f} seconds"
            f" {way}; from 15 minutes on everything is refused",
            "timedatectl set-ntp true",
        )
    source = client.credentials.source
    yield ok(f"{path}: a bucket that can be used (access {access}), with credentials from {source}")
