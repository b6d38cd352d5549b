"""What the next word of a command line may be: verbs, options, their values, and places. Which of
these it is, the page of the command tells (pages.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from virtstore.cli import places
from virtstore.cli.commands import ALONE, COMMANDS
from virtstore.cli.common_options import CHANGING, COMMON, EVERY, Option
from virtstore.cli.docstrings import summaries
from virtstore.cli.pages import Operand, Page, page_of
from virtstore.cli.words import verb_first


class Candidate(NamedTuple):
    """A whole word. One that ends with `/`, `:` or `=` goes on."""

    text: str
    meaning: str = ""


def _verbs() -> Iterator[Candidate]:
    return (Candidate(verb, summary) for verb, summary in summaries().items())


def _texts(found: Callable[[str], Iterable[str]]) -> Callable[[str], Iterator[Candidate]]:
    return lambda begun: map(Candidate, found(begun))


#: How to find what a word may be, by what it is called in the command's synopsis.
FOUND: Final[dict[str, Callable[[str], Iterable[Candidate]]]] = {
    **dict.fromkeys(
        ("LOCATION", "SOURCE", "TARGET", "TARGET-DIR", "LEFT", "RIGHT", "BACKUP", "DIRECTORY"),
        _texts(places.locations),
    ),
    "HOST": _texts(places.hosts),
    "FILE": _texts(places.local_paths),
    "VERB": lambda begun: _verbs(),
}


def candidates(before: list[str], begun: str) -> list[Candidate]:
    """What a word may become that begins with `begun`, behind the words `before`."""
    return [each for each in _possible(before, begun) if each.text.startswith(begun)]


def _possible(before: list[str], begun: str) -> Iterable[Candidate]:
    verb, *rest = verb_first(before) or [""]
    if verb in COMMANDS:
        return _behind_verb(page_of(verb), rest, begun)
    if verb and not verb.startswith("-"):
        return []
    if before and COMMON.get(before[-1]):
        return FOUND["FILE"](begun)
    if begun.startswith("-"):
        return [*_options((*EVERY, *CHANGING)), *map(Candidate, sorted(ALONE))]
    return _verbs()


class _Reading(NamedTuple):
    """What the words behind a verb were. `pending`: the option whose value comes next; `operands`:
    how many words were none; `ended`: whether `--` has said that no more options come."""

    pending: Option | None = None
    operands: int = 0
    ended: bool = False


def _behind_verb(page: Page, rest: list[str], begun: str) -> Iterable[Candidate]:
    options = {name: each for each in (*page.options, *page.common) for name in each.names}
    read = _read(rest, options)
    if read.pending:
        return _values(read.pending, begun)
    if begun.startswith("-") and not read.ended:
        name, equals, value = begun.partition("=")
        if not equals:
            return [*_options((*page.options, *page.common)), Candidate("--help")]
        option = options.get(name)
        values = _values(option, value) if option and option.value else ()
        return [each._replace(text=f"{name}={each.text}") for each in values]
    operand = _operand(page, read.operands)
    return _of_operand(operand, begun) if operand else []


def _read(words: list[str], options: dict[str, Option]) -> _Reading:
    read = _Reading()
    for word in words:
        if read.pending:
            read = read._replace(pending=None)
        elif not read.ended and word.startswith("-") and word != "-":
            option = options.get(word)
            pending = option if option and option.value else None
            read = read._replace(pending=pending, ended=word == "--")
        else:
            read = read._replace(operands=read.operands + 1)
    return read


def _operand(page: Page, at: int) -> Operand | None:
    """The operand number `at`; what may be repeated is of the kind of the first."""
    if at < len(page.operands) and not page.operands[at].repeated:
        return page.operands[at]
    if page.operands and page.operands[-1].repeated:
        return page.operands[0]
    return None


def _of_operand(operand: Operand, begun: str) -> Iterable[Candidate]:
    if operand.choices:
        return map(Candidate, operand.choices)
    find = FOUND.get(operand.name)
    return find(begun) if find else []


def _options(options: Iterable[Option]) -> Iterator[Candidate]:
    for option in options:
        for name in option.names:
            if name.startswith("--"):
                yield Candidate(name, option.meaning)


def _values(option: Option, begun: str) -> Iterable[Candidate]:
    if option.choices:
        return map(Candidate, option.choices)
    find = FOUND.get(option.value)
    return find(begun) if find else []
