"""The sessions with one host's agent, and what is asked in them.

The first is opened when it is first needed, and kept. A request that finds it busy has a session of
its own, and so has whatever moves an image.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import weakref
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager

from virtstore.client import answers, ssh
from virtstore.client.connection import Connection
from virtstore.client.telling import Teller
from virtstore.errors import ConnectionFailed, UsageError
from virtstore.location import HostAddress
from virtstore.protocol import Answer, AnyMessage, Ask, Frame, Progressed, Request, answer_to
from virtstore.requests import check


class Sessions:
    """Those with the host at `address`. Any thread may ask, also at the same time. `config` is the
    configuration file of a local agent; `verbose` shows the agent's log on standard error."""

    is_pipe = False  # see client/pipe.py

    def __init__(
        self,
        address: HostAddress,
        *,
        config: str | None = None,
        verbose: bool = False,
        ssh_options: tuple[str, ...] = (),
    ) -> None:
        self.address = address
        self.name = address.name
        self.config = config
        self.verbose = verbose
        self.first: Connection | None = None
        self._ssh_options = ssh_options
        self._in_use = threading.Lock()  # the first one
        self._shared: str | None = None
        self._opened: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._opening = threading.Lock()
        self._closed = False

    def open_first(self, *, shared: bool) -> None:
        """Open the first session now; `shared`: over a connection that all further ones share.
        Raises `ConnectionFailed`."""
        if shared and ssh.can_share(self.address):
            self._shared = tempfile.mkdtemp(prefix="virtstore-")
        try:
            self.first = self.open()
        except BaseException:
            self._remove_shared()
            raise

    def open(self, *, for_copy: bool = False) -> Connection:
        """A session of one's own with this host's agent. `for_copy`: an image is going to move."""
        self._refuse_closed()
        control = f"{self._shared}/s" if self._shared else None
        argv = ssh.session_argv(
            self.address,
            config=self.config,
            control=control,
            moves_much=for_copy,
            more=self._ssh_options,
        )
        with ssh.one_question_at_a_time(self.address, self._ssh_options):
            return Connection(argv, self.name, verbose=self.verbose, begun=self._note)

    def _note(self, session: Connection) -> None:
        """Note a session that is being opened, for `abort`. Raises `UsageError` where that was
        called meanwhile."""
        with self._opening:
            self._opened.add(session)
            self._refuse_closed()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise UsageError("this session was closed; open another one", host=self.name)

    def close(self) -> None:
        """End the first session. What was half-done is cleaned up or marked partial."""
        self._closed = True
        if self.first:
            self._drop(self.first)
        self._remove_shared()

    def abort(self) -> None:
        """End all sessions, whatever other threads do with them: each of their calls raises
        `ConnectionFailed`. `close` is for when they have ended."""
        self._closed = True
        with self._opening:
            sessions = list(self._opened)
        for session in sessions:  # all are told before any is waited for
            session.channel.close()
        for session in sessions:
            session.end()

    def answer(self, request: Ask[Answer], tell: Teller) -> Answer:
        """The answer to a request. `tell` hears of its progress."""
        if self.first is None:
            tell("connecting")
        with closing(self.exchange(request)) as messages:
            return _last(request, messages, tell)

    def answer_apart(self, request: Ask[Answer], tell: Teller) -> Answer:
        """The same from a session of its own, which ends with it."""
        tell("connecting")
        with closing(self.open()) as session:
            return _last(request, (message for (message, _), _ in _replies(session, request)), tell)

    def exchange(self, request: Request) -> Generator[AnyMessage]:
        """Send a request and give its replies, for as long as the caller wants more."""
        check(request)
        with self.free() as session:
            last = False
            try:
                for (message, _), is_last in _replies(session, request):
                    last = is_last
                    yield message
            except GeneratorExit:
                if not last:
                    self._drop(session)  # or its answer would be the next request's
                raise
            except (ConnectionFailed, answers.Untrue, KeyboardInterrupt):
                self._drop(session)  # ends the operation at once
                raise

    def frames_apart(self, request: Request) -> Generator[Frame]:
        """The replies to a request, each with its payload, from a session of its own, whose ssh is
        chosen for much that comes here."""
        check(request)
        with closing(self.open(for_copy=True)) as session:
            for frame, _ in _replies(session, request):
                yield frame

    @contextmanager
    def free(self) -> Iterator[Connection]:
        """The first session, or one more where another thread is using that."""
        if self._in_use.acquire(blocking=False):
            try:
                self.first = self.first or self.open()
                yield self.first
            finally:
                self._in_use.release()
        else:
            with closing(self.open()) as another:
                yield another

    def agent(self) -> tuple[str, tuple[str, ...]]:
        """What the host calls itself ("" where its agent does not say), and its agent's
        features."""
        with self.free() as session:
            return session.own_name, session.features

    def _drop(self, session: Connection) -> None:
        """End the first session, so that the next request opens another one; not one that is ended
        anyway."""
        if session is self.first:
            self.first = None
            session.close()

    def _remove_shared(self) -> None:
        if self._shared:
            shutil.rmtree(self._shared, ignore_errors=True)


@contextmanager
def with_both(
    one: Sessions, other: Sessions, *, for_copy: bool
) -> Iterator[tuple[Connection, Connection]]:
    """A session with each of two hosts, opened at the same time, unless ssh might ask for two
    passwords at once."""
    with ExitStack() as opened:
        if one.address.host and other.address.host:
            first = opened.enter_context(closing(one.open(for_copy=for_copy)))
            yield first, opened.enter_context(closing(other.open(for_copy=for_copy)))
            return
        pool = opened.enter_context(ThreadPoolExecutor(1))
        second = pool.submit(other.open, for_copy=for_copy)
        # Whatever happens here, what is opened there is closed.
        opened.callback(lambda: None if second.exception() else second.result().close())
        first = opened.enter_context(closing(one.open(for_copy=for_copy)))
        yield first, second.result()


def _last(request: Ask[Answer], messages: Iterator[AnyMessage], tell: Teller) -> Answer:
    for message in messages:
        if answer := answer_to(request, message):
            return answer
        assert isinstance(message, Progressed)  # as `answers.check` has seen to
        tell.heard(message)
    raise AssertionError("an exchange ends with a reply")


def _replies(session: Connection, request: Request) -> Iterator[tuple[Frame, bool]]:
    """The replies to a request, each checked, and whether it is the last one."""
    session.send(request)
    last = False
    while not last:
        frame = session.receive()
        last = answers.check(request, frame[0], session.name)
        yield frame, last
