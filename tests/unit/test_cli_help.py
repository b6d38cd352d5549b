"""What the command line tells of itself: of each command, and of all of them."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys

import pytest
from release import configuration

from virtstore.cli import docstrings, help
from virtstore.cli import main as cli
from virtstore.cli.commands import COMMANDS, Group
from virtstore.cli.common_options import CHANGING, EVERY
from virtstore.cli.completion import SCRIPTS
from virtstore.cli.pages import page_of
from virtstore.cli.parsing import parser_of, with_pipes
from virtstore.cli.words import verb_first


def printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> str:
    monkeypatch.setattr(sys, "argv", ["virtstore", *words])
    cli.main()
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.mark.parametrize("verb", COMMANDS)
def test_each_command_has_a_summary_of_one_line_and_an_example(verb: str) -> None:
    page = page_of(verb)
    assert re.fullmatch(r"[A-Z].{,61}\.", page.summary)
    assert 1 <= len(page.examples) <= 3
    assert any(f"virtstore {verb}" in example for example in page.examples)


@pytest.mark.parametrize("verb", COMMANDS)
def test_each_word_that_a_command_takes_is_explained(verb: str) -> None:
    page = page_of(verb)
    assert [each for each in page.operands if not each.meaning] == []
    assert [each for each in (*page.options, *page.common) if not each.meaning] == []


@pytest.mark.parametrize("verb", COMMANDS)
def test_the_examples_of_a_command_are_understood(verb: str) -> None:
    for example in page_of(verb).examples:
        for line in re.split(r" [|>] ", example):
            program, *words = shlex.split(line, comments=True)
            if program == "virtstore":
                verb, *rest = verb_first(words)
                rest = with_pipes(verb, rest)
                parser_of(verb).parse_args(rest, exit_on_error=False, print_error=False)


def test_a_summary_that_is_read_is_the_one_that_is_imported() -> None:
    assert docstrings.summaries() == {verb: page_of(verb).summary for verb in COMMANDS}


def test_all_commands_are_told_by_what_people_do_with_them() -> None:
    blocks = help.overview().split("\n\n")
    told = {block.partition(":\n")[0]: block for block in blocks}
    for verb, command in COMMANDS.items():
        assert re.search(rf"^  {verb}  ", told[command.group], re.M)
    assert [title for title in told if title in set(Group)] == list(Group)


def test_the_options_of_every_command_are_explained_once_and_named_everywhere() -> None:
    told = " ".join(help.overview().split())
    for option in (*EVERY, *CHANGING):
        assert f"{option.synopsis} {option.meaning}" in told
    for verb in COMMANDS:
        text = " ".join(help.of_command(verb).split())
        for option in page_of(verb).common:
            assert option.synopsis in text
            assert option.meaning not in text


def test_what_changes_nothing_has_no_dry_run() -> None:
    for verb in ("info", "doctor", "jobs", "list"):
        assert "--dry-run" not in help.of_command(verb)
    assert "changes something:\n  -n, --dry-run" in help.overview()


def test_help_ends_with_examples(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(monkeypatch, capsys, "grow", "--help")
    assert text.endswith(
        "Examples:\n"
        "  virtstore grow a:/mnt/images/web.img 20G\n"
        "  virtstore grow a:/dev/vg0/web +5G\n"
    )


@pytest.mark.parametrize(
    "words", [["help", "copy"], ["copy", "-h"], ["--help", "copy"], ["copy", "/x", "--help"]]
)
def test_help_of_a_command_is_asked_for_in_several_ways(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert printed(monkeypatch, capsys, *words) == help.of_command("copy") + "\n"


@pytest.mark.parametrize("words", [["help"], ["--help"], ["-h"], []])
def test_help_of_all_is_asked_for_in_several_ways(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert printed(monkeypatch, capsys, *words) == help.overview() + "\n"


@pytest.mark.parametrize(
    ("words", "verb"),
    [
        (["help", "copy", "--json"], "copy"),
        (["--json", "help", "copy"], "copy"),
        (["copy", "--help", "--json"], "copy"),
        (["help", "--json", "--quiet", "--no-progress"], None),
        (["--help", "--json"], None),
    ],
)
def test_help_is_told_as_json(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    verb: str | None,
) -> None:
    found = json.loads(printed(monkeypatch, capsys, *words))
    assert found == {"command": verb, "text": help.told(verb)}


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_script_of_completion_is_told_as_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shell: str
) -> None:
    found = json.loads(printed(monkeypatch, capsys, "completion", shell, "--json"))
    assert found == {"shell": shell, "script": SCRIPTS[shell]}
    text = printed(monkeypatch, capsys, "completion", shell, "--verbose")
    assert text == SCRIPTS[shell]


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_command_takes_the_options_of_every_command(verb: str) -> None:
    names = {name for option in page_of(verb).common for name in option.names}
    assert names >= {name for option in EVERY for name in option.names}


@pytest.mark.parametrize("columns", [50, 80, 200])
def test_help_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    before, _, examples = help.of_command("resize").partition("Examples:")
    told = [*help.overview().splitlines(), *before.splitlines()]
    assert examples
    assert max(map(len, told)) <= min(columns, 100)


@pytest.mark.parametrize(
    ("words", "others"),
    [
        (["--help"], {"cyclopts", "rich", "virtstore.client.api"}),
        (["info", "/x", "--help"], {"rich", "virtstore.cli.copying", "virtstore.cli.resizing"}),
        (["info", "a:"], {"rich", "virtstore.cli.copying", "virtstore.cli.docstrings"}),
    ],
)
def test_what_a_command_line_does_not_need_is_not_imported(
    words: list[str], others: set[str]
) -> None:
    """It would take longer than most commands do."""
    program = (
        "import sys; from virtstore.cli.main import main\n"
        "try: main()\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)
    assert "virtstore.cli.main" in ran.stderr
    assert not others & set(ran.stderr.split())


def test_append_is_said_to_include_reading_wherever_it_is_explained() -> None:
    """An administrator who hides backups from a key by "append" is mistaken."""
    told = {option.synopsis.split()[0]: option.meaning for option in page_of("install").options}
    assert "read" in told["--append"]
    assert "configuration" in told["--key"]
    keys = [key for table in configuration.tables() for key in table.keys if key.name == "access"]
    assert keys
    assert all('"append" (read,' in key.meaning for key in keys)
