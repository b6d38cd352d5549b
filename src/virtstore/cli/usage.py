"""What is wrong with a command line, in the words of whoever typed it."""

from __future__ import annotations

import difflib
import inspect
import re
import shlex

from cyclopts import (
    App,
    CycloptsError,
    MissingArgumentError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from virtstore.cli.commands import COMMANDS
from virtstore.errors import UsageError


def refuse_no_verb(words: list[str]) -> None:
    """Raises `UsageError` for options without a command, but for those that need none."""
    if words and words[0].startswith("-") and not {"--help", "-h", "--version"} & {*words}:
        raise UsageError(
            f"there is no command in {shlex.join(words)!r}; write one of {', '.join(COMMANDS)}"
        )


def usage_error(app: App, error: CycloptsError, words: list[str]) -> UsageError:
    """The error that says what was not understood, and what would be."""
    verb = words[0] if words else ""
    if verb not in COMMANDS:
        meant = difflib.get_close_matches(verb, COMMANDS, 1)
        those = f"did you mean {meant[0]}?" if meant else f"write one of {', '.join(COMMANDS)}"
        return UsageError(f"there is no command {verb!r}; {those} ('virtstore --help' tells more)")
    more = f"'virtstore {verb} --help' tells more"
    if isinstance(error, UnusedCliTokensError):
        surplus = shlex.join(error.unused_tokens or ())
        return UsageError(f"{surplus} is too much: write virtstore {_synopsis(app, verb)} ({more})")
    if isinstance(error, MissingArgumentError) and error.argument:
        name = error.argument.names[0]
        if name.startswith("-"):
            return UsageError(f"{name} needs a value ({more})")
        return UsageError(f"{name} is missing: write virtstore {_synopsis(app, verb)} ({more})")
    if isinstance(error, UnknownOptionError) and (error.token.keyword or error.token.value) == "-":
        return UsageError(
            "-: standard input and output are no places of images here; name a file, or ./- for one"
            f" that is called so ({more})"
        )
    told = re.sub(r"unable to convert (.*) into int", r"\1 is no number", str(error).rstrip("."))
    return UsageError(f"{told} ({more})")


def _synopsis(app: App, verb: str) -> str:
    """A command with the names of what it takes besides options."""
    words = [verb]
    for argument in app[verb].assemble_argument_collection():
        name = argument.names[0]
        if argument.field_info.kind is inspect.Parameter.VAR_POSITIONAL:
            words.append(f"[{name}…]")
        elif name[0].isalpha():
            words.append(name if argument.required else f"[{name}]")
    return " ".join(words)
