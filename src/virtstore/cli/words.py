"""The words of a command line before its command is known."""

from __future__ import annotations

import shlex

from virtstore.cli.commands import ALONE, COMMANDS
from virtstore.cli.common_options import COMMON
from virtstore.errors import UsageError


def verb_first(words: list[str]) -> list[str]:
    """The words of a command line with the verb in front of the options that stand before it."""
    value = False
    for at, word in enumerate(words):
        if value or (word.startswith("-") and word != "-"):
            value = not value and _has_value(word)
            continue
        return [word, *words[:at], *words[at + 1 :]]
    return words


def _has_value(option: str) -> bool:
    """Whether an option that stands before the verb has its value in the next word."""
    if option in COMMON or option in ALONE or "=" in option:
        return COMMON.get(option, False)
    from virtstore.cli import parsing  # the other options are not known without that

    return parsing.has_value(option)


def refuse_no_command(words: list[str]) -> None:
    """Raises `UsageError` where the first word is no command, with what it may mean."""
    if words[0] in COMMANDS:
        return
    if words[0].startswith("-"):
        told = f"there is no command in {shlex.join(words)!r}; write one of {', '.join(COMMANDS)}"
        raise UsageError(told)
    from virtstore.cli.other_words import meant_by  # few are wrong

    meant = meant_by(words[0])
    those = f"did you mean {meant}?" if meant else f"write one of {', '.join(COMMANDS)}"
    told = f"there is no command {words[0]!r}; {those} ('virtstore --help' tells more)"
    raise UsageError(told)
