"""The manual: virtstore(1), a page for each command, virtstore-agent(8) and virtstore.toml(5).

    python -m release.manual DIRECTORY

Writes DIRECTORY/man1/virtstore.1 and so on. What is said of a command is what its `--help` says
(virtstore.cli.pages), of the agent's options what its own says, and of the configuration what
release/configuration.py has.
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from release import configuration, manual_texts
from release.roff import (
    bold,
    italic,
    page,
    paragraph,
    plain,
    section,
    see_also,
    subsection,
    tagged,
    typed,
    verbatim,
)
from virtstore import errors, location
from virtstore.agent import __main__ as agent
from virtstore.cli import help
from virtstore.cli.commands import COMMANDS, Group
from virtstore.cli.common_options import CHANGING, EVERY, Option
from virtstore.cli.pages import Page, page_of
from virtstore.version import __version__

_TOML: Final = ("virtstore.toml", 5)
_AGENT: Final = ("virtstore-agent", 8)
_MAIN: Final = ("virtstore", 1)


def make() -> dict[str, str]:
    """The text of each page, by its path in a directory of manuals."""
    pages = [page_of(verb) for verb in COMMANDS]
    made = {"man1/virtstore.1": _main(pages)}
    made |= {f"man1/virtstore-{each.verb}.1": _command(each) for each in pages}
    return {**made, "man8/virtstore-agent.8": _agent(), "man5/virtstore.toml.5": _toml()}


def _main(pages: Iterable[Page]) -> str:
    pages = list(pages)
    groups = [
        subsection(group, *(_row(each) for each in pages if each.group is group)) for group in Group
    ]
    return page(
        *_MAIN,
        __version__,
        section("NAME", f"virtstore \\- {plain(_lower(help.ABOUT))}"),
        section("SYNOPSIS", f"{bold('virtstore')} {typed('COMMAND')} \\[u2026]"),
        section("DESCRIPTION", *map(paragraph, (*manual_texts.ABOUT, help.MORE))),
        section("LOCATIONS", *_locations()),
        section("SIZES", paragraph(manual_texts.SIZES)),
        section("COMMANDS", *groups),
        section("OPTIONS OF EVERY COMMAND", *_options(EVERY)),
        section("OPTIONS OF EVERY COMMAND THAT CHANGES SOMETHING", *_options(CHANGING)),
        section("EXIT STATUS", *_statuses(), *map(paragraph, manual_texts.STATUSES)),
        section("ENVIRONMENT", *_terms(manual_texts.ENVIRONMENT)),
        section("FILES", *_terms(manual_texts.FILES)),
        section("SIGNALS", *_terms(manual_texts.SIGNALS)),
        see_also([*((f"virtstore-{each.verb}", 1) for each in pages), _TOML, _AGENT, ("ssh", 1)]),
    )


def _command(told: Page) -> str:
    name = f"virtstore-{told.verb}"
    verb, _, operands = told.synopsis.partition(" ")
    options = "[OPTION\N{HORIZONTAL ELLIPSIS}] " if told.options or told.common else ""
    synopsis = f"{bold(f'virtstore {verb}')} {typed(options + operands)}"
    words = [tagged(italic(each.name), each.meaning) for each in told.operands]
    same = [v for v in COMMANDS if COMMANDS[v].group is told.group and v != told.verb]
    sections = [
        section("NAME", f"{plain(name)} \\- {plain(_lower(told.summary))}"),
        section("SYNOPSIS", synopsis),
        section("DESCRIPTION", *map(paragraph, (told.summary, *told.paragraphs))),
        *([section("ARGUMENTS", *words)] if words else []),
        *([section("OPTIONS", *_options(told.options))] if told.options else []),
        *([section("COMMON OPTIONS", *_options(told.common))] if told.common else []),
        section("EXAMPLES", verbatim(told.examples)),
        section("EXIT STATUS", *map(paragraph, _own_status(told))),
        see_also([_MAIN, *((f"virtstore-{verb}", 1) for verb in same), _TOML]),
    ]
    return page(name, 1, __version__, *sections)


def _agent() -> str:
    options = [each for each in agent.parser()._actions if each.option_strings]
    return page(
        *_AGENT,
        __version__,
        section("NAME", f"virtstore\\-agent \\- {plain(manual_texts.AGENT_SUMMARY)}"),
        section("SYNOPSIS", f"{bold('virtstore-agent')} {typed('[OPTION…]')}"),
        section("DESCRIPTION", *map(paragraph, manual_texts.AGENT)),
        section("OPTIONS", *map(_argparse_option, options)),
        section("EXAMPLES", *_examples(manual_texts.AGENT_EXAMPLES)),
        section("FILES", *_terms(manual_texts.FILES[:2])),
        see_also([_MAIN, _TOML, ("sshd", 8), ("sudoers", 5)]),
    )


def _toml() -> str:
    blocks = []
    for table in configuration.tables():
        keys = [tagged(bold(key.name), key.meaning + _default(key)) for key in table.keys]
        blocks += [section(table.header or "BEFORE THE TABLES", *keys)]
    return page(
        *_TOML,
        __version__,
        section("NAME", f"virtstore.toml \\- {plain(manual_texts.TOML_SUMMARY)}"),
        section("SYNOPSIS", *_terms(manual_texts.FILES)),
        section("DESCRIPTION", *map(paragraph, manual_texts.TOML)),
        *blocks,
        section("[hosts.NAME]", paragraph(manual_texts.HOSTS), *_terms(manual_texts.HOST_KEYS)),
        section("EXAMPLES", *_examples(manual_texts.TOML_EXAMPLES)),
        see_also([_MAIN, _AGENT]),
    )


def _row(told: Page) -> str:
    return tagged(f"{bold(f'virtstore-{told.verb}')}(1)", told.summary)


def _locations() -> list[str]:
    """The forms of a location, which are those of location.py."""
    forms = re.findall(r"^    (.*\S)  +(\S.*)$", location.__doc__ or "", re.M)
    return [tagged(typed(form), _sentence(meaning)) for form, meaning in forms]


def _statuses() -> list[str]:
    """All statuses. Those of errors are those of errors.py, of which several may share one."""
    told: dict[int, list[str]] = {0: ["Done."]}
    rows = re.findall(r'code "(.*?)" +exit (\d+) +(.*)', errors.__doc__ or "")
    for code, status, meaning in rows:
        told.setdefault(int(status), []).append(f"{code}: {meaning}.")
    told[1] += [f"{verb}: {why}." for verb, why in manual_texts.NO_ERROR.items()]
    return [tagged(str(status), " ".join(told[status])) for status in sorted(told)]


def _own_status(told: Page) -> Iterator[str]:
    why = manual_texts.NO_ERROR.get(told.verb)
    yield f"0; or 1 if {why}." if why else manual_texts.DONE
    if not why and any(operand.repeated for operand in told.operands):
        yield manual_texts.STATUS_OF_SEVERAL
    yield manual_texts.OTHER_STATUSES


def _options(options: Iterable[Option]) -> Iterator[str]:
    for option in options:
        value = f" {typed(option.value_synopsis)}" if option.value else ""
        if option.choices and not option.value:
            value = f"[={typed(option.value_synopsis)}]"
        yield tagged(bold(option.names_synopsis) + value, option.meaning)


def _argparse_option(action: argparse.Action) -> str:
    value = plain("|".join(action.choices)) if action.choices else italic(str(action.metavar))
    name = bold(action.option_strings[-1])
    said = _sentence(action.help or "")
    return tagged(name if action.nargs == 0 else f"{name} {value}", said)


def _default(key: configuration.Key) -> str:
    return " Required." if key.required else f" Default: {key.default}." if key.default else ""


def _terms(pairs: Iterable[tuple[str, str]]) -> list[str]:
    return [tagged(bold(term), meaning) for term, meaning in pairs]


def _examples(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    for text, lines in pairs:
        yield paragraph(text)
        yield verbatim(inspect.cleandoc(lines).splitlines())


def _lower(sentence: str) -> str:
    """A sentence as a phrase, as NAME has it."""
    return sentence[0].lower() + sentence[1:].rstrip(".")


def _sentence(phrase: str) -> str:
    return f"{phrase[0].upper()}{phrase[1:]}."


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", type=Path)
    directory: Path = parser.parse_args().directory
    for name, text in make().items():
        (path := directory / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(path)


if __name__ == "__main__":
    main()
