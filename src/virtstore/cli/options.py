"""The options that every command takes, and the locations that commands name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from cyclopts import Parameter, Token

from virtstore.client.api import Host, Image
from virtstore.errors import UsageError
from virtstore.location import Location, parse_location


def _whole_number(_: object, tokens: Sequence[Token]) -> int:
    text = tokens[0].value
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", text, re.ASCII):
        shown = text if len(text) <= 20 else f"{text[:20]}…"
        raise ValueError(f'"{shown}" is no number')
    return int(text)


#: What stands for `-`, which looks like an option to who reads the words. Nobody can type it.
PIPE_WORD: Final = "\0-"

#: A number that is no size, such as a partition's or a level.
Number = Annotated[int | None, Parameter(allow_leading_hyphen=True, converter=_whole_number)]
#: How many of several locations are dealt with at a time.
Jobs = Annotated[
    int | None,
    Parameter(name=("--jobs", "-j"), allow_leading_hyphen=True, converter=_whole_number),
]


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """Options of every command."""

    json: Annotated[bool, Parameter(negative=())] = False
    "Print one JSON document instead of text."
    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"), negative=())] = False
    "Print no results of commands that change something, and no progress."
    verbose: Annotated[bool, Parameter(name=("--verbose", "-v"), negative=())] = False
    "Show how agents are started, what they do and how long it takes."
    progress: bool | None = None
    "Show progress on standard error (default: if that is a terminal)."
    config: str | None = None
    "Configuration file of the agent on this machine."


@Parameter(name="*")
@dataclass(frozen=True)
class Changing(Common):
    """Options of every command that changes something."""

    dry_run: Annotated[bool, Parameter(name=("--dry-run", "-n"), negative=())] = False
    "Check everything, say what would be done, and change nothing."


def open_at(location: Location, options: Common) -> Host:
    """A session with the host of a location."""
    return Host(location.address, config=options.config, verbose=options.verbose)


def located(text: str) -> Location:
    """A location that names a path, not a host as a whole."""
    location = parse_location(text)
    if location.path is None:
        raise UsageError(
            f"{text!r} is a host as a whole; write the image's path behind it: {text.rstrip('/')}/…"
        )
    return location


def image_at(host: Host, location: Location) -> Image:
    assert location.path is not None
    return host.image(location.path)
