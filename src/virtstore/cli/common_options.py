"""The options of every command, and of every one that changes something: known before any command
is imported, and told once, by `virtstore --help` and virtstore(1)."""

from __future__ import annotations

from typing import Final, NamedTuple


class Option(NamedTuple):
    """`names`: the long one first. `value`: what its value is called; "" for a flag. `choices`: all
    values that there are, if they are few; of a flag, those that may follow it behind a `=`."""

    names: tuple[str, ...]
    value: str
    choices: tuple[str, ...]
    meaning: str

    @property
    def names_synopsis(self) -> str:
        return ", ".join(sorted(self.names, key=lambda name: name.startswith("--")))

    @property
    def value_synopsis(self) -> str:
        return "|".join(self.choices) or self.value

    @property
    def synopsis(self) -> str:
        """As it is listed: `-q, --quiet`, `--format zstd|lz4` or `--quiesce[=try]`."""
        if self.choices and not self.value:
            return f"{self.names_synopsis}[={self.value_synopsis}]"
        return f"{self.names_synopsis} {self.value_synopsis}".rstrip()


def _option(*names: str, meaning: str, value: str = "") -> Option:
    return Option(names, value, (), meaning)


JSON: Final = _option("--json", meaning="Print one JSON document instead of text.")
QUIET: Final = _option(
    "--quiet",
    "-q",
    meaning="Print no results of commands that change something, and no progress.",
)
VERBOSE: Final = _option(
    "--verbose",
    "-v",
    meaning="Show how agents are started, what they do and how long it takes.",
)
PROGRESS: Final = _option(
    "--progress",
    "--no-progress",
    meaning="Show progress on standard error (default: if that is a terminal).",
)
CONFIG: Final = _option(
    "--config", value="FILE", meaning="Configuration file of the agent on this machine."
)
DRY_RUN: Final = _option(
    "--dry-run",
    "-n",
    meaning="Check what can be checked without a change, say what would be done, and do nothing."
    " A file system's own check (fsck) comes only when it is really resized.",
)

#: Those of every command.
EVERY: Final = (JSON, QUIET, VERBOSE, PROGRESS, CONFIG)
#: Those that a command has besides if it changes something.
CHANGING: Final = (DRY_RUN,)

#: All their names; whether a value follows in the next word.
COMMON: Final = {name: bool(each.value) for each in (*EVERY, *CHANGING) for name in each.names}
