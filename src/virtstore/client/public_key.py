"""The line of authorized_keys that lets a key start an agent, and nothing else.

Source: sshd(8), "AUTHORIZED_KEYS FILE FORMAT".
"""

from __future__ import annotations

import base64
import binascii
import re
import shlex
from typing import Final, NamedTuple

from virtstore.errors import UsageError, from_os_error

_KINDS: Final = re.compile(
    r"ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)"
    r"|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com"
)
#: No key is longer.
_MOST: Final = 32 << 10


class PublicKey(NamedTuple):
    kind: str
    data: str
    comment: str

    def line(self, command: str) -> str:
        """The line that lets this key run a command, and do nothing else. `command` is what a
        shell is to read; sshd reads a quotation mark in it with a backslash in front."""
        quoted = command.replace('"', '\\"')
        return f'restrict,command="{quoted}" {self.kind} {self.data} {self.comment}'.rstrip()


def read(file: str) -> PublicKey:
    """The key in a file of one, as ssh-keygen writes it. Raises `UsageError`."""
    try:
        with open(file, encoding="utf-8", errors="replace") as stream:
            text = stream.read(_MOST)
    except OSError as error:
        raise from_os_error(error, path=file) from None
    if "PRIVATE KEY" in text or text.startswith("PuTTY-User-Key-File"):
        raise UsageError(f"{file} is a private key, which stays where it is; name {file}.pub")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    words = lines[0].split(None, 2) if len(lines) == 1 else []
    if len(words) < 2 or not _is_key(words[0], words[1]):
        raise UsageError(
            f"{file} is no public key of OpenSSH: one line as ssh-keygen writes it, without options"
        )
    comment = "".join(c for c in words[2] if c.isprintable()) if len(words) > 2 else ""
    return PublicKey(words[0], words[1], comment)


def _is_key(kind: str, data: str) -> bool:
    """Whether it is of a kind that can log in, and says so itself (RFC 4253, section 6.6)."""
    if not _KINDS.fullmatch(kind):
        return False
    try:
        raw = base64.b64decode(data, validate=True)
    except binascii.Error:
        return False
    return raw[4 : 4 + int.from_bytes(raw[:4], "big")] == kind.encode()


def agent_command(agent: str, directory: str, access: str) -> str:
    """The command line of an agent that allows one directory. Raises `UsageError` for a path that
    a line cannot hold."""
    if not directory.startswith("/") or not directory.isprintable():
        raise UsageError(f"{directory!r} is no whole path that a line can hold")
    return shlex.join([*shlex.split(agent), "--restrict-to", directory, "--access", access])
