"""The entry point of `virtstore`: start the agents, then read the command line.

Only a guess is made here, of which agents those are, and of nothing that is done. A wrong
guess costs an agent that gets no request.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from typing import Final

from virtstore import streams
from virtstore.cli import signals
from virtstore.cli.commands import COMMANDS, Group
from virtstore.client import prestarted, ssh
from virtstore.errors import Error, Interrupted
from virtstore.location import LOCAL, HostAddress, parse_host, parse_location

#: What makes the guess wrong: these start other agents, later, or none.
_NOT_WITH: Final = ("--help", "-h", "--version", "--config", "--nice", "--job", "-j")


def main() -> None:
    """Runs `cli.main`, and ends the process with its status."""
    streams.prepare()
    if sys.argv[1:2] == ["complete"]:
        from virtstore.cli.complete import main as complete

        complete(sys.argv[2:])
    signals.install()
    status = 0
    try:
        _start_agents(sys.argv[1:])
        from virtstore.cli.main import main as run

        run()
    except SystemExit as ended:
        status = int(ended.code or 0)
    except KeyboardInterrupt:  # while it was imported; nothing was asked for yet
        from virtstore.cli.render import print_error

        print_error(Interrupted("interrupted"), as_json="--json" in sys.argv)
        status = Interrupted.exit_status
    finally:
        prestarted.end()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)  # everything is closed; taking the interpreter apart takes longer


def _start_agents(arguments: list[str]) -> None:
    verb = next((argument for argument in arguments if argument in COMMANDS), None)
    if verb is None or any(argument.startswith(_NOT_WITH) for argument in arguments):
        return
    command = COMMANDS[verb]
    words = [text for text in arguments if text[0:1] != "-" and text != verb]
    locations = [text for text in words if re.search("[:/]", text)]
    with suppress(Error, OSError):
        meant = words if command.group is Group.HOSTS else locations
        if command.at_once and len({_host_of(text) for text in meant}) > 1:
            return  # each is asked by an ssh with other options
        if not command.copies:
            locations = locations[: command.locations]
        addresses = [parse_location(text).address for text in locations]
        if len(addresses) < command.locations:
            return  # a name without a slash is somewhere: what is opened may be another session
        wanted = set(addresses)
        far = [address for address in wanted if address.host is not None]
        if len(far) == 1:  # ssh may ask for a password: never two of them at once
            between = command.copies and len(wanted) == 2
            much = between or command.reads
            prestarted.start(ssh.session_argv(far[0], moves_much=much))
        if LOCAL in wanted:
            prestarted.start(ssh.session_argv(LOCAL))


def _host_of(text: str) -> HostAddress:
    return parse_location(text).address if re.search("[:/]", text) else parse_host(text)
