"""blkid's output becomes typed values, whatever a label says, and a batch loses nobody."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtstore import run
from virtstore.errors import Error, Unsupported
from virtstore.filesystems import blkid
from virtstore.filesystems.base import Device
from virtstore.filesystems.blkid import NOTHING, Probe

# As blkid 2.38.1 wrote it, for an ext4 and a GPT.
TWO = rb"""DEVNAME=/proc/self/fd/3
LABEL=we\'i\"rd\ \\\ x
UUID=ce5f2a66-fab0-4f38-9fb7-bece0d83165a
VERSION=1.0
BLOCK_SIZE=1024
TYPE=ext4
USAGE=filesystem

DEVNAME=/proc/self/fd/4
PTUUID=6c8a7d65-a20b-4f44-9630-0688e41f1b1c
PTTYPE=gpt
"""
EXT4 = Probe(type="ext4", uuid="ce5f2a66-fab0-4f38-9fb7-bece0d83165a", label="we'i\"rd \\ x")


def test_a_file_system_and_a_partition_table_are_told_apart() -> None:
    assert blkid.parse_export(TWO) == [
        ("/proc/self/fd/3", EXT4),
        ("/proc/self/fd/4", Probe(table="gpt")),
    ]


def test_nothing_said_is_nothing_found() -> None:
    assert blkid.parse_export(b"") == []


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
    for _, probe in blkid.parse_export(output):
        assert all(v is None or v.isprintable() for v in (probe.type, probe.uuid, probe.label))


def test_devices_are_probed_by_content_and_a_partition_by_its_place() -> None:
    assert blkid.argv([Device(3, 10), Device(4, 10)]) == (
        *("blkid", "-p", "-o", "export"),
        *("/proc/self/fd/3", "/proc/self/fd/4"),
    )
    assert blkid.argv([Device(3, 900).part(512, 100)]) == (
        *("blkid", "-p", "-o", "export"),
        *("-O", "512", "-S", "100", "/proc/self/fd/3"),
    )


#: What stands in for an image: its type, "" for nothing, "?" for two marks, "!" for a crash.
Images = dict[str, str]
Runs = list[list[str]]


@pytest.fixture
def given_images(monkeypatch: pytest.MonkeyPatch) -> Callable[[Images], Runs]:
    """Put a blkid in place that ends at the first image it has no answer for."""

    def install(images: Images) -> Runs:
        runs: Runs = []

        def fake(argv: Sequence[str], **_: object) -> run.Completed:
            runs.append(list(argv[4:]))
            said = b""
            for path in argv[4:]:
                kind = images[path]
                if kind in ("", "?", "!"):
                    status = {"": 2, "?": 8, "!": 139}[kind]
                    return run.Completed(tuple(argv), status, said, b"")
                said += f"DEVNAME={path}\nTYPE={kind}\n\n".encode()
            return run.Completed(tuple(argv), 0, said, b"")

        monkeypatch.setattr(run, "run", fake)
        return runs

    return install


def _images(*kinds: str) -> tuple[Images, list[Device]]:
    devices = [Device(10 + i, 1 << 20) for i in range(len(kinds))]
    return {d.path: k for d, k in zip(devices, kinds, strict=True)}, devices


def test_many_devices_share_one_run(given_images: Callable[[Images], Runs]) -> None:
    images, devices = _images("ext4", "xfs", "swap")
    runs = given_images(images)
    assert [p.type for p in blkid.probe_many(devices)] == ["ext4", "xfs", "swap"]
    assert len(runs) == 1


def test_a_batch_goes_on_behind_a_device_that_ends_a_run(
    given_images: Callable[[Images], Runs],
) -> None:
    images, devices = _images("ext4", "", "xfs", "?", "", "swap", "")
    given_images(images)
    probes = list(blkid.probe_many(devices))
    assert [p.type for p in probes] == ["ext4", None, "xfs", None, None, "swap", None]
    assert [bool(p.warning) for p in probes] == [False, False, False, True, False, False, False]


def test_one_device_that_crashes_blkid_costs_the_others_nothing(
    given_images: Callable[[Images], Runs],
) -> None:
    images, devices = _images("ext4", "!", "xfs")
    given_images(images)
    first, second, third = blkid.probe_many(devices)
    assert (first.type, third.type) == ("ext4", "xfs")
    assert second.warning
    assert "139" in second.warning


def test_the_same_device_twice_is_answered_twice(
    given_images: Callable[[Images], Runs],
) -> None:
    images, (known, unknown) = _images("ext4", "")
    given_images(images)
    probes = list(blkid.probe_many([known, unknown, known]))
    assert probes == [Probe(type="ext4"), NOTHING, Probe(type="ext4")]


def test_a_device_that_blkid_passes_over_is_asked_about_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def passes_over(argv: Sequence[str], **_: object) -> run.Completed:
        said = b"DEVNAME=/proc/self/fd/4\nTYPE=xfs\n" if "/proc/self/fd/4" in argv else b""
        return run.Completed(tuple(argv), 0 if said else 2, said, b"")

    monkeypatch.setattr(run, "run", passes_over)
    assert list(blkid.probe_many([Device(3, 1), Device(4, 1)])) == [NOTHING, Probe(type="xfs")]


def test_a_blkid_that_hangs_gives_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(*_: object, **__: object) -> run.Completed:
        raise Error("blkid did not end within 60 s and was stopped")

    monkeypatch.setattr(run, "run", hangs)
    assert "did not end" in (blkid.probe(Device(3, 1)).warning or "")


def test_a_missing_blkid_is_not_taken_for_an_empty_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "find", lambda tool: None)
    with pytest.raises(Unsupported, match="blkid is not installed"):
        blkid.probe(Device(3, 1))
