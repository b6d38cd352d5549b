"""How a finding of `doctor` is made: one line for each severity. The client fills in the host."""

from __future__ import annotations

from virtstore.model import Finding


def ok(what: str) -> Finding:
    return Finding("", "ok", what)


def note(what: str, remedy: str) -> Finding:
    return Finding("", "note", what, remedy)


def warning(what: str, remedy: str) -> Finding:
    return Finding("", "warning", what, remedy)


def problem(what: str, remedy: str) -> Finding:
    return Finding("", "problem", what, remedy)
