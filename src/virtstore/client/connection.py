"""One session with an agent, on the standard input and output of a process of ours.

Opening it ends with the agent's hello: what goes wrong before that (no such host, a
refused key, no agent there, one of another version, a login script that prints) is told
apart here. A session belongs to one thread at a time; closing it ends the agent, whatever
that was doing.
"""

from __future__ import annotations

import os
import select
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

from virtstore.channel import Channel
from virtstore.client import complaints, prestarted
from virtstore.client.answers import check_progress
from virtstore.errors import WHO_CLEANS, ConnectionFailed, from_code
from virtstore.frames import Nonsense
from virtstore.protocol import (
    OLDEST,
    PREAMBLE,
    PROTOCOL,
    SILENCE,
    STAGES,
    Alive,
    Failure,
    Frame,
    Hello,
    Message,
    Progressed,
    Unknown,
)
from virtstore.text import printable
from virtstore.version import __version__

#: Seconds that an agent has to end after its session was closed.
_PATIENCE = 4.0
#: Seconds between two looks at whether what has not begun was ended.
_LOOK = 0.5
#: Bytes of what is said in place of a session.
_REST = 8 << 10


class Connection:
    """A running agent. `name`: the host's, for messages; `verbose`: show how the agent was started,
    when it answered, and its log. `handed_over`: descriptors of ours that a local agent has, too.
    `begun` gets the connection before the agent has said anything, and may refuse it. `owed`: the
    agent has to say something next. `may_write`: it may have been asked to write."""

    def __init__(
        self,
        argv: list[str],
        name: str,
        *,
        verbose: bool = False,
        handed_over: Sequence[int] = (),
        begun: Callable[[Connection], None] = lambda connection: None,
    ) -> None:
        self.name = name
        self._verbose = verbose
        self.version = ""  # the agent's
        self.features: tuple[str, ...] = ()  # the agent's
        self.own_name = ""  # what the host calls itself, if the agent says so
        #: Seconds from the start of what reaches the host to its agent's hello.
        self.login = 0.0
        self._said: deque[str] = deque(maxlen=40)
        self.heard: Callable[[Progressed], None] | None = None
        self._began = time.monotonic()
        self._failure: BaseException | None = None  # of a thread of ours
        self.owed = True
        self.may_write = True
        self._listening = threading.Lock()
        # When the agent was last known to get on, and what of ours it had received by then.
        self._moved = time.monotonic()
        self._taken = 0
        self._sending = False
        self._note(f"started by: {shlex.join(argv)}")
        try:
            self._process = prestarted.take(argv, handed_over)
        except OSError as error:
            raise ConnectionFailed(f"{argv[0]}: {error.strerror}", host=name) from None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # The channel owns its end: taken from the Popen object, so that nothing closes it twice.
        self.channel = Channel(self._process.stdout.fileno(), os.dup(self._process.stdin.fileno()))
        self._process.stdin.close()
        self._log = threading.Thread(target=self._follow_log, name=f"log of {name}", daemon=True)
        self._log.start()
        try:
            begun(self)
            self._greet()
        except BaseException:
            self.close()
            raise

    def send(self, message: Message, payload: bytes = b"") -> None:
        """Raises `ConnectionFailed`, or what the agent failed with before it went."""
        self._moved, self._sending = time.monotonic(), True
        try:
            self.channel.send(message, payload)
        except ConnectionFailed:
            while self._listening.acquire(blocking=False):  # else another thread hears it
                self._listening.release()
                self.receive()
            self._fail_with_log()
        finally:
            self._sending = False

    def receive(self) -> Frame:
        """The next message that is no failure; a failure is raised as the error it names.
        Progress goes to `heard`, where that is set. Raises `ConnectionFailed` if the agent has
        gone, or is there and does nothing, and `Untrue` for progress that cannot be."""
        while True:
            frame = self._next()
            message = frame[0]
            if isinstance(message, Failure):
                raise from_code(message.code, message.message, host=self.name, path=message.path)
            if not isinstance(message, Progressed) or not self.heard:
                return frame
            check_progress(message, self.name)
            self.heard(message)

    def _next(self) -> Frame:
        with self._listening:
            self._moved = time.monotonic()
            try:
                frame = self.channel.receive(self._alive)
            except Nonsense as error:
                if not error.began.isascii():  # a message that was damaged, or another peer's
                    raise ConnectionFailed(error.message, host=self.name) from None
                text = error.began + self.channel.rest(_REST, 0.5)
                raise ConnectionFailed(complaints.amid(text), host=self.name) from None
            except ConnectionFailed as error:
                error.host = self.name
                raise
        if frame is None:
            self._fail_with_log()
        if isinstance(frame[0], Unknown):
            raise ConnectionFailed(
                f"its agent (virtstore {self.version}) answered with {frame[0].lacks}, which is"
                f" not known here (virtstore {__version__}). Install the same version at both ends",
                host=self.name,
            )
        return frame

    def end(self) -> None:
        """End the session, and every process of it that is ours. Threads that wait for the agent
        are told that it has gone. What has not reached the agent yet does not see that we end: it
        is told by a signal."""
        self.channel.close()
        if not self.version:
            with suppress(PermissionError):  # such as sudo
                self._process.terminate()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def close(self) -> None:
        """End the session, and close its descriptors."""
        self.end()
        self._log.join(1)
        self._note(f"session ended, after {time.monotonic() - self._began:.2f} s")
        for stream in (self._process.stdout, self._process.stderr):
            if stream:
                stream.close()

    def _greet(self) -> None:
        greeting = self._read_greeting()
        if greeting != PREAMBLE:
            self._fail_to_start(greeting)
        frame = self.channel.receive()
        if frame is None or not isinstance(frame[0], Hello):
            self._fail_with_log("no session could be opened")
        hello = frame[0]
        self.version, self.features = hello.version, hello.features
        self.own_name = hello.host
        if not hello.understood:
            raise ConnectionFailed(
                f"its agent is virtstore {hello.version}, which speaks protocol {hello.protocol};"
                f" this is virtstore {__version__}, which speaks {PROTOCOL}. Install the same"
                " version at both ends",
                host=self.name,
            )
        self.login = time.monotonic() - self._began
        what = f"virtstore {hello.version}, protocol {hello.protocol}"
        self._note(f"{what}, after {self.login:.2f} s")
        self.channel.send(
            Hello(__version__, PROTOCOL, OLDEST, features=(STAGES,), verbose=self._verbose)
        )
        self.channel.keep_alive(self._fail)

    def _read_greeting(self) -> bytes:
        """What answers first. ssh may be asking for a passphrase, so there is no time limit; but an
        ended session waits for nobody, such as a process of ssh's that has the pipe open."""
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        data = b""
        while len(data) < len(PREAMBLE) and PREAMBLE.startswith(data):
            if poll.poll(_LOOK * 1000):
                if not (more := os.read(fd, len(PREAMBLE) - len(data))):
                    break
                data += more
            elif self.channel.is_closed:
                break
        return data

    def _alive(self, alive: Alive) -> None:
        """Note that the agent is there, and raise where it gets nothing done. A disk may take its
        time, and a link may; but not an agent that has heard all that was said, has to say
        something, and works at nothing."""
        now = time.monotonic()
        taken = min(alive.received, self.channel.said)
        if alive.busy or taken > self._taken:
            self._moved, self._taken = now, taken
        elif (self.owed or self._sending) and now - self._moved > SILENCE:
            raise ConnectionFailed(
                f"its agent is there, but has done nothing for {SILENCE:.0f} s of what it was"
                " asked; what was half-done is listed as partial: try again, and look there for"
                " what keeps it (ps, dmesg)",
                host=self.name,
            )

    def _fail(self, error: BaseException) -> None:
        """Note that a thread of the session has failed: without it there is no session."""
        self._failure = error
        self.channel.close()

    def _fail_to_start(self, greeting: bytes) -> NoReturn:
        """Raise why there is no agent, as far as that can be known."""
        text = greeting + self.channel.rest(_REST, 2) if greeting else b""
        self.channel.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE)
        if text:
            self._log.join(1)
            told = complaints.before(text, list(self._said), self._process.returncode)
            raise ConnectionFailed(told, host=self.name)
        if self._process.returncode in (126, 127):
            words = self._last_words() or self._last_words(_PATIENCE)  # a shell says something
            raise ConnectionFailed(
                f"there is no agent there{f' ({words})' if words else ''}; 'virtstore install"
                f" {self.name}' puts it there, and VIRTSTORE_AGENT or hosts.toml say where it is"
                " otherwise",
                host=self.name,
            )
        self._fail_with_log("no session could be opened", "its agent ended without a word")

    def _fail_with_log(self, what: str | None = None, without: str = "") -> NoReturn:
        """Raise with what the host said last, or with `without` where it said nothing. `what`: what
        could not be done, of a session that had not begun."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        self._log.join(1)
        words = self._last_words() or without
        if self._failure:
            raise ConnectionFailed(f"the session was ended here: {self._failure!r}", host=self.name)
        told = f"{what or 'the agent went away'}{': ' if words else ''}{words}"
        if what is None and self.may_write:
            told += "\n" if "\n" in words else "; "
            told += (
                "if it was writing an image, what there is of it stays, listed as partial: the same"
                f" command goes on with it, and {WHO_CLEANS}"
            )
        if remedy := complaints.remedy(list(self._said)):
            told += f"\n{remedy}" if "\n" in words else f"; {remedy}"
        raise ConnectionFailed(told, host=self.name)

    def _last_words(self, seconds: float = 1) -> str:
        self._log.join(seconds)
        return complaints.shown(list(self._said))

    def _follow_log(self) -> None:
        assert self._process.stderr is not None
        try:
            for line in self._process.stderr:
                text = printable(line.strip())
                if text:
                    self._said.append(text)
                self._note(text)
        except (OSError, ValueError):
            return  # it was closed
        except BaseException as error:
            self._fail(error)

    def _note(self, text: str) -> None:
        """Show a line to a user who asked for `verbose`."""
        if self._verbose and sys.stderr:
            with suppress(OSError, ValueError):  # an agent whose log nobody reads stops
                sys.stderr.write(f"{self.name}: {printable(text)}\n")  # at once, line for line
