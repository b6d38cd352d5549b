"""The commands that people mean who type the words of other tools."""

from __future__ import annotations

import pytest

from virtstore.cli.commands import COMMANDS
from virtstore.cli.other_words import WORDS, meant_by


@pytest.mark.parametrize("verb", WORDS)
def test_the_words_of_a_command_lead_to_it_and_are_no_commands(verb: str) -> None:
    words = WORDS[verb].split()
    assert verb in COMMANDS
    assert {meant_by(word) for word in words} == {verb}
    assert not {*words} & {*COMMANDS}


def test_only_who_asks_to_remove_or_to_cut_is_led_to_a_command_that_loses_data() -> None:
    losing = {"delete", "clean", "uninstall", "shrink", "shrinkfs", "copy-contents"}
    led = {verb: WORDS[verb] for verb in losing & {*WORDS}}
    assert led == {
        "delete": "rm remove del erase unlink destroy undefine lvremove",
        "shrink": "reduce truncate lvreduce",
    }


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("rm", "delete"),
        ("remove", "delete"),
        ("mv", "rename"),
        ("move", "rename"),
        ("df", "storage-info"),
        ("status", "storage-info"),
        ("check", "verify"),
        ("fsck", "verify"),
        ("ls", "list"),
        ("LS", "list"),
        ("cp", "copy"),
        ("clone", "copy"),
        ("show", "info"),
        ("extend", "grow"),
        ("reduce", "shrink"),
        ("snapshto", "snapshot"),
    ],
)
def test_the_words_of_the_shell_and_of_other_tools_are_understood(typed: str, meant: str) -> None:
    assert meant_by(typed) == meant
