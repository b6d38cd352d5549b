"""kill -9 of the agent, or of the client, in the middle of an upload: what has an archive's name is
whole, and what is left goes on or can be cleaned."""

from __future__ import annotations

import random
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

import pytest
from tests.s3 import Bucket
from tests.tools import kills
from tests.tools.buckets import BucketHost
from tests.tools.ext_images import TORTURE
from tests.warm import COMMAND

import virtstore

MOMENTS: Final = 30 if TORTURE else 3
_KEY: Final = "/s3/backups/web.img.zst"


@pytest.fixture
def there(tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> BucketHost:
    return BucketHost(tmp_path, bucket, monkeypatch)


def copied(there: BucketHost, image: Path, who: str, after: int | None) -> kills.Ended:
    """An upload of which the agent or the client is killed once so much work is done."""
    if who == "client":
        argv = [sys.executable, "-c", COMMAND, "copy", "--archive", str(image), _KEY]
        return kills.run_command(argv, after)
    return kills.run(
        there.config,
        lambda host: host.image(str(image)).copy(host.image(_KEY), archive=True),
        "agent",
        after,
    )


@pytest.mark.parametrize("who", ["agent", "client"])
def test_an_upload_that_is_killed_is_whole_or_not_there(
    there: BucketHost, bucket: Bucket, who: Literal["agent", "client"]
) -> None:
    image = there.image()
    whole = image.read_bytes()
    work = copied(there, image, who, None).work
    random_ = random.Random(7)
    with there.session() as host:
        host.image(_KEY).delete()
        for number in range(MOMENTS):
            copied(there, image, who, random_.randrange(work // 10, work))
            found = [each.state for each in host.list("/s3/backups")]
            assert found in ([], ["partial"], ["complete"])
            if found != ["complete"] and number % 2:
                host.clean("/s3/backups")
            else:
                with suppress(virtstore.Exists):  # or the server has made it whole since
                    host.image(str(image)).copy(host.image(_KEY), archive=True)
                assert there.back("web.img.zst") == whole
                host.image(_KEY).delete()
            bucket.nothing_is_left()
