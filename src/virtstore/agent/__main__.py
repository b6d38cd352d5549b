"""`virtstore-agent`: serves one session on its standard input and output.

Started by `virtstore`, over ssh or as a child process; not meant for a person's hands,
but for the `command=` of an authorized key: `--restrict-to` and `--access` only ever narrow
what the configuration allows.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable
from typing import Any, Final, NoReturn

from virtstore import linux, streams
from virtstore.agent import caller, config, signals
from virtstore.agent.operations import Handler
from virtstore.agent.policy import LEVELS, Policy
from virtstore.agent.serve import serve
from virtstore.errors import Error
from virtstore.protocol import Ask
from virtstore.version import __version__

#: Bytes of the largest buffers, of a chunk and a little more, and of what is kept of them.
_BUFFER: Final = 2 << 20
_FREE: Final = 32 << 20


def main() -> None:
    streams.prepare()
    arguments = parser().parse_args()

    def load() -> Policy:
        least = min(arguments.access or ["write"], key=LEVELS.__getitem__)
        return Policy(config.load(arguments.config), arguments.restrict_to, least)

    run(load, verbose=arguments.verbose)


def run(
    load: Callable[[], Policy],
    find: Callable[[type[Ask[Any]]], Handler] | None = None,
    *,
    verbose: bool = False,
) -> NoReturn:
    """Serve one session on standard input and output (see `serve.serve`), and end the process."""
    signalled = signals.install()
    caller.drop_foreign_environment()
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.WARNING,
        format="virtstore-agent: %(message)s",
        stream=sys.stderr,
    )
    # 0 and 1 are the session: nothing else, and no tool, may read or write there.
    reading, writing = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.umask(0o077)
    linux.keep_freed_memory(_BUFFER, _FREE)
    try:
        serve(load, reading, writing, signalled, find)
    except Error as error:
        logging.getLogger("virtstore.agent").error("%s", error)
        os._exit(1)
    os._exit(0)  # threads that still work for a client that has gone must not keep us


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="virtstore-agent", description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="read this instead of the host's configuration (not by sudo and its like)",
    )
    parser.add_argument(
        "--restrict-to",
        metavar="PATH",
        action="append",
        default=[],
        help="allow nothing outside PATH, an absolute one (may be given more than once)",
    )
    parser.add_argument(
        "--access",
        action="append",
        choices=tuple(LEVELS),
        help="allow no more than this, whatever the configuration says (of several the least)",
    )
    parser.add_argument("--verbose", action="store_true", help="log more to standard error")
    parser.add_argument("--version", action="version", version=f"virtstore-agent {__version__}")
    return parser


if __name__ == "__main__":
    main()
