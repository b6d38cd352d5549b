"""Shells at a terminal: what a line becomes when somebody presses TAB at its end.

Host tools needed: bash, zsh, fish.
"""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from virtstore.cli.completion import SCRIPTS

from . import waiting

_READY: Final = "ready-to-type> "
#: The key that has a shell write down its line (Ctrl-X Ctrl-A), and the one that empties it.
_TELL: Final = "\x18\x01"
_CLEAR: Final = "\x15"

_SETTINGS: Final = {
    "bash": """
PS1='{ready}'
bind 'set bell-style none'
bind -x '"\\C-x\\C-a": printf %s "$READLINE_LINE" > {told}.new; mv {told}.new {told}'
""",
    "zsh": """
autoload -Uz compinit && compinit -u -d {directory}/dump
PS1='{ready}'
unsetopt beep prompt_sp
_told() {{ print -rn -- "$BUFFER" > {told}.new; mv {told}.new {told} }}
zle -N _told
bindkey -e
bindkey '^X^A' _told
""",
    "fish": """
function fish_prompt; printf '{ready}'; end
function fish_greeting; end
bind \\cx\\ca 'commandline | string join "" > {told}.new; mv {told}.new {told}'
""",
}


class Shell:
    """A shell that waits for somebody to type."""

    def __init__(self, name: str, fd: int, directory: Path) -> None:
        self._name = name
        self._fd = fd
        self._told = directory / "told"
        self._shown = b""
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def wait(self) -> None:
        """Return once it has shown its first prompt."""
        waiting.until(lambda: _READY.encode() in self._shown, "the shell to be ready")

    @property
    def shown(self) -> str:
        """All that was on the terminal so far."""
        return self._shown.decode(errors="replace")

    def completed(self, line: str, *, tabs: int = 1) -> str:
        """What a line becomes by a TAB at its end."""
        self._told.unlink(missing_ok=True)
        os.write(self._fd, f"{_CLEAR}{line}{tabs * chr(9)}{_TELL}".encode())
        waiting.until(self._told.exists, f"the shell to complete {line!r}")
        return self._told.read_text().removesuffix("\n")  # which fish ends it with

    def words(self, line: str) -> list[str]:
        """The words of a line, as the shell reads it."""
        command = f"printf '%s\\n' {line}"
        ran = subprocess.run([self._name, "-c", command], check=True, capture_output=True)
        return ran.stdout.decode().splitlines()

    def close(self) -> None:
        """Forget the terminal, once nothing is on it any more."""
        self._reading.join(waiting.PATIENCE)
        os.close(self._fd)  # not while it is read: its number may be another's by then

    def _read(self) -> None:
        try:
            while more := os.read(self._fd, 1 << 16):
                self._shown += more
        except OSError:
            return  # the shell has ended


@contextmanager
def shell(
    name: str, directory: Path, environment: Mapping[str, str], script: str = ""
) -> Iterator[Shell]:
    """A shell in an empty `directory`, from its first prompt to its end. `script`: what is to be
    read in place of what `virtstore completion` prints."""
    settings = directory / ("settings" if name != "zsh" else ".zshrc")
    told = _SETTINGS[name].format(ready=_READY, told=directory / "told", directory=directory)
    settings.write_text(script + told + ("" if script else SCRIPTS[name]))
    argv = {
        "bash": ["bash", "--noprofile", "--rcfile", str(settings), "-i"],
        "zsh": ["zsh", "-d", "-i"],
        "fish": ["fish", "--no-config", "-i", "-C", f"source {settings}"],
    }[name]
    found = shutil.which(argv[0])
    assert found, f"{name} is not installed"
    pid, fd = pty.fork()
    if pid == 0:
        # fish makes its directory of sockets where it is not told of any.
        sockets = {"XDG_RUNTIME_DIR": f"{directory}/run"}
        own = {"TERM": "dumb", "ZDOTDIR": str(directory)}
        os.execve(found, argv, {**sockets, **environment, **own})
    typed = Shell(name, fd, directory)
    try:
        typed.wait()
        yield typed
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        typed.close()
