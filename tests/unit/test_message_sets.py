"""Two versions of the messages understand each other in what both have, and refuse the rest."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tests.unit.message_set import MessageSet, Peer, complaints, described
from tests.unit.test_protocol import MESSAGES, example

import virtstore
from virtstore import frames, protocol
from virtstore.copy_options import CopyOptions
from virtstore.protocol import Known

#: The messages of each release, and of the version that will be the first.
RELEASES = sorted(Path(__file__).parent.glob("messages-*.json"))


@pytest.fixture(params=RELEASES, ids=lambda file: file.stem)
def released(request: pytest.FixtureRequest) -> MessageSet:
    found: MessageSet = json.loads(request.param.read_text())
    return found


#: The protocol of each.
PROTOCOLS = {"0.1.0": 3}


def test_each_release_is_described_and_so_is_this_version() -> None:
    assert {file.stem.partition("-")[2] for file in RELEASES} == set(PROTOCOLS)
    assert virtstore.__version__ in PROTOCOLS, (
        "'python -m tests.unit.message_set >tests/unit/messages-VERSION.json', and a line above"
    )


def test_every_release_has_a_protocol_in_common_with_this_version() -> None:
    """docs/reference/versions.md promises when that may end."""
    number = virtstore.__version__.partition(".")[0]
    for version, spoken in PROTOCOLS.items():
        if version.partition(".")[0] == number:
            assert protocol.OLDEST <= spoken <= protocol.PROTOCOL


def test_nothing_means_something_else_than_in_a_release(released: MessageSet) -> None:
    """Where this fails, give a new field a default, or raise `PROTOCOL` and `OLDEST`."""
    assert complaints(released, described()) == []


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_what_a_release_says_and_hears_is_what_is_meant(
    released: MessageSet, kind: type[Known]
) -> None:
    if kind.__name__ not in released:
        pytest.skip("a release did not know it")
    theirs, ours = Peer(released), example(kind)
    heard = theirs.understood(ours)
    assert _is_part(msgspec.to_builtins(heard), msgspec.to_builtins(ours))
    frame, _ = _read(msgspec.msgpack.encode(heard))
    assert _is_part(msgspec.to_builtins(heard), msgspec.to_builtins(frame))


def _is_part(part: object, whole: object) -> bool:
    """Whether all that a version knows of a message is what the other has of it."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and _is_part(part[key], whole[key]) for key in part)
    if isinstance(part, (list, tuple)) and isinstance(whole, (list, tuple)):
        return len(part) == len(whole) and all(map(_is_part, part, whole))
    return part == whole


def test_a_newer_host_may_say_any_word() -> None:
    told = {
        f"{name}.{field}": text
        for name, facts in described().items()
        for field, text in facts["fields"].items()
        if not facts["strict"]
    }
    assert told
    assert not [field for field, text in told.items() if "Literal[" in text]


def _read(body: bytes) -> protocol.Frame:
    parts = [len(body).to_bytes(4, "big") + bytes(4), body]
    frame = frames.read_frame(lambda count: parts.pop(0))
    assert frame
    return frame


@pytest.fixture
def next_version() -> MessageSet:
    """What the next version may be: a request more, and a field more in each of some others."""
    found = copy.deepcopy(described())
    found["EmptyImage"] = {
        "tagged": True,
        "strict": True,
        "fields": {"path": "str", "name": "str"},
    }
    found["CopyOptions"]["fields"]["mirrored"] = "bool = False"
    found["DeleteImage"]["fields"]["older_than"] = "int | None = None"
    found["CompressImage"]["fields"]["format"] = (
        "Literal['zstd', 'lz4', 'lzop', 'gzip', 'xz', 'brotli'] = 'zstd'"
    )
    found["Hello"]["fields"]["site"] = "str = ''"
    found["Changed"]["fields"]["renamed"] = "str | None = None"
    return found


def test_the_next_version_may_have_more(next_version: MessageSet) -> None:
    assert complaints(described(), next_version) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda new: new.pop("GetInfo"), "GetInfo is gone"),
        (lambda new: new["GetInfo"]["fields"].pop("path"), "GetInfo.path is gone"),
        (
            lambda new: new["GetInfo"]["fields"].update(deep="bool"),
            "GetInfo.deep is new, and has no default",
        ),
        (
            lambda new: new["DeleteImage"]["fields"].update(dry_run="bool = True"),
            "DeleteImage.dry_run is bool = True where it was bool = False",
        ),
        (
            lambda new: new["CompressImage"]["fields"].update(format="Literal['zstd'] = 'zstd'"),
            "CompressImage.format is Literal['zstd'] = 'zstd' where it was",
        ),
        (lambda new: new["CopyOptions"].update(strict=False), "CopyOptions is not strict any more"),
    ],
)
def test_what_would_be_misunderstood_is_found(
    change: Callable[[MessageSet], object], says: str
) -> None:
    new = copy.deepcopy(described())
    change(new)
    (found,) = complaints(described(), new)
    assert found.startswith(says)


def test_what_the_next_version_asks_without_its_own_options_is_understood(
    next_version: MessageSet,
) -> None:
    client = Peer(next_version)
    options = client.make("CopyOptions", nice=True)
    request = client.make("CopyHere", source="/a", target="/b", options=options)
    frame, _ = _read(msgspec.msgpack.encode(request))
    assert frame == protocol.CopyHere("/a", "/b", CopyOptions(nice=True))
    hello, _ = _read(
        msgspec.msgpack.encode(client.make("Hello", version="9", protocol=4, oldest=3, site="x"))
    )
    assert hello == protocol.Hello("9", 4, 3)


@pytest.mark.parametrize(
    ("name", "values", "lacks"),
    [
        ("EmptyImage", {"path": "/x", "name": "y"}, "the message EmptyImage"),
        ("DeleteImage", {"path": "/x", "older_than": 3}, "older_than of DeleteImage"),
        ("CompressImage", {"path": "/x", "format": "brotli"}, "this CompressImage: Invalid"),
        ("Send", {"path": "/x", "mirrored": True}, "mirrored of Send"),
        (
            "Receive",
            {"path": "/x", "name": "x", "size": 1, "mirrored": True},
            "mirrored of Receive",
        ),
        ("CopyHere", {"source": "/x", "target": "/y", "mirrored": True}, "mirrored of CopyHere"),
    ],
)
def test_what_only_the_next_version_can_do_is_never_done_in_part(
    next_version: MessageSet, name: str, values: dict[str, object], lacks: str
) -> None:
    client = Peer(next_version)
    if values.pop("mirrored", False):
        values["options"] = client.make("CopyOptions", mirrored=True)
    frame, _ = _read(msgspec.msgpack.encode(client.make(name, **values)))
    assert isinstance(frame, protocol.Unknown)
    assert frame.lacks.startswith(lacks)


def test_what_the_next_version_answers_besides_is_passed_over(next_version: MessageSet) -> None:
    agent = Peer(next_version)
    changed = agent.make("Changed", path="/x", host="", changed=True, renamed="/y")
    frame, _ = _read(msgspec.msgpack.encode(agent.make("Done", result=changed)))
    assert isinstance(frame, protocol.Done)
    assert frame.result.path == "/x"
