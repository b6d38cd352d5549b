"""An agent of a release: today's, through which only that gets which the release knew.

    python released_agent.py MESSAGES-VERSION.json AGENT…

Each message, to it and from it, is read and written again by the description of the release's. What
it had to refuse ends the session here.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Final

import msgspec

_HEADER: Final = struct.Struct(">II")
_PREAMBLE: Final = 16


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.unit.message_set import Peer

    release = Peer(json.loads(Path(sys.argv[1]).read_text()))
    agent = subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert agent.stdin
    assert agent.stdout
    os.write(1, agent.stdout.read(_PREAMBLE))

    def ask() -> None:
        assert agent.stdin
        with agent.stdin:
            _pass_on(release.reads, sys.stdin.buffer, agent.stdin)

    threading.Thread(target=ask, daemon=True).start()
    _pass_on(release.reads, agent.stdout, sys.stdout.buffer)
    os._exit(agent.wait())


def _pass_on(reads: msgspec.msgpack.Decoder[object], source: IO[bytes], to: IO[bytes]) -> None:
    while header := source.read(_HEADER.size):
        length, payload = _HEADER.unpack(header)
        message = reads.decode(source.read(length))
        body = msgspec.msgpack.encode(message)
        to.write(_HEADER.pack(len(body), payload) + body + source.read(payload))
        to.flush()


if __name__ == "__main__":
    main()
