"""What ssh, sudo and login shells say in place of an agent: its meaning, and what to do.

It is recognised by words that OpenSSH, sudo and util-linux print in English whatever the locale
of this side; what is not recognised is shown as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from virtstore.protocol import PREAMBLE
from virtstore.text import printable

#: Lines that are shown of what was said, unless all are needed.
_LAST: Final = 3
_MOST: Final = 12
_WIDEST: Final = 200

#: Where ssh's warning of a changed host key begins; of its lines, none is left out.
_CHANGED: Final = "@@@@@@"

_REMEDIES: Final = (
    (
        r"IDENTIFICATION HAS CHANGED",
        "the host's key is not the one that was known, and nothing was sent: unless the host was"
        " installed anew, somebody may be listening in between. Ask its administrator for the"
        " key's fingerprint before you remove the old key",
    ),
    (
        r"Host key verification failed",
        "its key is not known here yet: run ssh to that host once, and compare the fingerprint"
        " that it shows",
    ),
    (
        r"sudo: .*(password is required|terminal is required)|Password:",
        "sudo asks for a password there, and nobody can type it; a line in its sudoers lets the"
        " agent alone do without: 'USER ALL=(root) NOPASSWD: /PATH/TO/virtstore-agent \"\"'",
    ),
    (
        r"sudo: .*must have a tty",
        "its sudoers has requiretty; 'Defaults!/PATH/TO/virtstore-agent !requiretty' lifts that"
        " for the agent alone",
    ),
    (
        r"not in the sudoers file|may not run sudo|is not allowed to (execute|run)",
        "that user may not run the agent by sudo there; a line in its sudoers allows it:"
        " 'USER ALL=(root) NOPASSWD: /PATH/TO/virtstore-agent \"\"', with the agent's whole path in"
        " VIRTSTORE_AGENT or hosts.toml",
    ),
    (
        r"sudo: .+: command not found",
        "sudo looks in its own secure_path only; give the agent's whole path in VIRTSTORE_AGENT or"
        " hosts.toml, or install virtstore on that host",
    ),
    (
        r"sudo: not found|sudo: command not found",
        "sudo is not installed on that host; say how an agent is started there with"
        " VIRTSTORE_AGENT or hosts.toml",
    ),
    (
        r"No module named '?virtstore",
        "the agent that was found there belongs to another Python; install virtstore on that host"
        " anew",
    ),
    (
        r"[Cc]ould not resolve hostname",
        "write the host as ssh knows it; an image on this machine is /path or ./name",
    ),
    (
        r"hostname contains invalid characters",
        "several hosts are several words, which a shell makes of node{1..3}",
    ),
    (
        r"[Tt]imed out|No route to host|Network is unreachable",
        "see that it is up, and that ssh may go there; ssh waits for longer where its configuration"
        " says so (ConnectTimeout)",
    ),
    (
        r"Connection refused",
        "see that an sshd runs there, and on which port (ssh://HOST:PORT)",
    ),
    (
        r"(kex|ssh)_exchange_identification",
        "its sshd, or that of a jump host on the way, lets in few at a time: write a larger"
        " MaxStartups there, or share one connection to the jump host (ControlMaster)",
    ),
    (
        r"Permission denied \(",
        "ssh was not let in: 'ssh -v' to that host shows which keys it offers",
    ),
)  # fmt: skip

#: Bytes that are shown of what has no line.
_FEW: Final = 32

#: What refuses a login, and says so on standard output.
_NO_SHELL: Final = re.compile(
    r"account is (currently )?not available|[Pp]lease login as|sftp connections only"
    r"|not allowed to (log|sign) ?in|shell access|nologin",
)


def shown(said: Sequence[str]) -> str:
    """Those lines of standard error that tell what went wrong."""
    starts = [number for number, line in enumerate(said) if line.startswith(_CHANGED)]
    if starts:
        return "\n" + "\n".join(said[starts[0] :])
    return "; ".join(said[-_LAST:])


def remedy(said: Sequence[str]) -> str:
    """What to do about such lines; "" where their meaning is not known."""
    text = "\n".join(said)
    return next((told for pattern, told in _REMEDIES if re.search(pattern, text)), "")


def before(text: bytes, said: Sequence[str], status: int | None) -> str:
    """Why there is no session, where `text` came in place of an agent's first words. `status`: the
    exit status of the program that was to reach it, if it has ended."""
    words, preamble, _ = text.partition(PREAMBLE)
    quoted = _quoted(words)
    if preamble:
        return (
            f"before its agent began, it said:{quoted}\nThat comes from a login script there"
            " (.bashrc, .profile), or from what starts the agent: let it print nothing where there"
            " is no terminal"
        )
    if _NO_SHELL.search(words.decode(errors="replace")):
        return (
            f"that account may start no agent there (nologin, or a command of its key's); it said:"
            f"{quoted}\nUse another user's (USER@HOST:/path), or have its shell changed"
        )
    told = remedy([words.decode(errors="replace"), *said])
    if status in (126, 127):
        told = told or (
            "'virtstore install HOST' puts it there, and VIRTSTORE_AGENT says where it is otherwise"
        )
    log = f"\n{shown(said)}" if said else ""
    advice = told or (
        "If that account has no shell (nologin), or its key a command of its own, no agent can be"
        " started; if a login script (.bashrc, .profile) said it, let it print nothing where there"
        " is no terminal"
    )
    return f"what answered is no virtstore agent; it said:{quoted}{log}\n{advice}"


def amid(text: bytes) -> str:
    """What was read where a message was to begin, and who may have written it."""
    return (
        f"something on that host wrote into the session:{_quoted(_words(text))}\nMost likely a"
        " login script (.bashrc, .profile) left something running in the background that prints,"
        " or what starts the agent (VIRTSTORE_AGENT, sudo, a wrapper) writes to its standard"
        " output: send that to standard error"
    )


def _words(text: bytes) -> bytes:
    """The lines of a text, up to where the session's own bytes begin, which no person is to
    read."""
    said, binary, _ = text.partition(b"\0")
    if not binary:
        return text
    return said[: said.rfind(b"\n") + 1] or said or text[:_FEW]


def _quoted(text: bytes) -> str:
    """The first lines of a text, each indented on a line of its own."""
    lines = [printable(line)[:_WIDEST] for line in text.splitlines() if line.strip()]
    more = ["…"] if len(lines) > _MOST else []
    return "".join(f"\n    {line}" for line in [*lines[:_MOST], *more])
