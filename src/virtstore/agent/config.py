"""The host's configuration: what its administrator allows virtstore to touch.

`/etc/virtstore/config.toml` and then `/etc/virtstore/conf.d/*.toml`; for an agent run
without root `$XDG_CONFIG_HOME/virtstore/config.toml` where that exists; another file with
`--config` or `VIRTSTORE_CONFIG`, where whoever says so is the agent's own user (caller.py).
Nothing that a client says is read here.

The agent refuses to work where any part of the configuration is wrong. Wrong are an unknown key, a
value that makes no sense, a file that others could have written, and one that lies among images.
"""

from __future__ import annotations

import glob
import logging
import os
import shlex
import stat
import tomllib
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import PurePath
from typing import Any, Final

import msgspec

from virtstore import config_check
from virtstore.agent import caller
from virtstore.backends.kinds import KINDS, Root, WrongValue
from virtstore.config_check import Wrong
from virtstore.errors import Denied, Error
from virtstore.location import own_home, plain_path, within
from virtstore.units import parse_size

log: Final = logging.getLogger("virtstore.agent")

SYSTEM_FILE: Final = "/etc/virtstore/config.toml"
SYSTEM_DIRECTORY: Final = "/etc/virtstore/conf.d"


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    max_image_size: str | int | None = None
    mount_guest_filesystems: bool = False

    @cached_property
    def largest(self) -> int | None:
        """Bytes; None: no limit. Raises `Error` for what is no size."""
        return None if self.max_image_size is None else parse_size(self.max_image_size)


class Config(msgspec.Struct, frozen=True):
    """All that was configured. `log`: where requests are written down, see journal.py. `sources`:
    the files that were read; `file_to_write`: where an administrator would add to it; `ignored`:
    what names a file and does not count here."""

    roots: tuple[Root, ...] = ()
    limits: Limits = Limits()
    log: str = "journal"
    sources: tuple[str, ...] = ()
    file_to_write: str = SYSTEM_FILE
    ignored: str = ""


#: Where requests may be written down (journal.py), beside a file.
LOGS: Final = ("journal", "syslog", "none")

#: What a file may say: any number of tables of each kind of root, one of limits, and `log`.
_Said: Final = msgspec.defstruct(
    "_Said",
    [
        *((kind.section, tuple[kind, ...], ()) for kind in KINDS),  # type: ignore[valid-type]
        ("limits", Limits, Limits()),
        ("log", str, "journal"),
    ],
    frozen=True,
    forbid_unknown_fields=True,
)


def load(explicit: str | None) -> Config:
    """The configuration in force; `explicit` is what `--config` named. No file at all gives
    an empty configuration, which allows nothing. Raises `Error` or `Denied`."""
    merged: dict[str, Any] = {}
    files = configuration_files(explicit)
    paths: set[str] = set()
    for file in files:
        said, text = _read(file)
        wrong = config_check.check(said, _Said)
        if wrong := wrong or _wrong_value(msgspec.convert(said, _Said), paths):
            line = f"line {config_check.line_of(text, wrong)}: {wrong.what}"
            line = line if len(files) == 1 else f"{file}, {line}"
            raise Error(f"the configuration in {' and '.join(files)} is wrong: {line}")
        _merge(merged, said)
    whole: Any = msgspec.convert(merged, _Said)
    roots = tuple(root for kind in KINDS for root in getattr(whole, kind.section))
    write = files[0] if files else _file_to_write()
    config = Config(roots, whole.limits, whole.log, files, write, _ignored())
    _refuse_among_images(files, roots)
    return config


def _wrong_value(said: Any, paths: set[str]) -> Wrong | None:
    """The first value in one file that makes no sense. `paths`: the roots of all files so far."""
    for kind in KINDS:
        for index, root in enumerate(getattr(said, kind.section)):
            try:
                root.check()
            except WrongValue as error:
                return Wrong(error.message, kind.section, index, error.key)
            if (path := plain_path(root.path)) in paths:
                what = f"{kind.section} {root.path!r} is there twice"
                return Wrong(what, kind.section, index, kind.__struct_fields__[0])
            paths.add(path)
    try:
        _ = said.limits.largest
    except Error as error:
        return Wrong(error.message, "limits", key="max_image_size")
    if said.log not in LOGS and not said.log.startswith("/"):
        words = ", ".join(f'"{word}"' for word in LOGS)
        return Wrong(f"log is {said.log!r}; it is {words} or the whole path of a file", "log")
    return None


def configuration_files(explicit: str | None) -> tuple[str, ...]:
    """The files that count, in order. One that was named must exist; others need not. Raises
    `Denied` for one that somebody else named on the command line."""
    if explicit is not None:
        _refuse_foreign(explicit)
        return (explicit,)
    named = os.environ.get("VIRTSTORE_CONFIG")
    if named and caller.environment_counts():
        return (named,)
    if why := _ignored():
        log.warning("%s", why)
    if os.geteuid() != 0 and os.path.exists(own := own_file()):
        return (own,)
    return _system_files()


def own_file() -> str:
    """Where an agent without root looks first."""
    if not caller.environment_counts():
        return f"{own_home()}/.config/virtstore/config.toml"
    base = os.environ.get("XDG_CONFIG_HOME", "")
    if not base.startswith("/"):  # as its specification has it
        base = os.path.expanduser("~/.config")
    return f"{base}/virtstore/config.toml"


def _system_files() -> tuple[str, ...]:
    found = [SYSTEM_FILE] if os.path.exists(SYSTEM_FILE) else []
    found += sorted(glob.glob(f"{SYSTEM_DIRECTORY}/*.toml", include_hidden=True))
    return tuple(found)


def _refuse_foreign(explicit: str) -> None:
    if not explicit:
        raise Denied("--config is given without a file's name, so nothing is allowed")
    if other := caller.another():
        raise Denied(
            f"--config {explicit} is refused: this agent was started by somebody else than the"
            f" user that it runs as ({other}), who may not choose its configuration. Leave it out;"
            f" what this host allows is in {SYSTEM_FILE} and {SYSTEM_DIRECTORY}/*.toml there."
            " Its administrator may name another file in a shell of that user (sudo -i)"
        )


def _ignored() -> str:
    """That a variable does not say which file counts, and why; nothing where none would."""
    if not os.environ.get("VIRTSTORE_CONFIG") or caller.environment_counts():
        return ""
    if other := caller.another():
        return f"VIRTSTORE_CONFIG is ignored, as somebody else started this agent: {other}"
    return (
        "VIRTSTORE_CONFIG is ignored, as it may be the ssh client's: the command= of its key may"
        " have --config FILE"
    )


def _refuse_among_images(files: tuple[str, ...], roots: Iterable[Root]) -> None:
    """Raises `Denied` for a configuration that lies below a root, where anybody who may upload an
    image could have made it; also below one of the host's own, where another file was named."""
    paths = [root.path for root in roots]
    for file in set(_system_files()) - set(files):
        with suppress(Error):  # that is for whom it concerns
            said = _read(file)[0].get("directory")
            tables = said if isinstance(said, list) else []
            paths += [str(each.get("path")) for each in tables if isinstance(each, dict)]
    for file in files:
        for root in paths:
            if _lies_below(file, root):
                ours = file in _system_files() or within(SYSTEM_FILE, root)
                remedy = "configure another directory" if ours else f"move it to {SYSTEM_FILE}"
                raise Denied(
                    f"the configuration {file} lies below {root}, a directory of images, and so"
                    f" could be an image that somebody uploaded; {remedy}"
                )


def _lies_below(file: str, directory: str) -> bool:
    """Whether a directory holds a file at any depth, by whatever links and mounts either of them
    is named."""
    with suppress(OSError):
        wanted = os.stat(directory)
        return any(
            os.path.samestat(os.stat(parent), wanted)
            for parent in PurePath(os.path.realpath(file)).parents
        )
    return False


def _file_to_write() -> str:
    """Where an administrator would configure this agent, if nothing is configured."""
    return SYSTEM_FILE if os.geteuid() == 0 else own_file()


def _read(file: str) -> tuple[dict[str, Any], str]:
    """What a file says, and its text."""
    try:
        with open(file, "rb") as stream:
            status = os.fstat(stream.fileno())
            if status.st_uid not in (0, os.geteuid()) or status.st_mode & (
                stat.S_IWGRP | stat.S_IWOTH
            ):
                quoted = shlex.quote(file)
                raise Denied(
                    f"the configuration {file} could have been written by others; mend it with:"
                    f" chown {os.geteuid()} {quoted} && chmod go-w {quoted}"
                )
            text = stream.read().decode()
            return tomllib.loads(text), text
    except OSError as error:
        raise Error(f"the configuration {file} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, a number too long to read
        raise Error(
            f"the configuration {file} is not TOML: {error}. Each [[table]] and each key has a"
            " line of its own, and text is in quotes"
        ) from None


def _merge(merged: dict[str, Any], more: dict[str, Any]) -> None:
    """Roots of a later file are added; a limit of a later file replaces an earlier one."""
    for key, value in more.items():
        if isinstance(value, list) and isinstance(merged.get(key), list):
            merged[key] = merged[key] + value
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = {**merged[key], **value}
        else:
            merged[key] = value
