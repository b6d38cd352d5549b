"""Fields of a request that make no sense, alone or together, are refused beforehand."""

from __future__ import annotations

import pytest

from virtstore import protocol
from virtstore.errors import UsageError
from virtstore.protocol import Request
from virtstore.requests import check_fields


@pytest.mark.parametrize(
    "request_",
    [
        protocol.Receive("/t", "s", 1, "contents", archive="zstd"),
        protocol.Receive("/t", "s", 1, "contents", archive="gzip"),
        protocol.Receive("/t", "s", 1, "contents", level=3),
        protocol.Receive("/t", "s", -1, "new"),
        protocol.Receive("/t", "s", 1 << 63, "new"),
        protocol.Receive("/t", "a/b", 1, "new"),
        protocol.Receive("/t", "..", 1, "new"),
        protocol.Receive("/t", "a\0b", 1, "new"),
        protocol.CopyHere("/s", "/t", "contents", archive="zstd"),
        protocol.CopyHere("/s", "/t", "new", bwlimit=-1),
        protocol.Send("/s", bwlimit=-5),
        protocol.Send("/s", bwlimit=1 << 63),
        protocol.GrowFilesystem("/x", partition=0),
        protocol.GrowFilesystem("/x", partition=-1),
        protocol.ShrinkFilesystem("/x", "1G", partition=1 << 32),
        protocol.CreateImage("/x", "1G", thin=""),
        protocol.HashImage("/x", 4096, (0, -1)),
    ],
)
def test_what_makes_no_sense_on_any_host_is_refused(request_: Request) -> None:
    with pytest.raises(UsageError):
        check_fields(request_)


@pytest.mark.parametrize(
    "request_",
    [
        protocol.Receive("/t", "s", 1, "new", archive="zstd", level=3),
        protocol.Receive("/t", "", 1, "contents"),
        protocol.Receive("/t", "..s", (1 << 63) - 1, "overwrite"),
        protocol.CopyHere("/s", "/t", "new", archive="gzip", bwlimit=1),
        protocol.Send("/s", bwlimit=0),
        protocol.GrowFilesystem("/x", "1G", partition=1),
        protocol.GetStorageInfo(),
        protocol.ListImages(None),
        protocol.HashImage("/x", 4096, (0, 1)),
    ],
)
def test_what_makes_sense_is_left_to_the_host(request_: Request) -> None:
    check_fields(request_)
