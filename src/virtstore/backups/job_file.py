"""A job: what is backed up, where to and by which rules, as `/etc/virtstore/backup/NAME.toml` says.

`virtstore backup --job NAME` reads it, and so do the units of systemd's. A user's own jobs are in
`$XDG_CONFIG_HOME/virtstore/backup`, which is looked into first; a word with a slash in it is the
path of a file.

A job has commands in it (its hooks), and whoever can write to its file has them run as another
user. So a file that others could have written, or could put in its place, is refused.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import stat
import tomllib
from pathlib import PurePath
from typing import Annotated, Any, Final

import msgspec

from virtstore import config_check
from virtstore.backups.retention import Keep
from virtstore.config_check import Wrong
from virtstore.copy_options import Quiesce, Rate
from virtstore.errors import Denied, Error, NotFound, UsageError
from virtstore.location import absolute, parse_location, unclear
from virtstore.units import parse_age, parse_rate

SYSTEM_DIRECTORY: Final = "/etc/virtstore/backup"
#: What an instance of a unit may be called without being escaped (systemd-escape(1)).
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")

_Several = Annotated[int, msgspec.Meta(ge=1)]


class KeepTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[keep]`: how many of each kind stay, and for how long all do; None: there is no such
    rule."""

    last: _Several | None = None
    hourly: _Several | None = None
    daily: _Several | None = None
    weekly: _Several | None = None
    monthly: _Several | None = None
    yearly: _Several | None = None
    within: str | None = None

    @property
    def rules(self) -> Keep | None:
        """The rules; None: everything is kept."""
        said = {rule: getattr(self, rule) for rule in self.__struct_fields__}
        given = {rule: value for rule, value in said.items() if value is not None}
        return Keep(**given) if given else None


class Hooks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[hooks]`: commands of the shell's, run on this machine (hooks.py)."""

    before: str | None = None
    after: str | None = None
    failed: str | None = None


class JobFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the file of a job says. `sources` is empty where a backup host only prunes."""

    target: str
    sources: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    max_age: str | None = None
    jobs: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    bwlimit: Rate | None = None
    nice: bool = False
    snapshot: bool = True
    live: bool = False
    quiesce: Quiesce = False
    keep_snapshot: bool = False
    verify: bool = False
    keep: KeepTable = KeepTable()
    hooks: Hooks = Hooks()


class Job(msgspec.Struct, frozen=True):
    """A job by its `name`; `file` is where it is written."""

    name: str
    file: str
    said: JobFile


def read(word: str) -> Job:
    """The job that `--job` names. Raises `UsageError` or `NotFound` where there is none, `Denied`
    where others could have written it, `Error` with the line for what is wrong in it."""
    file = find(word)
    said, text = _read(file)
    wrong = config_check.check(said, JobFile)
    job = None if wrong else msgspec.convert(said, JobFile)
    if wrong := wrong or (_makes_no_sense(job) if job else None):
        line = config_check.line_of(text, wrong)
        raise Error(f"the job in {file} is wrong: line {line}: {wrong.what}")
    assert job
    return Job(PurePath(file).stem, file, job)


def find(word: str) -> str:
    """The file of the job that a word names."""
    if "/" in word:
        return os.path.normpath(absolute(word))
    if not _NAME.fullmatch(word):
        raise UsageError(
            f"{word!r} is no name of a job: that has letters, digits, '_', '.' and '-' only, and is"
            f" the name of its file without .toml, in {SYSTEM_DIRECTORY}"
        )
    files = [f"{directory}/{word}.toml" for directory in _directories()]
    found = next((file for file in files if os.path.exists(file)), None)
    if found is None:
        raise NotFound(f"there is no job {word!r}: no {' and no '.join(files)}{_there(word)}")
    return found


def _directories() -> list[str]:
    base = os.environ.get("XDG_CONFIG_HOME", "")
    if not base.startswith("/"):  # as its specification has it
        base = os.path.expanduser("~/.config")
    return [f"{base}/virtstore/backup", SYSTEM_DIRECTORY]


def _there(word: str) -> str:
    """Which jobs there are, the one that is probably meant, or how one is made."""
    directories = filter(os.path.isdir, _directories())
    files = sorted({name for directory in directories for name in os.listdir(directory)})
    names = [name.removesuffix(".toml") for name in files if name.endswith(".toml")]
    if meant := difflib.get_close_matches(word.removesuffix(".toml"), names, 1):
        return f"; did you mean {meant[0]}?"
    if names:
        return f"; there are {', '.join(names)}"
    return '. Such a file has at least: sources = ["/dev/vg0/web"] and target = "HOST:/path"'


def _read(file: str) -> tuple[dict[str, Any], str]:
    """What a file says, and its text."""
    try:
        _refuse_shared_directories(file)
        with open(file, "rb") as stream:
            _refuse_shared(file, os.fstat(stream.fileno()))
            text = stream.read().decode()
            return tomllib.loads(text), text
    except FileNotFoundError:
        raise NotFound(f"there is no file {file} with a job") from None
    except OSError as error:
        raise Error(f"the job in {file} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, a number too long to read
        raise Error(
            f"the job in {file} is not TOML: {error}. Each key has a line of its own, and text is"
            " in quotes"
        ) from None


def _refuse_shared_directories(file: str) -> None:
    """Raises `Denied` where somebody else could put another file in the place of this one."""
    parents = {*PurePath(file).parents, *PurePath(os.path.realpath(file)).parents}
    for directory in sorted(map(str, parents)):
        status = os.stat(directory)
        # In one like /tmp nobody can remove or rename what is another's.
        if not status.st_mode & stat.S_ISVTX:
            _refuse_shared(file, status, directory)


def _refuse_shared(file: str, status: os.stat_result, directory: str = "") -> None:
    ours = status.st_uid in (0, os.geteuid())
    if ours and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return
    where = f"the directory {directory}, which it lies in," if directory else "it"
    quoted = shlex.quote(directory or file)
    owner = "" if ours else f"chown {os.geteuid()} {quoted} && "
    raise Denied(
        f"the job in {file} is refused: {where} could be written to by others, and a job has"
        f" commands that are run as you; mend it with: {owner}chmod go-w {quoted}"
    )


def _makes_no_sense(job: JobFile) -> Wrong | None:
    """The first value that has the right kind and makes no sense."""
    for key, texts in (("target", (job.target,)), ("sources", job.sources)):
        for text in texts:
            if why := _no_place(text):
                return Wrong(f"{key}: {why}", key)
    try:
        key = "bwlimit"
        _ = job.bwlimit is not None and parse_rate(job.bwlimit)
        key = "max_age"
        _ = job.max_age is not None and parse_age(job.max_age)
        key = "within"
        _ = job.keep.within is not None and parse_age(job.keep.within)
    except UsageError as error:
        return Wrong(f"{key}: {error.message}", key)
    if job.live and not job.snapshot:
        return Wrong("live = true is one moment by itself: leave snapshot = false out", "snapshot")
    if job.quiesce and not (job.live or job.snapshot):
        return Wrong("quiesce is for that one moment: leave snapshot = false out", "snapshot")
    if job.keep_snapshot and (job.live or not job.snapshot):
        why = "keep_snapshot is for a snapshot: leave live = true and snapshot = false out"
        return Wrong(why, "keep_snapshot")
    return _no_command(job.hooks)


def _no_place(text: str) -> str | None:
    """Why a text is no place of images. Where a timer starts a job there is no directory that a
    path could be relative to."""
    try:
        location = parse_location(text, directory="/")
    except UsageError as error:
        return error.message
    if location.path is None:
        return f"{text!r} is a host as a whole; write the path behind it: {text.rstrip('/')}/…"
    own = text.removeprefix("local:") if location.address.host is None else location.path
    why = unclear(own)
    return f"{text!r} is no whole path: {why}; write /path or HOST:/path" if why else None


def _no_command(hooks: Hooks) -> Wrong | None:
    for key in hooks.__struct_fields__:
        command: str | None = getattr(hooks, key)
        if command is not None and (not command.strip() or "\0" in command):
            return Wrong(
                f"{key} is no command; leave it out where nothing is to run", "hooks", 0, key
            )
    return None
