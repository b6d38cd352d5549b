"""What blkid recognises: `blkid -p`, its output made into typed values.

It ends at the first device on which it finds nothing, so for many devices the library that
it uses is asked instead (prober.py); of what that gives no answer for, blkid tells why.

blkid 2.38 writes bytes that are not ASCII as `cat -v` does (`é` is `M-CM-)`), which a
label may also say literally; newer ones write them as `\\xNN`. Values are decoded where
that gives UTF-8, and stay as blkid wrote them where it does not. A label cannot forge
another key: line breaks are always written in those ways.

Source: blkid(8), sections "Low-level probing" and "Exit status". Host tools needed: blkid.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Final

import msgspec

from virtstore import run
from virtstore.errors import Error, Unsupported
from virtstore.filesystems.base import Device
from virtstore.text import printable

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
    """Probe one device, or one partition of it. Raises `Unsupported` without blkid; whatever
    the device contains, there is an answer."""
    try:
        said = run.run(argv(device), pass_fds=device.pass_fds, confined=True, timeout=_TIMEOUT)
    except Unsupported:
        raise
    except Error:  # it hung, and was stopped
        return Probe(warning="blkid failed on it: it did not end")
    if found := parse_export(said.stdout):
        return found
    if said.status == _NOTHING and not said.stderr:
        return NOTHING
    if said.status == _AMBIVALENT:
        return _SEVERAL
    return Probe(warning=f"blkid failed on it: {said.complaint}")


def probe_many(devices: Sequence[Device]) -> Iterator[Probe]:
    """Probe whole devices in as few runs as can be; the answers come in their order."""
    rest = list(devices)
    while rest:
        answers = _ask_library(rest) if len(rest) > 1 else []
        yield from answers
        if len(answers) < len(rest):
            yield probe(rest[len(answers)])
        rest = rest[len(answers) + 1 :]


def argv(device: Device) -> tuple[str, ...]:
    part = ("-O", str(device.start), "-S", str(device.size)) if device.start else ()
    return ("blkid", "-p", "-o", "export", *part, device.path)


def _ask_library(devices: Sequence[Device]) -> list[Probe]:
    """The answers for the devices up to the first on which the library failed."""
    fds = tuple({fd for device in devices for fd in device.pass_fds})
    python = os.path.realpath(sys.executable)
    own = () if python.startswith("/usr/") else (sys.base_prefix,)
    command = (python, "-I", "-S", "-c", _prober(), *(str(device.fd) for device in devices))
    try:
        said = run.run(command, pass_fds=fds, confined=True, timeout=_TIMEOUT, shown=own)
        return [_answer(line) for line in said.stdout.splitlines()][: len(devices)]
    except (Error, msgspec.DecodeError):
        return []


@cache
def _prober() -> str:
    from importlib import resources  # takes long, and to look at one device needs it not

    return resources.files(__package__).joinpath("prober.py").read_text()


def _answer(line: bytes) -> Probe:
    found = msgspec.json.decode(line, type=dict[str, str] | str | None)
    if not isinstance(found, dict):
        return _SEVERAL if found else NOTHING
    values = {tag: printable(value) for tag, value in found.items()}
    return Probe(values.get("TYPE"), values.get("UUID"), values.get("LABEL"), values.get("PTTYPE"))


def parse_export(output: bytes) -> Probe | None:
    """What the output of `blkid -o export` says of a device; None where it names none."""
    tags = dict(_tag(line) for line in output.split(b"\n") if b"=" in line)
    if b"DEVNAME" not in tags:
        return None
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
    return printable(text)


def _unescape(match: re.Match[bytes]) -> bytes:
    text = match[match.lastgroup or 0]
    if match.lastgroup == "meta_control":
        return bytes([text[0] ^ 0x40 | 0x80])
    if match.lastgroup == "meta":
        return bytes([text[0] | 0x80])
    if match.lastgroup == "hex":
        return bytes.fromhex(text.decode())
    return text
