"""Fields of a request that make no sense, alone or together, are refused beforehand."""

from __future__ import annotations

import msgspec
import pytest

from virtstore import protocol
from virtstore.copy_options import CopyOptions
from virtstore.errors import Unsupported, UsageError
from virtstore.protocol import Request
from virtstore.requests import check_fields

ARCHIVE = CopyOptions(archive=True, format="zstd")
KEPT = CopyOptions(archive=True, snapshot=True, keep_snapshot=True)


@pytest.mark.parametrize(
    "request_",
    [
        protocol.Receive("/t", "s", 1, ARCHIVE, contents=True),
        protocol.Send("/s", CopyOptions(format="gzip")),
        protocol.Receive("/t", "s", 1, CopyOptions(level=3), contents=True),
        protocol.Receive("/t", "s", -1),
        protocol.Receive("/t", "s", 1 << 63),
        protocol.Receive("/t", "a/b", 1),
        protocol.Receive("/t", "..", 1),
        protocol.Receive("/t", "a\0b", 1),
        protocol.CopyHere("/s", "/t", ARCHIVE, contents=True),
        protocol.CopyHere("/s", "/t", CopyOptions(overwrite=True), contents=True),
        protocol.CopyHere("/s", "/t", CopyOptions(bwlimit=-1)),
        protocol.Send("/s", CopyOptions(bwlimit="-5B")),
        protocol.Send("/s", CopyOptions(bwlimit=f"{1 << 63}B")),
        protocol.GrowFilesystem("/x", partition=0),
        protocol.GrowFilesystem("/x", partition=-1),
        protocol.ShrinkFilesystem("/x", "1G", partition=1 << 32),
        protocol.CreateImage("/x", "1G", thin=""),
        protocol.CreateImage("/x", "1G", thin="pool", sparse=True),
        protocol.CopyHere("/s", "/t", CopyOptions(keep_snapshot=True, snapshot=True)),
        protocol.CopyHere("/s", "/t", KEPT),
        protocol.Send("/s", KEPT, kept_for="../../.."),
        protocol.Send("/s", msgspec.structs.replace(KEPT, snapshot=False), kept_for="0" * 8),
        protocol.Send("/s", msgspec.structs.replace(KEPT, format="gzip"), kept_for="0" * 8),
        protocol.CopyHere("/s", "/t", CopyOptions(archive=True, sparse=True)),
        protocol.CopyHere("/s", "/t", CopyOptions(archive=True, reflink=True)),
        protocol.CopyHere("/s", "/t", CopyOptions(sparse=True, reflink=True)),
        protocol.CopyHere("/s", "/t", CopyOptions(reflink=True), contents=True),
        protocol.Receive("/t", "s", 1, CopyOptions(sparse=True), contents=True),
        protocol.CopyHere("/s", "/t", CopyOptions(live=True, snapshot=True)),
        protocol.CopyHere("/s", "/t", CopyOptions(live=True, reflink=True)),
        protocol.CopyHere("/s", "/t", CopyOptions(live=True), contents=True),
        protocol.Send("/s", CopyOptions(quiesce="try")),
        protocol.CopyHere("/s", "/t", CopyOptions(quiesce=True, snapshot=True), contents=True),
        *(protocol.RenameImage("/x", name) for name in ("", ".", "..", "d/y", "/y", "a\n", "a\0")),
        protocol.HashImage("/x", 4096, (0, -1)),
    ],
)
def test_what_makes_no_sense_on_any_host_is_refused(request_: Request) -> None:
    with pytest.raises(UsageError) as refused:
        check_fields(request_)
    assert "=True" not in refused.value.message  # most who read it type no Python


def test_a_format_without_an_archive_is_told_both_ways_out() -> None:
    with pytest.raises(UsageError, match="add --archive, or leave --format out"):
        check_fields(protocol.Send("/s", CopyOptions(format="gzip")))


@pytest.mark.parametrize(
    "request_",
    [
        protocol.Send("/s", CopyOptions(reflink=True)),
        protocol.Receive("/t", "s", 1, CopyOptions(reflink=True)),
    ],
)
def test_what_no_two_hosts_can_do_is_refused(request_: Request) -> None:
    with pytest.raises(Unsupported, match="one host only; leave --reflink out"):
        check_fields(request_)


@pytest.mark.parametrize(
    "request_",
    [
        protocol.CopyHere("/s", "/t", CopyOptions(overwrite=True, reflink=True)),
        protocol.Receive("/t", "s", 1, CopyOptions(archive=True, format="zstd", level=3)),
        protocol.Receive("/t", "", 1, contents=True),
        protocol.Receive("/t", "..s", (1 << 63) - 1, CopyOptions(overwrite=True)),
        protocol.CopyHere("/s", "/t", CopyOptions(archive=True, format="gzip", bwlimit="1B")),
        protocol.Send("/s", CopyOptions(bwlimit=0)),
        protocol.GrowFilesystem("/x", "1G", partition=1),
        protocol.GetStorageInfo(),
        protocol.ListImages(None),
        protocol.HashImage("/x", 4096, (0, 1)),
    ],
)
def test_what_makes_sense_is_left_to_the_host(request_: Request) -> None:
    check_fields(request_)
