"""What is told of a command: a value, of which its help, its manual page, its completion and its
part of the reference are made. All of it comes from the command's function: the signature says
which words it takes, the docstring what they mean."""

from __future__ import annotations

import inspect
from typing import Final, NamedTuple

from cyclopts import Argument

from virtstore.cli.commands import COMMANDS, Group
from virtstore.cli.common_options import COMMON, CONFIG, Option
from virtstore.cli.docstrings import read
from virtstore.cli.parsing import is_flag, parser_of

#: What the value of an option is called, where that is not the option's own name.
_VALUES: Final = {
    CONFIG.names[0]: CONFIG.value,
    "--append": "DIR",
    "--at": "TIME",
    "--bundle": "PATH",
    "--bwlimit": "RATE",
    "--directory": "PATH[:ACCESS]",
    "--exclude": "PATTERN",
    "--include": "PATTERN",
    "--job": "NAME",
    "--keep-within": "AGE",
    "--key": "FILE",
    "--max-age": "AGE",
    "--prometheus": "FILE",
    "--read": "DIR",
    "--run": "COMMAND",
    "--socket": "PATH",
    "--sample": "PART",
    "--thin": "POOL",
    "--timeout": "SECONDS",
    "--volume-group": "VG[:ACCESS]",
    "--write": "DIR",
}


class Operand(NamedTuple):
    """A word that is no option. `choices`: all that it may be, if that is little."""

    name: str
    meaning: str
    choices: tuple[str, ...]
    required: bool
    repeated: bool

    @property
    def synopsis(self) -> str:
        name = f"{self.name}…" if self.repeated else self.name
        return name if self.required else f"[{name}]"


class Page(NamedTuple):
    """`options`: its own; `common`: those that every command has, or every one that changes
    something."""

    verb: str
    group: Group
    summary: str
    paragraphs: tuple[str, ...]
    operands: tuple[Operand, ...]
    options: tuple[Option, ...]
    common: tuple[Option, ...]
    examples: tuple[str, ...]

    @property
    def synopsis(self) -> str:
        """The command with the names of what it takes besides options."""
        return " ".join([self.verb, *(operand.synopsis for operand in self.operands)])


def page_of(verb: str) -> Page:
    """The page of a command, whose module is imported for it."""
    app = parser_of(verb)
    told = read((app.default_command and app.default_command.__doc__) or "")
    arguments = [a for a in app.assemble_argument_collection(parse_docstring=True) if a.parse]
    found = [_option(each) for each in arguments if each.names[0].startswith("-")]
    return Page(
        verb,
        COMMANDS[verb].group,
        told.summary,
        told.paragraphs,
        tuple(_operand(each) for each in arguments if each.names[0][0].isalpha()),
        tuple(option for option in found if option.names[0] not in COMMON),
        tuple(option for option in found if option.names[0] in COMMON),
        told.examples,
    )


def _operand(argument: Argument) -> Operand:
    repeated = argument.field_info.kind is inspect.Parameter.VAR_POSITIONAL
    name, choices = argument.names[0], tuple(argument.get_choices(force=True) or ())
    return Operand(name, _meaning(argument), choices, argument.required, repeated)


def _option(argument: Argument) -> Option:
    names = argument.names
    flag = bool(argument.negatives) or is_flag(argument)
    choices = tuple(argument.get_choices(force=True) or ())
    value = "" if flag else _VALUES.get(names[0]) or _value_name(argument)
    return Option(names, value, choices, _meaning(argument))


def _value_name(argument: Argument) -> str:
    number = argument.hint in (int, int | None)
    return "N" if number else argument.names[0].lstrip("-").upper()


def _meaning(argument: Argument) -> str:
    return " ".join((argument.parameter.help or "").split())
