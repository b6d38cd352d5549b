"""What is wrong with the words of a command, in the words of whoever typed it."""

from __future__ import annotations

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

from virtstore.errors import UsageError


def usage_error(app: App, error: CycloptsError, verb: str) -> UsageError:
    """The error that says what was not understood, and what would be."""
    more = f"'virtstore {verb} --help' tells more"
    if isinstance(error, UnusedCliTokensError):
        surplus = [shlex.quote(word) for word in error.unused_tokens or ()]
        many = "one word too many" if len(surplus) == 1 else "more words than it takes"
        those = f"{' '.join(surplus)}: {many}"
        return UsageError(f"{those}; write virtstore {_synopsis(app, verb)} ({more})")
    if isinstance(error, MissingArgumentError) and error.argument:
        name = error.argument.names[0]
        if name.startswith("-"):
            return UsageError(f"{name} needs a value ({more})")
        return UsageError(f"{name} is missing: write virtstore {_synopsis(app, verb)} ({more})")
    if isinstance(error, UnknownOptionError) and _typed(error) == "-":
        return UsageError(
            "-: standard input and output are no places of images here; name a file, or ./- for one"
            f" that is called so ({more})"
        )
    if isinstance(error, UnknownOptionError) and re.match(r"-\d", typed := _typed(error)):
        return UsageError(
            f"{typed} is no option, and no size here: only 'virtstore shrink' and 'virtstore"
            f" resize' take -SIZE ({more})"
        )
    told = re.sub(r"unable to convert (.*) into int", r"\1 is no number", str(error).rstrip("."))
    return UsageError(f"{told} ({more})")


def _typed(error: UnknownOptionError) -> str:
    return error.token.keyword or error.token.value


def _synopsis(app: App, verb: str) -> str:
    """A command with the names of what it takes besides options."""
    words = [verb]
    for argument in app.assemble_argument_collection():
        name = argument.names[0]
        if argument.field_info.kind is inspect.Parameter.VAR_POSITIONAL:
            words.append(f"[{name}…]")
        elif name[0].isalpha():
            words.append(name if argument.required else f"[{name}]")
    return " ".join(words)
