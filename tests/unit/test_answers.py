"""An agent's answer is held against its request: what cannot be true is not shown."""

from __future__ import annotations

import pytest

from virtstore import protocol
from virtstore.client import answers
from virtstore.client.answers import Untrue
from virtstore.errors import ConnectionFailed
from virtstore.model import (
    Changed,
    Cleaned,
    DirectoryInfo,
    Entry,
    Filesystem,
    ImageInfo,
    Partition,
    StorageInfo,
    Verified,
)
from virtstore.protocol import AnyMessage, Request

DIGEST = "0" * 64


def changed(path: str, size: int | None = 1) -> protocol.Done:
    return protocol.Done(Changed(path, "", changed=True, size=size))


def told(path: str, size: int = 1) -> protocol.Told:
    return protocol.Told(ImageInfo(path, "", "file", size, 1))


def verified(path: str) -> protocol.DoneVerifying:
    return protocol.DoneVerifying(Verified(path, "", 1, None, DIGEST, "nothing"))


def listed(*paths: str) -> protocol.Listed:
    return protocol.Listed(tuple(Entry(path, "", "file") for path in paths))


def cleaned(path: str, *removed: str, freed: int = 0) -> protocol.DoneCleaning:
    return protocol.DoneCleaning(Cleaned(path, "", removed, freed))


COPY = protocol.CopyHere("/s", "/t")
STORAGE = StorageInfo("", "1", (DirectoryInfo("/i", "read", "xfs", 5, 3, False),), (), (), ())


@pytest.mark.parametrize(
    ("request_", "answer", "last"),
    [
        (protocol.GetInfo("//x/./y"), told("/x/y"), True),
        (protocol.GetInfo("/dev/mapper/vg-x"), told("/dev/vg/x"), True),
        (protocol.GrowImage("/x", "1G"), changed("/x"), True),
        (protocol.DeleteImage("/x"), changed("/x", None), True),
        (protocol.ResizeImage("/x", "1G"), protocol.Progressed(0, 0), False),
        (protocol.ResizeImage("/x", "1G"), protocol.Progressed(3, 3), False),
        (protocol.ResizeImage("/x", "1G", move_swap=True), changed("/x"), True),
        (protocol.TakeSnapshot("/d/x"), changed("/d/x-s1"), True),
        (protocol.RenameImage("/d/./x", "y"), changed("/d/y"), True),
        (protocol.RenameImage("/dev/mapper/vg-x", "y"), changed("/dev/vg/y"), True),
        (protocol.CompressImage("/d/x"), changed("/d/x.zst"), True),
        (protocol.UncompressImage("/d/x.zst"), changed("/d/x"), True),
        (protocol.UncompressImage("/d/x"), changed("/d/x"), True),
        (protocol.VerifyImage("/x"), verified("/x"), True),
        (protocol.ListImages(None), listed("/i", "/dev/vg"), False),
        (protocol.ListImages("/i/"), listed("/i/x", "/i/y"), False),
        (protocol.ListImages("/i/x"), listed("/i/x"), False),
        (protocol.ListImages("/"), listed("/x"), False),
        (protocol.ListImages("/i", recursive=True), listed("/i/x/y/z"), False),
        (protocol.ListImages("/i"), protocol.ListEnd(), True),
        (protocol.CleanUp("/i/"), cleaned("/i/", "/i/x"), True),
        (protocol.CleanUp("/i/x"), cleaned("/i/x", "/i/x"), True),
        (protocol.GetStorageInfo(), protocol.ToldStorage(STORAGE), True),
        (COPY, protocol.Received("/t", 5, 5, DIGEST), True),
        (COPY, protocol.Received("/t/s", 5, 5, DIGEST), True),
        (
            protocol.CopyHere("/s", "/t", dry_run=True),
            protocol.Received("/t", 5, 0, ""),
            True,
        ),
    ],
)
def test_an_answer_to_what_was_asked_is_believed(
    request_: Request, answer: AnyMessage, last: bool
) -> None:
    assert answers.check(request_, answer, "a") is last


def _with(filesystem: Filesystem | None = None, *partitions: Partition) -> AnyMessage:
    return protocol.Told(
        ImageInfo("/x", "", "file", 1, 1, filesystem=filesystem, partitions=partitions)
    )


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (protocol.GetInfo("/x"), told("/y")),
        (protocol.GetInfo("/x"), told("/x", -1)),
        (protocol.GetInfo("/x"), told("/x", 1 << 63)),
        (protocol.GetInfo("/x"), _with(Filesystem("ext4", size=-1))),
        (protocol.GetInfo("/x"), _with(Filesystem("ext4", minimum=1 << 64))),
        (protocol.GetInfo("/x"), _with(None, Partition(-1, 0, 1, "83"))),
        (protocol.GetInfo("/x"), _with(None, Partition(1, -512, 1, "83"))),
        (protocol.GrowImage("/x", "1G"), changed("/y")),
        (protocol.GrowImage("/x", "1G"), changed("/x", -1)),
        (protocol.DeleteImage("/x"), changed("/x/y")),
        (protocol.TakeSnapshot("/d/x"), changed("/e/x-s1")),
        (protocol.TakeSnapshot("/d/x"), changed("/d/x")),
        (protocol.RenameImage("/d/x", "y"), changed("/d/x")),
        (protocol.RenameImage("/d/x", "y"), changed("/e/y")),
        (protocol.CompressImage("/d/x"), changed("/d/y.zst")),
        (protocol.UncompressImage("/d/x.zst"), changed("/d/y")),
        (protocol.VerifyImage("/x"), verified("/y")),
        (protocol.ResizeImage("/x", "1G"), protocol.Progressed(4, 3)),
        (protocol.ResizeImage("/x", "1G"), protocol.Progressed(-1, 3)),
        (protocol.ResizeImage("/x", "1G"), protocol.Progressed(1, 1 << 63)),
        (protocol.ListImages(None), listed("i")),
        (protocol.ListImages("/i"), listed("/i/x", "/j/x")),
        (protocol.ListImages("/i"), listed("/i/x/y")),
        (protocol.ListImages("/i", recursive=True), listed("/ix/y")),
        (protocol.CleanUp("/i"), cleaned("/j")),
        (protocol.CleanUp("/i"), cleaned("/i", "/j/x")),
        (protocol.CleanUp("/i"), cleaned("/i", freed=-1)),
        (COPY, protocol.Received("/u", 5, 5, DIGEST)),
        (COPY, protocol.Received("/t", -5, 5, DIGEST)),
        (COPY, protocol.Received("/t", 5, 5, "")),
    ],
)
def test_an_answer_about_something_else_or_with_absurd_numbers_is_not(
    request_: Request, answer: AnyMessage
) -> None:
    with pytest.raises(Untrue, match="cannot be true") as caught:
        answers.check(request_, answer, "a")
    assert (caught.value.code, caught.value.host) == ("corrupt", "a")


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (protocol.GetInfo("/x"), changed("/x")),
        (protocol.GrowImage("/x", "1G"), told("/x")),
        (protocol.ListImages("/x"), told("/x")),
        (protocol.GrowImage("/x", "1G"), protocol.ListEnd()),
        (protocol.GetInfo("/x"), listed("/x")),
        (protocol.GetStorageInfo(), protocol.Begin("/x", 1)),
        (protocol.GetInfo("/x"), protocol.GetInfo("/x")),
        (protocol.GetInfo("/x"), protocol.Hello("1", 1, 1)),
    ],
)
def test_an_answer_to_another_kind_of_request_is_out_of_order(
    request_: Request, answer: AnyMessage
) -> None:
    with pytest.raises(ConnectionFailed, match="where it makes no sense"):
        answers.check(request_, answer, "a")
