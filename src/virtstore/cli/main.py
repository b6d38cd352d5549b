"""`virtstore`: the command line. It parses, calls the public API and renders; what goes
wrong becomes one message and one exit status, never a traceback."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from typing import Final

from cyclopts import App, CycloptsError, Parameter

from virtstore.cli.commands import COMMANDS, COMMON, verb_first
from virtstore.cli.render import print_error
from virtstore.cli.usage import refuse_no_verb, usage_error
from virtstore.errors import Error, Interrupted
from virtstore.version import __version__

app: Final = App(
    name="virtstore",
    help="Disk images of virtual machines, on any Linux host that ssh reaches."
    "\n\nA LOCATION is /path, HOST:/path or ssh://[USER@]HOST[:PORT]/path.",
    version=__version__,
    version_flags=["--version"],
    help_flags=["--help", "-h"],
    default_parameter=Parameter(show_default=False),
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # it is ours to report
)
for _name, _command in COMMANDS.items():
    _module, _function = _command.function.split(":")
    app.command(getattr(import_module(f"virtstore.cli.{_module}"), _function), name=_name)


def main() -> None:
    """The entry point; exits with a status of the table in errors.py."""
    arguments = verb_first(sys.argv[1:], _has_value)
    as_json = "--json" in arguments
    try:
        refuse_no_verb(arguments)
        status = app(arguments or ["--help"], exit_on_error=False, print_error=False)
        sys.stdout.flush()
        if status:  # nothing went wrong, and there is something to tell
            sys.exit(status)
    except Error as error:
        _exit(error, as_json)
    except CycloptsError as error:
        _exit(usage_error(app, error, arguments), as_json)
    except KeyboardInterrupt:
        _exit(_INTERRUPTED, as_json)
    except BrokenPipeError:
        sys.exit(1)  # whoever read our output has seen enough
    except OSError as error:
        _exit(Error(f"what was done, if anything, could not be told: {error.strerror}"), as_json)


def _has_value(option: str) -> bool:
    """Whether an option that stands before the verb has its value in the next word."""
    if option in COMMON or "=" in option:
        return COMMON.get(option, False)
    return option in {  # it takes long to find out
        name
        for command in COMMANDS
        for argument in app[command].assemble_argument_collection()
        if argument.token_count()[0]
        for name in argument.names
    }


_INTERRUPTED: Final = Interrupted(
    "interrupted; what was half-done is cleaned up or listed as partial: the same command goes"
    " on with it, 'virtstore clean' removes it"
)


def _exit(error: Error, as_json: bool) -> None:
    """Print an error and exit with its status. The error goes to where its reader looks, else to
    standard error, else nowhere."""
    for json in (True, False) if as_json else (False,):
        with suppress(OSError):
            print_error(error, as_json=json)
            sys.stdout.flush()
            break
    sys.exit(error.exit_status)
