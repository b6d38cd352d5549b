"""blkid's output becomes typed values, whatever a label says, and a batch loses nobody."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtstore import programs, run
from virtstore.errors import Error, Unsupported
from virtstore.filesystems import blkid
from virtstore.filesystems.base import Device
from virtstore.filesystems.blkid import NOTHING, Probe

# As blkid 2.38.1 wrote it, for an ext4 and a GPT.
FILE_SYSTEM = rb"""DEVNAME=/proc/self/fd/3
LABEL=we\'i\"rd\ \\\ x
UUID=ce5f2a66-fab0-4f38-9fb7-bece0d83165a
VERSION=1.0
BLOCK_SIZE=1024
TYPE=ext4
USAGE=filesystem
"""
TABLE = rb"""DEVNAME=/proc/self/fd/4
PTUUID=6c8a7d65-a20b-4f44-9630-0688e41f1b1c
PTTYPE=gpt
"""
EXT4 = Probe(type="ext4", uuid="ce5f2a66-fab0-4f38-9fb7-bece0d83165a", label="we'i\"rd \\ x")


def test_a_file_system_and_a_partition_table_are_told_apart() -> None:
    assert blkid.parse_export(FILE_SYSTEM) == EXT4
    assert blkid.parse_export(TABLE) == Probe(table="gpt")


def test_nothing_said_is_nothing_found() -> None:
    assert blkid.parse_export(b"") is None


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (rb"plain", "plain"),
        (rb"two\ words", "two words"),
        (rb"caf" + b"M-CM-)", "café"),
        (rb"M-CM-^\ber", "Über"),
        (rb"caf\xc3\xa9", "café"),
        (rb"\\x41", r"\x41"),
        (rb"M-Files", "M-Files"),
        (rb"a^Jb=c\"M-^?", 'a^Jb=c"M-^?'),
        (rb"line\x0abreak", "line?break"),
        (b"\xff", "\N{REPLACEMENT CHARACTER}"),
        (b"trailing\\", "trailing\\"),
    ],
)
def test_a_label_is_shown_as_it_was_meant(written: bytes, meant: str) -> None:
    assert blkid.decode_value(written) == meant


@given(st.binary())
def test_no_output_breaks_the_parser_and_all_of_it_can_be_printed(output: bytes) -> None:
    assert blkid.decode_value(output).isprintable()
    if probe := blkid.parse_export(output):
        assert all(v is None or v.isprintable() for v in (probe.type, probe.uuid, probe.label))


def test_devices_are_probed_by_content_and_a_partition_by_its_place() -> None:
    assert blkid.argv(Device(3, 10)) == (
        *("blkid", "-p", "-o", "export"),
        "/proc/self/fd/3",
    )
    assert blkid.argv(Device(3, 900).part(512, 100)) == (
        *("blkid", "-p", "-o", "export"),
        *("-O", "512", "-S", "100", "/proc/self/fd/3"),
    )


#: What stands in for an image: its type, "" for nothing, "?" for two marks, "!" for a crash.
Images = dict[str, str]
Runs = list[list[str]]


@pytest.fixture
def given_images(monkeypatch: pytest.MonkeyPatch) -> Callable[[Images], Runs]:
    """Put a library and a blkid in place that fail on some images."""

    def install(images: Images) -> Runs:
        runs: Runs = []

        def fake(argv: Sequence[str], **_: object) -> run.Completed:
            runs.append([Path(argv[0]).name, *argv[4 if argv[0] == "blkid" else 5 :]])
            return (blkid_does if argv[0] == "blkid" else library_does)(argv)

        def library_does(argv: Sequence[str]) -> run.Completed:
            said = b""
            for fd in argv[5:]:
                kind = images[f"/proc/self/fd/{fd}"]
                if kind == "!":
                    return run.Completed(tuple(argv), -11, said, b"")
                answer = {"": None, "?": "several"}.get(kind, {"TYPE": kind})
                said += json.dumps(answer).encode() + b"\n"
            return run.Completed(tuple(argv), 0, said, b"")

        def blkid_does(argv: Sequence[str]) -> run.Completed:
            kind = images[argv[4]]
            if kind in ("", "?", "!"):
                status = {"": 2, "?": 8, "!": 139}[kind]
                return run.Completed(tuple(argv), status, b"", b"")
            said = f"DEVNAME={argv[4]}\nTYPE={kind}\n\n".encode()
            return run.Completed(tuple(argv), 0, said, b"")

        monkeypatch.setattr(run, "run", fake)
        return runs

    return install


def _images(*kinds: str) -> tuple[Images, list[Device]]:
    devices = [Device(10 + i, 1 << 20) for i in range(len(kinds))]
    return {d.path: k for d, k in zip(devices, kinds, strict=True)}, devices


def test_many_devices_share_one_run_whatever_is_on_them(
    given_images: Callable[[Images], Runs],
) -> None:
    images, devices = _images("ext4", "", "xfs", "?", "", "swap", "")
    runs = given_images(images)
    probes = list(blkid.probe_many(devices))
    assert [p.type for p in probes] == ["ext4", None, "xfs", None, None, "swap", None]
    assert [bool(p.warning) for p in probes] == [False, False, False, True, False, False, False]
    assert len(runs) == 1


def test_one_device_that_crashes_the_library_costs_the_others_nothing(
    given_images: Callable[[Images], Runs],
) -> None:
    images, devices = _images("ext4", "!", "xfs", "")
    runs = given_images(images)
    first, second, third, fourth = blkid.probe_many(devices)
    assert (first.type, third.type, fourth) == ("ext4", "xfs", NOTHING)
    assert second.warning
    assert "139" in second.warning
    assert [words[0] == "blkid" for words in runs] == [False, True, False]


@pytest.mark.parametrize("nonsense", [b"junk\n", b"[1]\n", b'{"TYPE": 5}\n', b"null\n" * 9])
def test_what_the_library_cannot_have_said_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, nonsense: bytes
) -> None:
    def says(argv: Sequence[str], **_: object) -> run.Completed:
        if argv[0] == "blkid":
            return run.Completed(tuple(argv), 0, b"DEVNAME=x\nTYPE=xfs\n", b"")
        return run.Completed(tuple(argv), 0, nonsense, b"")

    monkeypatch.setattr(run, "run", says)
    found = list(blkid.probe_many([Device(3, 1), Device(4, 1)]))
    assert found == [NOTHING] * 2 if nonsense.startswith(b"null") else [Probe(type="xfs")] * 2


def test_a_blkid_that_hangs_gives_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(*_: object, **__: object) -> run.Completed:
        raise Error("blkid did not end within 60 s and was stopped")

    monkeypatch.setattr(run, "run", hangs)
    assert "did not end" in (blkid.probe(Device(3, 1)).warning or "")


def test_a_missing_blkid_is_not_taken_for_an_empty_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "find", lambda tool: None)
    with pytest.raises(Unsupported, match="blkid is not installed"):
        blkid.probe(Device(3, 1))
