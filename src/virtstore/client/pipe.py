"""An open descriptor as one end of a copy: standard input or output, say.

Its agent is a process of ours that has the descriptor, too, and serves nothing else. To the copy it
is a host like any other.
"""

from __future__ import annotations

from virtstore import own_programs
from virtstore.client.api import Host, Image
from virtstore.client.connection import Connection
from virtstore.client.sessions import Sessions
from virtstore.location import LOCAL, PIPE


def piped(descriptor: int, *, verbose: bool = False) -> Image:
    """What a descriptor gives or takes, as the source or the target of a copy; nothing else can be
    done with it. What it gives is read to its end before any of it is sent. What it is given cannot
    be taken back where the copy fails."""
    host = Host(LOCAL)
    host._sessions = _Pipe(descriptor, verbose=verbose)
    return Image(host, PIPE)


class _Pipe(Sessions):
    is_pipe = True

    def __init__(self, descriptor: int, *, verbose: bool = False) -> None:
        super().__init__(LOCAL, verbose=verbose)
        self._descriptor = descriptor

    def open(self, *, for_copy: bool = False) -> Connection:
        argv = [*own_programs.module_argv("virtstore.agent.pipe"), str(self._descriptor)]
        handed_over = [self._descriptor]
        return Connection(argv, self.name, verbose=self.verbose, handed_over=handed_over)
