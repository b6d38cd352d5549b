"""What blkid recognises: `blkid -p`, its output made into typed values.

One run can probe many devices, but it ends at the first on which it finds nothing (exit
2) or more than one thing (exit 8), so a batch goes on behind the one that ended it.

blkid 2.38 writes bytes that are not ASCII as `cat -v` does (`é` is `M-CM-)`), which a
label may also say literally; newer ones write them as `\\xNN`. Values are decoded where
that gives UTF-8, and stay as blkid wrote them where it does not. A label cannot forge
another key: line breaks are always written in those ways.

Source: blkid(8), sections "Low-level probing" and "Exit status". Host tools needed: blkid.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from virtstore import run
from virtstore.errors import Error, Unsupported
from virtstore.filesystems.base import Device

_NOTHING: Final = 2
_AMBIVALENT: Final = 8
_TIMEOUT: Final = 60


class Probe(msgspec.Struct, frozen=True):
    """What blkid says of one device; all None where it recognised nothing.

    `table`: the kind of its partition table. `warning`: why nothing can be said about it,
    although something is there.
    """

    type: str | None = None
    uuid: str | None = None
    label: str | None = None
    table: str | None = None
    warning: str | None = None


NOTHING: Final = Probe()
_SEVERAL: Final = Probe(
    warning="there are marks of more than one file system (wipefs -n lists them); none is shown"
)


def probe(device: Device) -> Probe:
    """Probe one device, or one partition of it. Raises `Unsupported` without blkid."""
    return next(probe_many([device]))


def probe_many(devices: Sequence[Device]) -> Iterator[Probe]:
    """Probe whole devices in as few runs as can be; the answers come in their order.

    A device that does not start at 0 has to be the only one. Raises `Unsupported` without
    blkid; whatever the devices contain, there is an answer for each.
    """
    rest = list(devices)
    while rest:
        said = _run(rest)
        answers = _in_order(rest, parse_export(said.stdout)) if said else []
        for device, answer in zip(rest, answers, strict=False):
            yield answer or _by_itself(device, said, rest)
        if len(answers) < len(rest):
            yield _verdict(rest[len(answers)], said, rest)
        rest = rest[len(answers) + 1 :]


def argv(devices: Sequence[Device]) -> tuple[str, ...]:
    first = devices[0]
    part = ("-O", str(first.start), "-S", str(first.size)) if first.start else ()
    return ("blkid", "-p", "-o", "export", *part, *(device.path for device in devices))


def _run(devices: Sequence[Device]) -> run.Completed | None:
    fds = tuple({fd for device in devices for fd in device.pass_fds})
    try:
        return run.run(argv(devices), pass_fds=fds, confined=True, timeout=_TIMEOUT)
    except Unsupported:
        raise
    except Error:  # it hung, and was stopped
        return None


def _in_order(
    devices: Sequence[Device], found: Sequence[tuple[str, Probe]]
) -> Sequence[Probe | None]:
    """The answers for the devices up to the last that has one; None for one passed over."""
    answers: list[Probe | None] = []
    blocks = deque(found)
    for device in devices:
        if not blocks:
            break
        answers.append(blocks.popleft()[1] if blocks[0][0] == device.path else None)
    return answers


def _verdict(device: Device, said: run.Completed | None, asked: Sequence[Device]) -> Probe:
    """What it means that blkid ended at `device` without an answer."""
    if said and said.status == _NOTHING and not said.stderr:
        return NOTHING
    if said and said.status == _AMBIVALENT:
        return _SEVERAL
    return _by_itself(device, said, asked)


def _by_itself(device: Device, said: run.Completed | None, asked: Sequence[Device]) -> Probe:
    """Whose fault a failure was shows when each is asked about alone."""
    if len(asked) > 1:
        return probe(device)
    return Probe(warning=f"blkid failed on it: {said.complaint if said else 'it did not end'}")


def parse_export(output: bytes) -> list[tuple[str, Probe]]:
    """The devices in the output of `blkid -o export`, each with the name it was given."""
    found = []
    for block in output.split(b"\n\n"):
        tags = dict(_tag(line) for line in block.split(b"\n") if b"=" in line)
        name = tags.get(b"DEVNAME")
        if name is not None:
            found.append((name, _probe(tags)))
    return found


def _probe(tags: Mapping[bytes, str]) -> Probe:
    return Probe(
        type=tags.get(b"TYPE"),
        uuid=tags.get(b"UUID"),
        label=tags.get(b"LABEL"),
        table=tags.get(b"PTTYPE"),
    )


def _tag(line: bytes) -> tuple[bytes, str]:
    key, _, value = line.partition(b"=")
    return key, decode_value(value)


_ESCAPE: Final = re.compile(
    rb"M-\^(?P<meta_control>.)|M-\\?(?P<meta>.)|(?P<control>\^.)"
    rb"|\\x(?P<hex>[0-9a-fA-F]{2})|\\(?P<literal>.)",
    re.DOTALL,
)


def decode_value(value: bytes) -> str:
    """A value of `-o export` as text that can be printed; what cannot be is `?`."""
    try:
        text = _ESCAPE.sub(_unescape, value).decode()
    except UnicodeDecodeError:
        text = re.sub(rb"\\(.)", rb"\1", value, flags=re.DOTALL).decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "?" for c in text)


def _unescape(match: re.Match[bytes]) -> bytes:
    text = match[match.lastgroup or 0]
    if match.lastgroup == "meta_control":
        return bytes([text[0] ^ 0x40 | 0x80])
    if match.lastgroup == "meta":
        return bytes([text[0] | 0x80])
    if match.lastgroup == "hex":
        return bytes.fromhex(text.decode())
    return text
