"""What both programs do first: three open standard streams, and UTF-8 whatever the locale.

A descriptor below 3 that is closed is the next one to be given out, and what is then written
to standard error goes into an image. And Python decodes the words of a command line, and
names of files, by the locale: in one that is not UTF-8 a name would become another one on its
way to a host whose locale is. It decides that before any of our code runs (PEP 540), so the
interpreter is started once more there; in a UTF-8 locale, and in C and POSIX, it is not.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Final

_NAMES: Final = ("stdin", "stdout", "stderr")


def prepare() -> None:
    """Open the standard streams that are closed (what is written there is lost), and see to it
    that words and names are UTF-8. Does not return where the interpreter is started anew."""
    for fd, name in enumerate(_NAMES):
        _keep_open(fd, name)
    if sys.getfilesystemencoding() != "utf-8" and "utf8" not in sys._xoptions:
        _start_anew()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
            with suppress(LookupError):  # one that Python does not know
                stream.reconfigure(encoding=_encoding(stream), errors="backslashreplace")


def _keep_open(fd: int, name: str) -> None:
    try:
        os.fstat(fd)
    except OSError:
        # The lowest number that is free is this one: those below are open.
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if getattr(sys, name) is None:
        stream = os.fdopen(fd, "r" if fd == 0 else "w", encoding="utf-8", closefd=False)
        setattr(sys, name, stream)


def _start_anew() -> None:
    """The same command line, byte for byte, with an interpreter in UTF-8 mode."""
    with suppress(OSError), open("/proc/self/cmdline", "rb") as stream:
        words = stream.read().split(b"\0")[:-1]
        if sys.executable and words:
            os.execv(sys.executable, [words[0], b"-X", b"utf8", *words[1:]])


def _encoding(stream: io.TextIOWrapper) -> str:
    """UTF-8, but on a terminal that shows less than that: what it cannot show is escaped."""
    if sys.flags.utf8_mode and stream.isatty():
        import locale  # few need it

        return locale.getencoding()
    return "utf-8"
