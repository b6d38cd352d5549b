"""The options that every command takes, and the locations that commands name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Final

from cyclopts import Parameter, Token

from virtstore.cli.common_options import (
    CONFIG,
    DRY_RUN,
    JSON,
    PROGRESS,
    QUIET,
    VERBOSE,
    Option,
)
from virtstore.client.api import Host, Image
from virtstore.errors import Denied, NotFound, UsageError
from virtstore.location import Location, parse_location
from virtstore.units import parse_age


def _whole_number(_: object, tokens: Sequence[Token]) -> int:
    text = tokens[0].value
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", text, re.ASCII):
        shown = text if len(text) <= 20 else f"{text[:20]}…"
        raise ValueError(f'"{shown}" is no number')
    return int(text)


#: What stands for `-`, which looks like an option to who reads the words. Nobody can type it.
PIPE_WORD: Final = "\0-"

#: Flags that may have a value, behind a `=` only.
MAY_HAVE_VALUE: Final = frozenset({"--quiesce"})

#: The options of a copy or a backup, which are keywords of Python's, each a flag.
FLAGS: Final = Parameter(name="*", negative=(), allow_leading_hyphen=True)
#: As nice(1) makes a command.
NICE: Final = 10

#: A number that is no size, such as a partition's or a level.
Number = Annotated[int | None, Parameter(allow_leading_hyphen=True, converter=_whole_number)]
#: `--force-defined`, of the commands after which a domain that is shut off misses something.
Forced = Annotated[bool, Parameter(negative=())]
#: How many of several locations are dealt with at a time.
Jobs = Annotated[
    int | None,
    Parameter(name=("--jobs", "-j"), allow_leading_hyphen=True, converter=_whole_number),
]

#: How long each host has for its answer.
Timeout = Annotated[str | None, Parameter(name="--timeout", allow_leading_hyphen=True)]


def _flag(option: Option) -> Parameter:
    return Parameter(name=option.names, help=option.meaning, negative=())


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """Options of every command."""

    json: Annotated[bool, _flag(JSON)] = False
    quiet: Annotated[bool, _flag(QUIET)] = False
    verbose: Annotated[bool, _flag(VERBOSE)] = False
    progress: Annotated[bool | None, Parameter(help=PROGRESS.meaning)] = None
    config: Annotated[str | None, Parameter(help=CONFIG.meaning)] = None


@Parameter(name="*")
@dataclass(frozen=True)
class Changing(Common):
    """Options of every command that changes something."""

    dry_run: Annotated[bool, _flag(DRY_RUN)] = False


def open_at(location: Location, options: Common) -> Host:
    """A session with the host of a location."""
    return Host(location.address, config=options.config, verbose=options.verbose)


def seconds_of(timeout: str | None) -> float | None:
    """The seconds that `--timeout` names: a number, or as `parse_age` takes them. Raises
    `UsageError`."""
    if timeout is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", timeout, re.ASCII) and int(timeout):
        return float(timeout)
    try:
        return float(parse_age(timeout))
    except UsageError:
        raise UsageError(
            f"--timeout {timeout[:20]!r} is no time; write seconds, or a number with s, m or h: 30,"
            " 90s, 5m"
        ) from None


def located(text: str) -> Location:
    """A location that names a path, not a host as a whole."""
    location = parse_location(text)
    if location.path is None:
        raise UsageError(
            f"{text!r} is a host as a whole; write the image's path behind it: {text.rstrip('/')}/…"
        )
    return location


def path_on_host_of(text: str, other: str, why: str, remedy: str) -> str:
    """The path of the location `other`. Raises `UsageError` unless it is on the host of `text`."""
    new, old = located(text), located(other)
    if old.address != new.address:
        raise UsageError(f"{why}: {new} and {old} are on two; {remedy} first")
    assert old.path is not None
    return old.path


@contextmanager
def hinting_at_host(text: str) -> Iterator[None]:
    """What fails in here about a location that may have been meant as a host's name says how that
    is written: `a` is `./a`, and `a:` the host."""
    try:
        yield
    except (NotFound, Denied) as error:
        if not ({*text} & {*"/:"} or os.path.lexists(text)):
            error.message = f"{text} is a path here, the host would be {text}:; {error.message}"
        raise


def image_at(host: Host, location: Location) -> Image:
    assert location.path is not None
    return host.image(location.path)
