"""Who started this agent, and whether what surrounds it may say which configuration counts.

Between whoever starts an agent and the user that it runs as there may be sudo or its like, or
an ssh that passes on what its client put into the environment (AcceptEnv of sshd_config(5)).
Such a caller may use what the host's administrator configured, and must not choose the
configuration: any image that was uploaded could be one, and would belong to the agent's user.

Nothing tells a variable that the host's administrator set for ssh from one that a client sent.
So none counts there; what an administrator means stands in the command line of the key.
"""

from __future__ import annotations

import os
import pwd
import re
from contextlib import suppress
from typing import Final

#: What `sudo -i`, `sudo -s` and `sudo su` leave in SUDO_COMMAND: whoever may start one of these
#: without arguments is that user, whatever is started from it later.
_SHELL: Final = re.compile(r"/([\w.-]+/)*(sh|bash|dash|ksh|zsh|fish|su)")

#: Where the host's own programs are.
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def another() -> str | None:
    """Who started this agent to run as somebody else, in words; None where it was its own user,
    or root. Known from the kernel and from what sudo(8), doas(1) and pkexec(1) set."""
    real = os.getuid(), os.getgid()
    if real[0] != 0 and real != (os.geteuid(), os.getegid()):
        return f"uid {real[0]}, by a set-user-ID or set-group-ID program"
    named = {"sudo": ("SUDO_UID", "SUDO_USER"), "doas": ("DOAS_USER",), "pkexec": ("PKEXEC_UID",)}
    for program, variables in named.items():
        said = [os.environ[each] for each in variables if each in os.environ]
        if program == "sudo" and _SHELL.fullmatch(os.environ.get("SUDO_COMMAND", "")):
            continue
        if others := [each for each in said if _uid(each) not in (0, os.geteuid())]:
            return f"{others[-1]}, by {program}"
    return None


def environment_counts() -> bool:
    """Whether the environment is that of whoever the agent runs as."""
    return "SSH_CONNECTION" not in os.environ and another() is None


def drop_foreign_environment() -> None:
    """Forget, where the environment may be somebody else's, what would make of a program that
    this agent starts another one: a sudo without secure_path leaves the caller's PATH."""
    if not environment_counts():
        for name in [name for name in os.environ if name.startswith("PYTHON")]:
            del os.environ[name]
    if another():
        os.environ["PATH"] = _PATH


def user() -> str:
    """The name of the user that this agent runs as; his number where he has none."""
    with suppress(KeyError):
        return pwd.getpwuid(os.geteuid()).pw_name
    return str(os.geteuid())


def started_by() -> str | None:
    """The user who came by sudo or doas."""
    return os.environ.get("SUDO_USER") or os.environ.get("DOAS_USER") or None


def address() -> str | None:
    """The address from which this agent was started by ssh; None where sudo did not pass it on."""
    return next(iter(os.environ.get("SSH_CONNECTION", "").split()), None)


def _uid(user: str) -> int | None:
    """The number of a user who is named by it or by his name; None for what is neither."""
    if user.isdecimal():
        return int(user)
    with suppress(KeyError, ValueError):
        return pwd.getpwnam(user).pw_uid
    return None
