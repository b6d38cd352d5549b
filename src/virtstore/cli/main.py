"""`virtstore`: the command line. It parses, calls the public API and renders; what goes
wrong becomes one message and one exit status, never a traceback."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Final

from virtstore.cli.commands import COMMANDS, HELP
from virtstore.cli.words import refuse_no_command, verb_first
from virtstore.errors import WHO_CLEANS, Error, Interrupted
from virtstore.version import OLDEST, PROTOCOL, __version__


def main() -> None:
    """The entry point; exits with a status of the table in errors.py."""
    as_json = "--json" in sys.argv
    try:
        status = _run(sys.argv[1:])
        sys.stdout.flush()
        if status:  # nothing went wrong, and there is something to tell
            sys.exit(status)
    except Error as error:
        _exit(error, as_json)
    except KeyboardInterrupt:
        _exit(_INTERRUPTED, as_json)
    except BrokenPipeError:
        sys.exit(1)  # whoever read our output has seen enough
    except OSError as error:
        _exit(Error(f"what was done, if anything, could not be told: {error.strerror}"), as_json)


def _run(typed: list[str]) -> int | None:
    """Do what a command line asks for. Returns the exit status, if there is something to tell."""
    words = verb_first(typed)
    if "--version" in words and set(words) <= {"--version", "--json"}:
        print(_versions() if "--json" in words else __version__)
    elif not words or words[0] in HELP or (words[0] in COMMANDS and HELP & {*words}):
        _help(words[0] if words and words[0] in COMMANDS else None, "--json" in words)
    else:
        refuse_no_command(words)
        from virtstore.cli.parsing import call

        return call(words[0], words[1:])
    return None


def _help(verb: str | None, as_json: bool) -> None:
    """Tell of a command, or of all."""
    if as_json:
        from virtstore.cli.itself import help_
        from virtstore.cli.options import Common

        help_(verb, options=Common(json=True))
    else:
        from virtstore.cli.help import told  # that is all that most need

        print(told(verb))


def _versions() -> str:
    """What says whether an agent or a client of another version would understand this one."""
    import json

    python = ".".join(map(str, sys.version_info[:3]))
    told = {"version": __version__, "protocol": PROTOCOL, "oldest_protocol": OLDEST}
    return json.dumps({**told, "python": python}, indent=2)


_INTERRUPTED: Final = Interrupted(
    "interrupted; what was half-done is cleaned up or listed as partial: the same command goes"
    f" on with it, and {WHO_CLEANS}"
)


def _exit(error: Error, as_json: bool) -> None:
    """Print an error and exit with its status. The error goes to where its reader looks, else to
    standard error, else nowhere."""
    from virtstore.cli.render import print_error

    for json in (True, False) if as_json else (False,):
        with suppress(OSError):
            print_error(error, as_json=json)
            sys.stdout.flush()
            break
    sys.exit(error.exit_status)
