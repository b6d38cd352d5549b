"""What could go wrong on this host, found by looking, each with what to do: `virtstore doctor`.

A check is a function that gives findings (virtstore/findings.py) and changes nothing. A new one is
a function in the file of its subject and a line in one of the two tables here; what is true of one
kind of place only is found by that kind (`Root.examine`). What a check finds in order it says
as well (`ok`), so that a user can see what was looked at. A check that fails hides no other.

Who may see only a part of what is configured is told of that part, and of programs and the like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final

from virtstore.agent.doctor import configuration, leftovers, libvirt, programs, system
from virtstore.agent.policy import Policy
from virtstore.errors import Error
from virtstore.findings import note, problem, warning
from virtstore.model import Finding
from virtstore.text import printable

#: Of the host itself, whatever is configured.
_HOST: Final[tuple[Callable[[], Iterable[Finding]], ...]] = (
    programs.python,
    programs.required,
    programs.confinement,
    programs.optional,
    system.kernel,
    system.memory,
    system.locks,
    libvirt.answers,
)

#: Of what this session may see of the configuration.
_CONFIGURED: Final[tuple[Callable[[Policy], Iterable[Finding]], ...]] = (
    configuration.anything,
    configuration.roots,
    configuration.log,
    leftovers.left,
    libvirt.pools,
)

#: A message has an end: no more than so many findings, of so many letters each.
_MOST: Final = 250
_LONGEST: Final = 1000


def examine(load: Callable[[], Policy], look: Callable[[], None]) -> tuple[Finding, ...]:
    """All findings. `load` gives the policy, or raises what is wrong with the configuration;
    `look` is called between checks, and may raise."""
    found: list[Finding] = []
    for check in _HOST:
        look()
        found += _findings(check.__name__, check)
    try:
        policy = load()
    except Error as error:
        found.append(problem(error.message, "mend that file on the host; until then nothing works"))
        return _bounded(found)
    for each in _CONFIGURED:
        look()
        found += _findings(each.__name__, partial(each, policy))
    return _bounded(found)


def _findings(name: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except (Error, OSError) as error:
        yield warning(f"the check of {name} failed: {error}", "see the rest, and report it")


def _bounded(found: list[Finding]) -> tuple[Finding, ...]:
    """The worst findings, as many as a message may have."""
    wrong = [each for each in found if each.is_wrong]
    kept = (wrong + [each for each in found if not each.is_wrong])[:_MOST]
    left = len(found) - len(kept)
    more = [note(f"there are {left} more findings", "mend some of these")] if left else []
    return tuple(map(_printable, [*kept, *more]))


def _printable(found: Finding) -> Finding:
    remedy = found.remedy and _lines(found.remedy)
    return Finding("", found.severity, _lines(found.what), remedy)


def _lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))[:_LONGEST]
