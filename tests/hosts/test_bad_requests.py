"""Requests that cannot be granted: each has its code, says what to do, and changes nothing.

In the tables `{i}` is where everything is allowed on a host, `{o}` a directory that its
configuration does not name.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .command import Client
from .conftest import Hosts, Refused, random_image
from .trees import MIB


@pytest.fixture(autouse=True)
def images(hosts: Hosts) -> None:
    """`disk` is 2 MiB at a, 1 MiB at b; beside it, at both, what is no image."""
    for host, size in ((hosts.a, 2 * MIB), (hosts.b, MIB)):
        random_image(host.images / "disk", size)
        random_image(host.golden / "disk", size)
        random_image(host.drop / "disk", size)
        random_image(host.outside / "disk", size)
        (host.images / "directory").mkdir()
        (host.images / "link").symlink_to(host.outside / "disk")
        (host.images / "away").symlink_to(host.outside)
        os.mkfifo(host.images / "fifo")


def _words(hosts: Hosts, line: str) -> list[str]:
    """A command line in which `a:{x}` stands for a directory of that host."""
    words = line
    for host in (hosts.a, hosts.b):
        for name in ("images", "golden", "drop", "outside"):
            words = words.replace(f"{host.name}:{name}", host.at(getattr(host, name)))
    return words.split()


@pytest.mark.parametrize(
    ("code", "line", "says"),
    [
        ("not-found", "info a:images/missing", "no such image"),
        ("not-found", "delete a:images/missing", "no such image"),
        ("not-found", "grow a:images/missing 5M", "no such image"),
        ("not-found", "create a:images/no/where/disk 1M", "no such directory"),
        ("not-found", "list a:images/missing", "no such image or directory"),
        ("not-found", "copy a:images/missing b:images/new", "no such image"),
        ("not-found", "copy a:images/disk b:images/no/where", "no such directory"),
        ("not-found", "copy-contents a:images/missing b:images/disk", "no such image"),
        ("not-found", "copy-contents a:images/disk b:images/missing", "'virtstore copy' makes one"),
        ("not-found", "diff a:images/disk b:images/missing", "no such image"),
        ("not-found", "info a:images/directory", "is a directory"),
        ("not-found", "delete a:images/directory", "is a directory"),
        ("not-found", "copy a:images/directory b:images/new", "is a directory"),
        ("not-found", "copy-contents a:images/disk b:images/directory", "no image to overwrite"),
        ("not-found", "copy-contents a:images/directory b:images/disk", "is a directory"),
    ],
)
def test_what_is_not_there(hosts: Hosts, refused: Refused, code: str, line: str, says: str) -> None:
    refused(code, *_words(hosts, line), says=says)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("info a:outside/disk", r"\[\[directory\]\]\npath = "),
        ("list a:outside", r"\[\[directory\]\]\npath = "),
        ("copy a:outside/disk b:images/new", r"\[\[directory\]\]"),
        ("copy a:images/disk b:outside/new", r"\[\[directory\]\]"),
        ("copy-contents a:images/disk b:outside/disk", r"\[\[directory\]\]"),
        ("create a:golden/new 1M", 'access = "read".*needs "append"'),
        ("copy b:images/disk a:golden/new", 'access = "read".*needs "append"'),
        ("delete a:drop/disk", 'access = "append".*needs "write"'),
        ("grow a:drop/disk 5M", 'access = "append".*needs "write"'),
        ("copy --overwrite a:images/disk b:drop/disk", 'needs "write"'),
        ("copy-contents b:images/disk a:drop/disk", 'needs "write"'),
        ("info a:images/link", "symbolic link"),
        ("info a:images/away/disk", "symbolic link"),
        ("copy a:images/link b:images/new", "symbolic link"),
        ("copy-contents a:images/disk b:images/link", "symbolic link"),
        ("copy a:images/fifo b:images/new", "FIFO"),
        ("info a:images/../outside/disk", r"'\.\.'"),
        ("info a:images/disk.virtstore-partial", "virtstore clean"),
    ],
)
def test_what_is_not_allowed(hosts: Hosts, refused: Refused, line: str, says: str) -> None:
    refused("denied", *_words(hosts, line), says=says)


@pytest.mark.parametrize(
    ("code", "line", "says"),
    [
        ("exists", "create a:images/disk 1M", "is there already"),
        ("exists", "create a:images/directory 1M", "is there already"),
        ("exists", "copy a:images/disk b:images/disk", "--overwrite"),
        ("exists", "copy --archive a:images/disk b:images/disk", "--overwrite"),
        ("no-space", "copy-contents a:images/disk b:images/disk", "grow it to at least 2097152"),
    ],
)
def test_a_target_that_is_in_the_way_or_too_small(
    hosts: Hosts, refused: Refused, code: str, line: str, says: str
) -> None:
    refused(code, *_words(hosts, line), says=says)


@pytest.mark.parametrize(
    ("code", "line", "says"),
    [
        ("usage", "create a:images/new 0", "at least 1 byte"),
        ("usage", "create a:images/new -5M", "-5M"),
        ("usage", "create a:images/new 1E", "is not a size; write bytes"),
        ("usage", "create a:images/new 8192P", "larger than any file"),
        ("no-space", "create a:images/new 7P", "are free"),
        ("usage", "grow a:images/disk 1M", "virtstore shrink"),
        ("usage", "grow a:images/disk 0", "at least 1 byte"),
        ("no-space", "grow a:images/disk +7P", "are free"),
        ("usage", "shrink a:images/disk 3M", "virtstore grow"),
        ("usage", "shrink a:images/disk -2M", "leave nothing"),
        ("unsafe", "shrink a:images/disk 1M", "--discard-data"),
        ("usage", "growfs a:images/disk 1E", "is not a size"),
        ("usage", f"create a:images/new {'9' * 5000}", "5000 characters"),
        ("usage", f"grow a:images/disk +{'9' * 5000}", "5001 characters"),
        ("usage", f"growfs a:images/disk --partition {'9' * 5000}", "is no number"),
        ("usage", "growfs a:images/disk --partition 0", "numbered from 1"),
        ("usage", "growfs a:images/disk --partition -1", "numbered from 1"),
        ("usage", f"copy --level {'9' * 5000} a:images/disk b:images/new", "is no number"),
        ("usage", f"create a:images/{'n' * 240} 1M", "240 bytes, and at most 237"),
        ("usage", f"copy a:images/disk b:images/{'n' * 240}", "240 bytes, and at most 237"),
        ("usage", f"copy --archive a:images/disk b:images/{'n' * 255}", "255 bytes"),
        ("usage", f"snapshot a:images/disk {'n' * 240}", "240 bytes, and at most 237"),
        ("not-found", f"info a:images/{'n' * 300}", "no such image"),
        ("unsupported", "growfs a:images/disk", "no file system was recognised"),
        ("unsupported", "uncompress a:images/disk", "not compressed"),
        ("usage", "copy --bwlimit 5000 a:images/disk b:images/new", "5000 has no unit"),
        ("usage", "copy --bwlimit fast a:images/disk b:images/new", "is not a rate"),
        ("usage", "copy --format lzop a:images/disk b:images/new", "--archive"),
        ("usage", "copy --archive --level 99 a:images/disk b:images/new", "zstd has no level 99"),
        ("usage", "copy --level 99 a:images/disk b:images/new", "zstd has no level 99"),
        ("usage", "copy --level 99 a:images/disk a:images/new", "zstd has no level 99"),
        ("usage", "copy --archive --format rar a:images/disk b:images/new", "rar"),
        ("usage", "copy a:images/disk a:images/disk", "same image"),
        ("usage", "copy --overwrite a:images/disk a:images//disk", "same image"),
        ("usage", "copy-contents a:images/./disk a:images/disk", "same image"),
        ("usage", "copy --overwrite a:images/disk a:images", "same image"),
        ("usage", "info a:images/disk --nonsense", "--nonsense"),
        ("usage", "copy a:images/disk", "(?i)target"),
        ("usage", "info a:", "path"),
        ("usage", "info a:relative/disk", "absolute"),
        ("usage", "info ssh://-oProxyCommand=false/disk", "may not begin with '-'"),
    ],
)
def test_sizes_and_options_that_make_no_sense(
    hosts: Hosts, refused: Refused, code: str, line: str, says: str
) -> None:
    refused(code, *_words(hosts, line), says=says)


def test_a_host_that_looks_like_an_option_is_refused(client: Client) -> None:
    ended = client.run("info", "--json", "--", "-oProxyCommand=false:/disk")
    assert "may not begin with '-'" in ended.error("usage")["message"]


def test_without_a_configuration_nothing_is_allowed_and_the_lines_to_write_are_shown(
    client: Client, hosts: Hosts, tmp_path: Path
) -> None:
    nothing = tmp_path / "config.toml"
    nothing.write_text("")
    ended = client.having(VIRTSTORE_CONFIG=str(nothing)).run(
        "create", hosts.local / "new", "1M", "--json"
    )
    error = ended.error("denied")
    assert f'path = "{hosts.local}"\naccess = "append"' in error["message"]
    assert not list(hosts.local.iterdir())


def test_a_person_is_told_the_same_on_standard_error(client: Client, hosts: Hosts) -> None:
    missing = hosts.a.images / "missing"
    ended = client.run("info", hosts.a.at(missing))
    assert (ended.status, ended.stdout) == (3, "")
    assert ended.stderr == f"virtstore: a:{missing}: no such image\n"


def test_json_names_the_host_and_the_path_of_a_failure(hosts: Hosts, refused: Refused) -> None:
    source, missing = hosts.a.images / "disk", hosts.b.images / "missing"
    error = refused(
        "not-found", "copy-contents", hosts.a.at(source), hosts.b.at(missing), says="copy"
    )
    assert (error["host"], error["path"]) == ("b", str(missing))


def test_a_dry_run_changes_nothing(client: Client, hosts: Hosts) -> None:
    before = hosts.snapshot()
    for line in (
        "create a:images/new 1M",
        "delete a:images/disk",
        "copy a:images/disk b:images/new",
        "copy-contents b:images/disk a:images/disk",
    ):
        ended = client.run(*_words(hosts, line), "--dry-run")
        assert ended.status == 0, ended
        assert "would " in ended.stdout
    assert hosts.snapshot() == before
