"""What the shells' scripts of completion.py call when somebody presses TAB.

    virtstore complete bash READLINE'S-WORD LINE-UP-TO-THE-CURSOR
    virtstore complete zsh|fish WORD… UNFINISHED-WORD

Prints a candidate a line: for bash what replaces readline's word, for fish a word and what it
means, for zsh a word and how to list it. Whatever goes wrong, there are none; and nobody is asked
anything.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from virtstore.cli.shell_words import Unfinished, split
from virtstore.errors import Error
from virtstore.location import HostAddress, parse_location

#: Seconds after which there is nothing to offer, and those that a host has for its answer.
_PATIENCE: Final = 10.0
_OF_A_HOST: Final = 3.0
#: What a candidate ends with that goes on.
_OPEN: Final = ("/", ":", "=")


def main(arguments: list[str]) -> None:
    """Print the candidates, and end the process."""
    signal.signal(signal.SIGALRM, lambda number, frame: os._exit(0))
    signal.setitimer(signal.ITIMER_REAL, _PATIENCE)
    # An ssh or sudo that is started has nobody whom it could ask for a password.
    with suppress(OSError):
        fcntl.ioctl(os.open("/dev/tty", os.O_RDWR), termios.TIOCNOTTY)
    with suppress(Exception, KeyboardInterrupt):
        sys.stdout.write("".join(f"{line}\n" for line in _lines(*arguments)))
        sys.stdout.flush()
    os._exit(0)  # sessions end when we do


def _lines(shell: str, *words: str) -> Iterator[str]:
    before, word = _typed(shell, *words)
    if address := _host(word.text):
        _start_agent(address)
    from virtstore.cli.candidates import candidates  # takes as long as an agent

    found = [each for each in candidates(before, word.text) if each.text.isprintable()]
    widest = max((len(each.text) for each in found), default=0)
    for text, meaning in found:
        if shell == "bash":
            end = "" if word.quote or text.endswith(_OPEN) else " "
            yield f"{words[0]}{word.continued(text.removeprefix(word.text))}{end}"
        elif shell == "fish":
            yield f"{text}\t{_first_sentence(meaning)}"
        elif meaning:
            yield f"{text}\t{text:<{widest}}  {_first_sentence(meaning)}"
        else:
            yield f"{text}\t{text.rstrip('/').rpartition('/')[2]}{'/' * text.endswith('/')}"


def _first_sentence(text: str) -> str:
    return text.partition(". ")[0].rstrip(".")


def _typed(shell: str, *words: str) -> tuple[list[str], Unfinished]:
    """The words behind `virtstore`, and the one that is not finished."""
    if shell == "bash":
        (_, *before), word = split(words[1])
        return before, word
    *before, begun = words
    # fish gives it as it was typed.
    return before, split(begun)[1] if shell == "fish" else Unfinished(begun, "")


def _host(begun: str) -> HostAddress | None:
    """The host of a path that is typed; None for one on this machine, and for other words."""
    with suppress(Error):
        address = parse_location(begun).address
        return address if address.host else None
    return None


def _start_agent(address: HostAddress) -> None:
    from virtstore.client import prestarted, ssh

    signal.setitimer(signal.ITIMER_REAL, _OF_A_HOST)
    with suppress(Error):
        options = ssh.options_without_questions(address)
        prestarted.start(ssh.session_argv(address, more=options))
