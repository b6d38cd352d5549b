"""The entry point of `virtstore`: start the agents, then read the command line.

Only a guess is made here, of which agents those are, and of nothing that is done. A wrong
guess costs an agent that gets no request.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Final

from virtstore import ahead, reach
from virtstore.errors import UsageError
from virtstore.location import parse_location

#: The commands that open a session with each of two locations; others do with one.
_WITH_TWO: Final = {"copy": 2, "copy-contents": 2, "diff": 2}
#: What makes the guess wrong: these start other agents, later, or none.
_NOT_WITH: Final = ("--help", "-h", "--version", "--config", "--nice")


def main() -> None:
    """Runs `cli.main`, and exits with its status."""
    status: object = 0
    try:
        _start_agents(sys.argv[1:])
        from virtstore.cli.main import main as run

        run()
    except SystemExit as ended:
        status = ended.code
    except KeyboardInterrupt:  # while it was imported; nothing was asked for yet
        print("virtstore: interrupted", file=sys.stderr)
        status = 130
    finally:
        ahead.end()
    if isinstance(status, int):
        os._exit(status)  # everything is closed and flushed; taking it apart takes longer
    sys.exit(str(status))


def _start_agents(arguments: list[str]) -> None:
    if not arguments or any(argument.startswith(_NOT_WITH) for argument in arguments):
        return
    command, *rest = arguments
    locations = [text for text in rest if text[0:1] != "-" and ("/" in text or ":" in text)]
    with suppress(UsageError, OSError):
        addresses = [parse_location(text).address for text in locations]
        wanted = dict.fromkeys(addresses[: _WITH_TWO.get(command, 1)])
        for address in wanted:
            # ssh may ask for a password: never two of them at once.
            if address.host is None or sum(each.host is not None for each in wanted) == 1:
                ahead.start(reach.agent_argv(address))
