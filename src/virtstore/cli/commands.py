"""The commands: where each is, and what can be known of it before that is imported.

A command is a function of this package, whose docstring tells all that people are told of it:

    <one line: what it does>

    <more, in paragraphs>

    Parameters
    ----------
    location
        …

    Examples
    --------
    virtstore grow a:/mnt/images/web.img 20G
    virtstore grow a:/dev/vg0/web +5G            # five more

`--help`, the manual, the completion and the reference are all made of that (pages.py), so a new
command is a function and a line here. Its module is imported when the command is called.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class Group(StrEnum):
    """What people want to do, in the order in which `virtstore --help` tells it."""

    LOOK = "Look at images"
    CHANGE = "Make, change and remove images"
    RESIZE = "Resize images and what is in them"
    COPY = "Copy and back up"
    HOSTS = "Hosts"
    ITSELF = "virtstore itself"


class Command(NamedTuple):
    """`function`: where it is in this package. `locations`: on how many it opens a session, if
    they are on different hosts. `copies`: whether an image moves between two. `pipes`:
    whether a location may be -, which is standard input or output. `reads`: whether much of an
    image may come here. `at_once`: whether several hosts are asked at the same time."""

    function: str
    group: Group
    locations: int = 1
    copies: bool = False
    pipes: bool = False
    reads: bool = False
    at_once: bool = False


COMMANDS: Final[dict[str, Command]] = {
    "list": Command("looking:list_", Group.LOOK, at_once=True),
    "info": Command("looking:info", Group.LOOK, at_once=True),
    "verify": Command("looking:verify", Group.LOOK),
    "diff": Command("looking:diff", Group.LOOK, locations=2),
    "export": Command("exporting:export", Group.LOOK, reads=True),
    "files": Command("files:files", Group.LOOK),
    "extract": Command("files:extract", Group.LOOK, pipes=True, reads=True),
    "create": Command("images:create", Group.CHANGE),
    "snapshot": Command("images:snapshot", Group.CHANGE),
    "rename": Command("images:rename", Group.CHANGE),
    "delete": Command("images:delete", Group.CHANGE),
    "clean": Command("images:clean", Group.CHANGE),
    "resize": Command("resizing:resize", Group.RESIZE),
    "grow": Command("images:grow", Group.RESIZE),
    "shrink": Command("images:shrink", Group.RESIZE),
    "growfs": Command("resizing:growfs", Group.RESIZE),
    "shrinkfs": Command("resizing:shrinkfs", Group.RESIZE),
    "copy": Command("copying:copy", Group.COPY, locations=2, copies=True, pipes=True),
    "copy-contents": Command("copying:copy_contents", Group.COPY, locations=2, copies=True),
    # It logs in to each host itself, over a connection for all of its images.
    "backup": Command("backing_up:backup", Group.COPY, locations=0),
    "restore": Command("restoring:restore", Group.COPY, locations=0),
    "compress": Command("copying:compress", Group.COPY),
    "uncompress": Command("copying:uncompress", Group.COPY),
    "backups": Command("backups:backups", Group.COPY),
    "prune": Command("backups:prune", Group.COPY),
    "storage-info": Command("looking:storage_info", Group.HOSTS, at_once=True),
    "jobs": Command("examining:jobs", Group.HOSTS, at_once=True),
    "doctor": Command("examining:doctor", Group.HOSTS, locations=0),
    "install": Command("installing:install", Group.HOSTS, locations=0),
    "uninstall": Command("installing:uninstall", Group.HOSTS, locations=0),
    "completion": Command("itself:completion", Group.ITSELF, locations=0),
    "help": Command("itself:help_", Group.ITSELF, locations=0),
}


HELP: Final = frozenset({"--help", "-h"})
#: The options that need no command.
ALONE: Final = HELP | {"--version"}
