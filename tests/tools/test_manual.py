"""The manual: groff finds no fault with it, and it has all that there is."""

from __future__ import annotations

import subprocess
from typing import Final

import msgspec
import pytest
from release import configuration, manual, roff

from virtstore.agent import __main__ as agent
from virtstore.agent import config
from virtstore.cli.commands import COMMANDS
from virtstore.cli.pages import page_of
from virtstore.client.hosts_file import HostEntry

PAGES: Final = manual.make()


def shown(text: str) -> str:
    """A page as man(1) shows it, without bold and italic. Fails for what groff complains of."""
    command = ["groff", "-man", "-ww", "-T", "utf8", "-P", "-cbou"]
    ran = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    return ran.stdout


@pytest.mark.parametrize("name", PAGES)
def test_groff_finds_no_fault_with_a_page(name: str) -> None:
    text = shown(PAGES[name])
    for title in ("NAME", "SYNOPSIS", "DESCRIPTION", "SEE ALSO"):
        assert f"\n{title}\n" in text


@pytest.mark.parametrize("verb", COMMANDS)
def test_the_page_of_a_command_has_all_that_its_help_has(verb: str) -> None:
    text = shown(PAGES[f"man1/virtstore-{verb}.1"])
    words = " ".join(text.split())
    page = page_of(verb)
    for option in (*page.options, *page.common):
        assert option.synopsis in words
        assert option.meaning in words
    for example in page.examples:
        assert example in text


def test_the_first_page_has_each_command_and_each_exit_status() -> None:
    text = shown(PAGES["man1/virtstore.1"])
    assert all(f" virtstore-{verb}(1)\n" in text for verb in COMMANDS)
    for status in ("3      not-found:", "130    interrupted:", "/path  ./path  name\n"):
        assert status in text


def test_a_status_that_is_no_failure_is_told_where_it_is_looked_for() -> None:
    main = " ".join(shown(PAGES["man1/virtstore.1"]).split())
    one = main.partition(" 1 failed: ")[2].partition(" 2 usage: ")[0]
    for verb, why in (("diff", "the images differ"), ("doctor", "there is a problem")):
        own = " ".join(shown(PAGES[f"man1/virtstore-{verb}.1"]).split())
        assert f"0; or 1 if {why}" in own
        assert f"{verb}: {why}" in one
    assert "first that failed" in main
    assert "first that failed" in shown(PAGES["man1/virtstore-delete.1"])


def test_the_page_of_the_configuration_has_each_key() -> None:
    text = shown(PAGES["man5/virtstore.toml.5"])
    for table in configuration.tables():
        assert (table.header or "BEFORE THE TABLES") in text
        for key in table.keys:
            assert f"\n       {key.name}" in text
    assert all(f"\n       {key}" in text for key in HostEntry._fields)


def test_no_table_of_the_configuration_is_left_out() -> None:
    told = {table.header.strip("[]"): table for table in configuration.tables()}
    known = {field.name for field in msgspec.structs.fields(config._Said)}
    assert {name or "log" for name in told} == known


def test_the_page_of_the_agent_has_each_option() -> None:
    text = shown(PAGES["man8/virtstore-agent.8"])
    for action in agent.parser()._actions:
        assert f"\n       {action.option_strings[-1]}" in text


def test_what_is_shown_is_what_was_written() -> None:
    """Whatever would be a request, an escape or another character to groff."""
    lines = [".TH no request", "'br neither", r"C:\new\fB", "it's `x` ~/y ^z -n --no", "ü…"]
    text = shown(roff.page("x", 1, "1", roff.section("NAME", roff.verbatim(lines))))
    assert all(f" {line}\n" in text for line in lines)
