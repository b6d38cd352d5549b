"""One end of a copy that is a pipe: an agent that serves a descriptor which its client handed over,
and no image of this host.

It speaks what every agent speaks, so that the other end of the copy needs to know nothing of pipes.
It has no configuration, since it touches nothing but what its client has open already.
"""

from __future__ import annotations

import sys

from virtstore.agent.__main__ import run
from virtstore.agent.config import Config
from virtstore.agent.operations.piping import handlers_of
from virtstore.agent.policy import Policy


def main() -> None:
    """The only argument is the number of the descriptor."""
    run(lambda: Policy(Config(log="none")), handlers_of(int(sys.argv[1])))


if __name__ == "__main__":
    main()
