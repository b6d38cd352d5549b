"""How the words behind a verb are read: by the signature of its function."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import get_args

from cyclopts import App, Argument, CycloptsError, Parameter

from virtstore.cli.commands import COMMANDS
from virtstore.cli.options import MAY_HAVE_VALUE, PIPE_WORD
from virtstore.cli.usage import usage_error


def call(verb: str, words: list[str]) -> int | None:
    """Do what a command does. Returns its exit status, None if there is none to tell. Raises
    `UsageError` for words that it does not take."""
    app = parser_of(verb)
    try:
        told = with_pipes(verb, _apart(words))
        status: int | None = app(told, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        raise usage_error(app, error, verb) from None
    return status


def _apart(words: list[str]) -> list[str]:
    """The words of a command, flags that may have a value in a form that does not take the next
    word for it."""
    return [f"{word}=yes" if word in MAY_HAVE_VALUE else word for word in words]


def with_pipes(verb: str, words: list[str]) -> list[str]:
    """The words of a command, `-` in a form that is not taken for an option where it stands for
    standard input or output."""
    if not COMMANDS[verb].pipes:
        return words
    return [PIPE_WORD if word == "-" else word for word in words]


@cache
def parser_of(verb: str) -> App:
    """What reads the words behind a verb. It imports that command, and no other."""
    module, function = COMMANDS[verb].function.split(":")
    app = App(
        name=verb,
        help_flags=[],  # these are main's
        version_flags=[],
        default_parameter=Parameter(show_default=False),
        result_action="return_value",
        suppress_keyboard_interrupt=False,  # it is ours to report
    )
    app.default(getattr(import_module(f"virtstore.cli.{module}"), function))
    return app


def has_value(option: str) -> bool:
    """Whether a value follows an option of some command in the next word. It takes long to find
    out."""
    return option in {
        name
        for verb in COMMANDS
        for argument in parser_of(verb).assemble_argument_collection()
        if not is_flag(argument)
        for name in argument.names
    }


def is_flag(argument: Argument) -> bool:
    """Whether an option needs no value. It may have one behind a `=` (`--quiesce=try`)."""
    return not argument.token_count()[0] or bool in get_args(argument.hint)
