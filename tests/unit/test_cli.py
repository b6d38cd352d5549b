"""The command line itself: what is refused before any agent is started, and how."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import pytest

from virtstore.cli import main as cli
from virtstore.cli.common_options import COMMON
from virtstore.cli.parsing import parser_of
from virtstore.cli.words import verb_first
from virtstore.client import sessions
from virtstore.errors import Denied, Error, NotFound
from virtstore.version import OLDEST, PROTOCOL, __version__

COMMANDS = {
    "create", "list", "info", "delete", "grow", "shrink", "growfs", "snapshot", "copy",
    "copy-contents", "compress", "uncompress", "verify", "diff", "clean", "storage-info",
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object, **__: object) -> None:
        raise AssertionError("an agent was started")

    monkeypatch.setattr(sessions, "Connection", start)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["virtstore", *arguments])
    try:
        cli.main()
    except SystemExit as ended:
        return ended.code
    return 0


@pytest.mark.parametrize(
    "line",
    [
        "no-such-command",
        "--no-such-flag",
        "create",
        "create /x",
        "create /x 10Q",
        "create /x 0",
        "create /x 10G extra",
        "create local: 10G",
        "create a:x 10G",
        "create -oProxyCommand=x:/y 10G",
        "create ssh://-oProxyCommand=x/y 10G",
        "info",
        "info /x --no-such-flag",
        "info a:",
        "grow /x",
        "grow /x ++1G",
        "shrink /x -",
        "growfs /x 1G --partition one",
        "copy /x",
        "copy /x /y --format rar",
        "copy /x /y --level high",
        "copy --quiesce /x /y",
        "copy /x /y --live --quiesce=perhaps",
        "copy-contents /x /y --archive",
        "copy /x a:",
        "compress /x --format none",
        "diff /x",
        "clean",
        "storage-info /x",
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_wrong_command_line_is_refused_before_anything_is_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str, as_json: bool
) -> None:
    assert run(monkeypatch, *line.split(), *(["--json"] if as_json else [])) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    if as_json:
        told = json.loads(out)["error"]
        assert told["code"] == "usage"
        assert list(told) == ["code", "message", "host", "path"]
    else:
        assert out == ""
        assert err.startswith("virtstore: ")


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_each_command_explains_itself_and_its_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert run(monkeypatch, command, "--help") == 0
    text = capsys.readouterr().out
    for option in ("--json", "--quiet", "-q", "--verbose", "-v", "--progress", "--config"):
        assert option in text
    looking = command in ("list", "info", "verify", "diff", "storage-info")
    assert ("--dry-run" in text) != looking
    assert "--no-json" not in text


def test_without_arguments_the_commands_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)


def test_the_version_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize("kind", [Error, *Error.__subclasses__()])
def test_each_error_ends_with_its_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: type[Error]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise kind("why", host="a", path="/x")

    monkeypatch.setattr(sessions, "Connection", fail)
    assert run(monkeypatch, "info", "a:/x") == kind.exit_status
    assert capsys.readouterr().err == "virtstore: a:/x: why\n"
    assert run(monkeypatch, "info", "a:/x", "--json") == kind.exit_status
    assert json.loads(capsys.readouterr().out)["error"]["code"] == kind.code


def test_an_interruption_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sessions, "Connection", interrupt)
    assert run(monkeypatch, "copy", "/x", "/y") == 130
    told = capsys.readouterr().err
    assert "whoever has \"write\" there removes it with 'virtstore clean'" in told


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("copy", "Replace an existing target"),
        ("copy-contents", "The image to overwrite"),
        ("create", "the name must not"),
        ("shrink", "Cut whatever is there"),
        ("list", "Subdirectories as well"),
        ("clean", "A directory, a volume group, or an image"),
    ],
)
def test_help_says_what_arguments_and_options_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, says: str
) -> None:
    run(monkeypatch, command, "--help")
    assert says in " ".join(capsys.readouterr().out.split())


def message(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str) -> str:
    assert run(monkeypatch, *line.split()) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("grow /x 1G extra", "extra: one word too many; write virtstore grow LOCATION SIZE"),
        ("copy-contents /a /b /c", "/c: one word too many; write virtstore copy-contents"),
        ("diff /a /b /c", "/c: one word too many; write virtstore diff LEFT RIGHT"),
        ("snapshot /a b c", "c: one word too many; write virtstore snapshot LOCATION [NAME]"),
        ("diff /a /b c d", "c d: more words than it takes; write virtstore diff LEFT RIGHT"),
        ("grow /x", "SIZE is missing: write virtstore grow LOCATION SIZE"),
        ("info", "LOCATION is missing: write virtstore info LOCATION [MORE…]"),
        ("copy /x /y --level", "--level needs a value ('virtstore copy --help'"),
        ("info /x --jsno", "Did you mean --json?"),
        ("copy /x /y --snapshto", "Did you mean --snapshot?"),
        ("--snapshto copy /x /y", "Did you mean --snapshot?"),
        ("help lst", "there is no command 'lst'; did you mean list?"),
        ("growfs /x --partition one", '"one" is no number'),
        (f"resize /x 1G --partition {'9' * 5000}", '"99999999999999999999…" is no number'),
        ("resize /x 1G --partition \u0663", '"\u0663" is no number'),
        ("diff /x -", "-: standard input and output are no places of images here"),
        ("info a:", "'a:' is a host as a whole; write the image's path behind it: a:/…"),
        ("info ssh://a", "behind it: ssh://a/…"),
        ("copy /x /y --format rar", '"zstd", "lz4", "lzop", "gzip", "xz"'),
        ("lst /x", "did you mean list?"),
        ("help remove", "did you mean delete?"),
        ("resize /x 50%", "or +SIZE or -SIZE or minimum"),
        ("shrinkfs /x min", "or minimum"),
        ("grow /x 50%", "or +SIZE"),
        ("create /x -5M", "-5M is no option, and no size here"),
        ("growfs /x -5M", "only 'virtstore shrink' and 'virtstore resize' take -SIZE"),
        ("shrink /x 50%", "or -SIZE"),
        ("xyzzy", "write one of list, info,"),
        ("-q", "there is no command in '-q'; write one of list,"),
        ("-v --progress", "there is no command in '-v --progress'"),
        ("--level 3", "there is no command"),
    ],
)
def test_a_wrong_command_line_is_told_what_to_write(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str, says: str
) -> None:
    assert says in message(monkeypatch, capsys, line)


@pytest.mark.parametrize(
    ("words", "ordered"),
    [
        ("info /x -q", "info /x -q"),
        ("-q --json info /x", "info -q --json /x"),
        ("--config info info /x", "info --config info /x"),
        ("--config=info info /x", "info --config=info /x"),
        ("--level -3 copy /x /y", "copy --level -3 /x /y"),
        ("-n --level 3 copy /x /y --archive", "copy -n --level 3 /x /y --archive"),
        ("--quiesce copy /x /y --live", "copy --quiesce /x /y --live"),
        ("--quiesce=try copy /x /y", "copy --quiesce=try /x /y"),
        ("--help", "--help"),
        ("--help copy", "copy --help"),
        ("-q -v", "-q -v"),
        ("", ""),
    ],
)
def test_the_verb_is_found_behind_options(words: str, ordered: str) -> None:
    assert verb_first(words.split()) == ordered.split()


def test_a_flag_that_may_have_a_value_takes_no_other_word_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(AssertionError, match="an agent was started"):
        run(monkeypatch, "copy", "--live", "--quiesce", "a:/x", "b:/y")


def test_the_options_of_every_command_are_known_before_the_command_line_is_read() -> None:
    found: dict[str, bool] = {}
    for argument in parser_of("clean").assemble_argument_collection():
        flag = any(name.startswith("--no-") for name in argument.names)
        options = [name for name in argument.names if name.startswith("-")]
        found |= dict.fromkeys(options, bool(argument.token_count()[0]) and not flag)
    assert found == COMMON


@pytest.mark.parametrize("words", [("--version", "--json"), ("--json", "--version")])
def test_the_version_is_told_with_the_protocols_that_it_speaks(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["virtstore", *words])
    cli.main()
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "version": __version__,
        "protocol": PROTOCOL,
        "oldest_protocol": OLDEST,
        "python": platform.python_version(),
    }


@pytest.mark.parametrize("error", [NotFound, Denied])
def test_a_word_that_is_no_path_here_is_told_how_a_host_is_written(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    error: type[Error],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error("no")

    monkeypatch.setattr(sessions, "Connection", fail)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    for typed, hint in (("b", True), ("./b", False), ("b:", False), ("images", False)):
        assert run(monkeypatch, "list", typed) == error.exit_status
        told = capsys.readouterr().err
        assert ("b is a path here, the host would be b:; no" in told) == hint


def test_list_without_a_location_is_of_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def fail(agent: object, *_: object, **__: object) -> None:
        asked.append(agent)
        raise Error("no")

    monkeypatch.setattr(sessions, "Connection", fail)
    assert run(monkeypatch, "list") == run(monkeypatch, "list", "local:") == 1
    assert asked[0] == asked[1]
