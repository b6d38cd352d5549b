"""The pages tell of all that there is, and hide little from the tests that run them."""

from __future__ import annotations

import re

import msgspec
import pytest
from pages.pictures import DIRECTORY, PICTURES

import virtstore
from pages import commands, json_keys, python_names
from virtstore.agent import config
from virtstore.backends.kinds import KINDS
from virtstore.backups import hooks, job_file
from virtstore.cli.commands import COMMANDS
from virtstore.errors import Error

from .. import shown

_DOCS = shown.ROOT / "docs"
#: Blocks of commands that no page's test runs. More of them are a reason to think again.
_NOT_RUN = 10


def test_every_command_that_a_page_shows_is_run_or_marked() -> None:
    for page in shown.pages():
        if page.name == "benchmarks.md":  # what `make bench` ran
            continue
        for block in shown.blocks(page.read_text()):
            typed = re.search(r"^(\$ |virtstore[ -]|make \w)", block.text, re.M)
            assert block.runs or block.why or not typed or block.language == "text", (
                f"{page}:\n{block.text}"
            )


def test_few_blocks_of_commands_are_not_run_and_each_says_why() -> None:
    found = [
        (page.name, block.why)
        for page in shown.pages()
        for block in shown.blocks(page.read_text())
        if block.why
    ]
    assert len(found) <= _NOT_RUN, found
    assert all(len(why.split()) > 3 for _, why in found)


def test_the_reference_has_each_key_of_the_configuration() -> None:
    text = (_DOCS / "reference" / "configuration.md").read_text()
    sections = {
        f"[[{kind.section}]]": {field.encode_name for field in msgspec.structs.fields(kind)}
        for kind in KINDS
    }
    sections["[limits]"] = {each.encode_name for each in msgspec.structs.fields(config.Limits)}
    for title, keys in sections.items():
        table = text.partition(f"`{title}`")[2].partition("\n\n`")[0].partition("\nAt the top")[0]
        assert set(re.findall(r"^\| `(\w+)` ", table, re.M)) == keys, title
    assert "| `log` |" in text


def test_the_reference_has_each_key_of_a_job_and_each_variable_of_a_hook() -> None:
    text = (_DOCS / "reference" / "backup-jobs.md").read_text()
    keys = {"JobFile": "At the top", "KeepTable": "`[keep]`", "Hooks": "`[hooks]`"}
    for name, title in keys.items():
        known = {each.encode_name for each in msgspec.structs.fields(getattr(job_file, name))}
        rows = text.partition(f"\n{title}")[2].partition("\n\n|")[2].partition("\n\n")[0]
        found = {
            key
            for row in re.findall(r"^\| (`.*?`) \|", f"|{rows}", re.M)
            for key in row.split(", ")
        }
        assert {key.strip("`") for key in found} == known - {"keep", "hooks"}, title
    told = set(re.findall(r"VIRTSTORE_\w+", hooks.__doc__ or ""))
    assert set(re.findall(r"^\| `(VIRTSTORE_\w+)`", text, re.M)) == told


def test_the_reference_has_each_error() -> None:
    text = (_DOCS / "reference" / "exit-codes.md").read_text()
    errors: list[type[Error]] = [Error, *Error.__subclasses__()]
    for error in (each for each in errors if each.__module__ == Error.__module__):
        assert f"| {error.exit_status} | `{error.code}` | `{error.__name__}` |" in text
        assert f"\n## {error.code}, {error.exit_status}\n" in text


def test_the_reference_has_each_command_with_an_example() -> None:
    text = commands.page()
    for verb in COMMANDS:
        told = text.partition(f"\n### {verb}\n")[2].partition("\n### ")[0]
        assert f"\n    virtstore {verb}" in told
        assert f"\nvirtstore {verb}" in told.partition("```sh")[2]


def test_the_reference_has_each_key_of_json() -> None:
    text = json_keys.page()
    for field in msgspec.structs.fields(virtstore.ImageInfo):
        assert f"\n| `{field.encode_name}` | " in text.partition("\n### ImageInfo\n")[2]
    for verb in COMMANDS:
        assert f"\n| `{verb}` | " in text, "python -m release.schemas docs/schemas"


def test_the_reference_has_each_public_name_of_python() -> None:
    text = python_names.page()
    for name in virtstore.__all__:
        assert name == "__version__" or re.search(rf"^(### |\| `){name}\b", text, re.M), name
    assert "| `nice` | `bool` | Leave processor and disks to others" in text


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_what_the_first_pages_send_to_is_there(name: str) -> None:
    """Those below docs are looked at when the site is built."""
    for link in re.findall(r"\]\(([^)#]+)", (shown.ROOT / name).read_text()):
        assert (shown.ROOT / link).exists(), link


@pytest.mark.parametrize("name", PICTURES)
def test_the_pictures_are_those_that_are_drawn(name: str) -> None:
    drawn = PICTURES[name]().svg()
    assert (DIRECTORY / f"{name}.svg").read_text() == drawn, "run: python -m pages.pictures"
