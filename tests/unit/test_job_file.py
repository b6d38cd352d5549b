"""The file of a job: what it may say, what is told of one that is wrong, and who may have written
it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from virtstore.backups import job_file
from virtstore.backups.job_file import Hooks, JobFile, KeepTable
from virtstore.backups.retention import Keep
from virtstore.errors import Denied, Error, NotFound, UsageError

LEAST = 'sources = ["a:/srv/images/web.img"]\ntarget = "b:/srv/backups"\n'
WHOLE = """\
sources = ["a:/dev/vg0/web", "a:/dev/vg0", "/srv/images"]
target = "ssh://backup@b:2222/srv/backups/a"
include = ["web*", "db*"]
exclude = ["*-swap"]
max_age = "26h"
jobs = 2
bwlimit = "50M"
nice = true
live = true
quiesce = "try"
verify = true

[keep]
last = 3
hourly = 24
daily = 7
weekly = 4
monthly = 12
yearly = 2

[hooks]
before = "systemctl stop nightly-imports"
after = "systemctl start nightly-imports"
failed = "mail -s 'no backup' root"
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """What writes a user's own job."""
    tmp_path.chmod(0o755)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(job_file, "SYSTEM_DIRECTORY", str(tmp_path / "system"))

    def written(text: str = LEAST, name: str = "nightly.toml") -> Path:
        file = tmp_path / "virtstore" / "backup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        for directory in (file.parent, file.parent.parent):
            directory.chmod(0o755)
        file.write_text(text)
        file.chmod(0o644)
        return file

    return written


def test_everything_that_a_file_may_say_is_read(write: Write) -> None:
    file = write(WHOLE)
    assert job_file.read("nightly") == job_file.Job(
        "nightly",
        str(file),
        JobFile(
            sources=("a:/dev/vg0/web", "a:/dev/vg0", "/srv/images"),
            target="ssh://backup@b:2222/srv/backups/a",
            include=("web*", "db*"),
            exclude=("*-swap",),
            max_age="26h",
            jobs=2,
            bwlimit="50M",
            nice=True,
            live=True,
            quiesce="try",
            verify=True,
            keep=KeepTable(3, 24, 7, 4, 12, 2),
            hooks=Hooks(
                "systemctl stop nightly-imports",
                "systemctl start nightly-imports",
                "mail -s 'no backup' root",
            ),
        ),
    )


def test_the_rules_are_those_that_the_table_names(write: Write) -> None:
    write(f'{LEAST}[keep]\ndaily = 7\nyearly = 2\nwithin = "30d"')
    assert job_file.read("nightly").said.keep.rules == Keep(daily=7, yearly=2, within="30d")
    write(f"{LEAST}[keep]")
    assert job_file.read("nightly").said.keep.rules is None


def test_what_is_not_said_keeps_everything_and_runs_nothing(write: Write) -> None:
    write()
    said = job_file.read("nightly").said
    assert (said.keep, said.hooks, said.snapshot, said.jobs) == (KeepTable(), Hooks(), True, 1)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, 'target = "…" is missing'),
        ('taget = "b:/x"', 1, "did you mean target"),
        (f"{LEAST}[keep]\ndayly = 3", 4, "no 'dayly' here; did you mean daily"),
        (f"{LEAST}[hooks]\nafter_all = 'x'", 4, "there are before, after and failed"),
        (f"{LEAST}[[keep]]\ndaily = 3", 3, r"write \[keep\]"),
        (f"{LEAST}keep = 3", 3, r"write \[keep\]"),
        (f"{LEAST}[keep]\ndaily = 0", 4, "daily cannot be 0; it is a number of at least 1"),
        (f'{LEAST}[keep]\ndaily = "7"', 4, 'daily cannot be "7"; it is a number'),
        (f'{LEAST}[keep]\nwithin = "30"', 4, "within: '30' is no age"),
        (f"{LEAST}jobs = 65", 3, "jobs cannot be 65; it is a number of at least 1 and at most 64"),
        (f"{LEAST}nice = 10", 3, "nice cannot be 10; it is true or false"),
        (f'{LEAST}quiesce = "yes"', 3, 'it is true or false, without quotes or "try"'),
        ('sources = "a:/x"\ntarget = "b:/x"', 1, r'texts in brackets, as \["…", "…"\]'),
        ('sources = ["web.img"]\ntarget = "b:/x"', 1, "sources: 'web.img' is no whole path"),
        ('sources = ["~/web.img"]\ntarget = "b:/x"', 1, "no shell here that knows"),
        ('sources = ["a:"]\ntarget = "b:/x"', 1, "sources: 'a:' is a host as a whole"),
        ('target = "b:x"', 1, "target: b:x: a path on another host is absolute"),
        ('target = "b:/x/../y"', 1, r"has a '\.\.' in it"),
        (f'{LEAST}max_age = "26"', 3, "max_age: '26' is no age"),
        (f"{LEAST}max_age = 26", 3, "max_age cannot be 26; it is a text in quotes"),
        (f"{LEAST}bwlimit = 50", 3, "bwlimit: 50 has no unit"),
        (f"{LEAST}live = true\nsnapshot = false", 4, "leave snapshot = false out"),
        (f"{LEAST}quiesce = true\nsnapshot = false", 4, "leave snapshot = false out"),
        (f"{LEAST}snapshot = false\nkeep_snapshot = true", 4, "keep_snapshot is for a snapshot"),
        (f"{LEAST}live = true\nkeep_snapshot = true", 4, "keep_snapshot is for a snapshot"),
        (f'{LEAST}[hooks]\nbefore = " "', 4, "before is no command"),
    ],
)
def test_the_line_and_what_may_stand_there_are_told(
    write: Write, text: str, line: int, says: str
) -> None:
    file = write(text)
    with pytest.raises(Error, match=f"{file} is wrong: line {line}: .*{says}") as raised:
        job_file.read("nightly")
    assert "msgspec" not in raised.value.message


def test_what_is_no_toml_is_told_with_its_line(write: Write) -> None:
    write("target = b:/x")
    with pytest.raises(Error, match=r"is not TOML: .*line 1.*text is in quotes"):
        job_file.read("nightly")


def test_a_job_that_is_not_there_is_told_with_what_is(write: Write) -> None:
    with pytest.raises(NotFound, match="Such a file has at least: sources"):
        job_file.read("nightly")
    write()
    with pytest.raises(NotFound, match="did you mean nightly"):
        job_file.read("nigthly")
    with pytest.raises(NotFound, match="did you mean nightly"):
        job_file.read("nightly.toml")
    with pytest.raises(NotFound, match="there are nightly"):
        job_file.read("web")


@pytest.mark.parametrize("word", ["", "-x", ".hidden", "a b", "a\nb", "a@b"])
def test_only_what_can_be_an_instance_of_a_unit_is_a_name(word: str) -> None:
    with pytest.raises(UsageError, match="is no name of a job"):
        job_file.read(word)


def test_a_word_with_a_slash_is_the_path_of_a_file(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(name="web 1.toml")
    monkeypatch.chdir(file.parent)
    assert job_file.read("./web 1.toml").file == str(file)
    with pytest.raises(NotFound, match=r"no file /nonexistent/x\.toml"):
        job_file.read("/nonexistent/x.toml")


def test_a_users_own_job_comes_before_the_systems(write: Write, tmp_path: Path) -> None:
    (system := tmp_path / "system").mkdir(mode=0o755)
    (system / "nightly.toml").write_text(LEAST)
    (system / "nightly.toml").chmod(0o644)
    assert job_file.read("nightly").file == str(system / "nightly.toml")
    own = write()
    assert job_file.read("nightly").file == str(own)


def test_a_job_that_others_could_have_written_is_refused(write: Write) -> None:
    file = write()
    file.chmod(0o664)
    with pytest.raises(Denied, match=f"it could be written to by others.*chmod go-w {file}$"):
        job_file.read("nightly")


def test_a_job_that_others_could_replace_is_refused(write: Write, tmp_path: Path) -> None:
    file = write()
    file.parent.chmod(0o777)
    with pytest.raises(Denied, match=f"the directory {file.parent}, .*chmod go-w {file.parent}$"):
        job_file.read("nightly")
    file.parent.chmod(0o755)
    file.parent.parent.chmod(0o775)
    with pytest.raises(Denied, match=f"the directory {file.parent.parent}, "):
        job_file.read("nightly")


def test_neither_does_a_link_hide_where_a_job_lies(write: Write, tmp_path: Path) -> None:
    file = write()
    (shared := tmp_path / "shared").mkdir()
    (shared / "job.toml").write_text(LEAST)
    shared.chmod(0o777)
    file.unlink()
    file.symlink_to(shared / "job.toml")
    with pytest.raises(Denied, match=f"the directory {shared}, "):
        job_file.read("nightly")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_job_of_another_user_is_refused(write: Write) -> None:
    file = write()
    os.chown(file, 65534, 0)
    with pytest.raises(Denied, match=f"mend it with: chown 0 {file} && chmod go-w {file}"):
        job_file.read("nightly")
