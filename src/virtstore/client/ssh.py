"""How the agent of a host is reached: nothing but an argv.

`local:` is a child process; any other host is the same agent behind ssh, with the user's
own configuration of OpenSSH in force. `VIRTSTORE_RSH`, `VIRTSTORE_AGENT` and
`$XDG_CONFIG_HOME/virtstore/hosts.toml` say otherwise:

    [hosts.a]
    address = "root@10.0.0.5"        # or ssh://root@10.0.0.5:2222
    agent = "sudo virtstore-agent"
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Final

from virtstore import own_programs, processor
from virtstore.errors import LOCAL_NAME, UsageError
from virtstore.location import HostAddress, parse_host

#: unix(7) has 108 bytes for a socket's path; ssh makes it under a name that is 17 longer.
_LONGEST_CONTROL: Final = 90

#: Characters of a %C (ssh_config(5)).
_HASH: Final = 40

#: Ciphers of ssh that a processor with instructions for AES is fastest at, best first.
_FAST: Final = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")

#: Seconds that each of many hosts has to let ssh in.
_TO_LET_IN: Final = 10

#: Options of ssh by which it asks its user nothing.
_NO_QUESTION: Final = ("-o", "BatchMode=yes")

#: Held by the login that may be asking for a password.
_ASKING: Final = threading.Lock()


def hosts_file() -> str:
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return f"{base}/virtstore/hosts.toml"


def session_argv(
    address: HostAddress,
    *,
    config: str | None = None,
    control: str | None = None,
    moves_much: bool = False,
    more: Sequence[str] = (),
) -> list[str]:
    """The argv that starts an agent for one session. `config`: for a local agent, its `--config`.
    `control`: a socket by which the sessions of this run share one ssh connection. `moves_much`:
    images are going to move over that connection. `more`: further options of ssh."""
    ciphers = fast_ciphers(address) if moves_much or control else None
    return agent_argv(address, config=config, control=control, ciphers=ciphers, more=more)


def agent_argv(
    address: HostAddress,
    *,
    config: str | None = None,
    control: str | None = None,
    ciphers: str | None = None,
    more: Sequence[str] = (),
) -> list[str]:
    """As `session_argv`, with the ciphers that ssh is asked for, in their order."""
    elsewhere, agent = _entry(address)
    command = agent or os.environ.get("VIRTSTORE_AGENT")
    if address.host is None:
        argv = _words(command, "agent") if command else own_programs.agent_argv()
        if config is None and not command:
            config = _configuration_of_a_login()
        return [*argv, *(["--config", config] if config is not None else [])]
    options = [*more]
    if control and len(os.fsencode(control)) <= _LONGEST_CONTROL:
        # ControlPersist=no: the connection ends with its last session, whatever happens.
        options += ["-o", "ControlMaster=auto", "-o", f"ControlPath={control}"]
        options += ["-o", "ControlPersist=no"]
    if ciphers:
        options += ["-o", f"Ciphers={ciphers}"]
    return _elsewhere_argv(address, elsewhere, command or "virtstore-agent", options)


def command_argv(address: HostAddress, words: list[str]) -> list[str]:
    """The argv that runs a command on a host, in place of an agent."""
    if address.host is None:
        return words
    return _elsewhere_argv(address, _entry(address)[0], shlex.join(words))


def _elsewhere_argv(
    address: HostAddress, elsewhere: str | None, command: str, options: Sequence[str] = ()
) -> list[str]:
    address = parse_host(elsewhere) if elsewhere else address
    return [*_rsh(), *options, *_destination(address), command]


def options_without_questions(address: HostAddress) -> tuple[str, ...]:
    """The options of ssh for a session of which the user knows nothing, and so is not to be asked
    anything. Its connection stays for a minute: where one such session was, more will be."""
    if address.host is None or not _is_ssh(_rsh()):
        return ()
    options = [*_NO_QUESTION, "-o", "ConnectTimeout=10"]
    directory = _private_directory() if can_share(address) else None
    if directory and len(os.fsencode(directory)) + len("/") + _HASH <= _LONGEST_CONTROL:
        options += ["-o", "ControlMaster=auto", "-o", f"ControlPath={directory}/%C"]
        options += ["-o", "ControlPersist=60"]
    return tuple(options)


def options_among_many(address: HostAddress, *, asks: bool = False) -> tuple[str, ...]:
    """The options of ssh for one of many hosts that are logged in to at the same time: no question
    unless it `asks`, and not for ever, unless its user's configuration says how long."""
    if address.host is None or not _is_ssh(_rsh()):
        return ()
    # Of the session as a whole, up to its key exchange (ssh_config(5)).
    own = settings_for(address).get("connecttimeout", "none") not in ("none", "0")
    limit = () if own else ("-o", f"ConnectTimeout={_TO_LET_IN}")
    return (*(() if asks else _NO_QUESTION), *limit)


def would_ask(address: HostAddress, refusal: str) -> bool:
    """Whether a host that refused a login without questions, as ssh says it, may let in a user who
    answers some, and there is one to ask."""
    asked = re.search(r"Permission denied \(|Host key verification failed", refusal)
    return asked is not None and address.host is not None and _is_ssh(_rsh()) and _may_ask()


def is_crowded(refusal: str) -> bool:
    """Whether a login failed, as ssh says it, because a host lets in few at a time: sshd_config(5),
    MaxStartups. That may be the one by which many are reached (ProxyJump)."""
    return re.search(r"(kex|ssh)_exchange_identification", refusal) is not None


def _private_directory() -> str | None:
    """The user's directory for sockets, which nobody else can enter; None where there is none."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    with suppress(OSError):
        # Not that of a user who has become root by sudo: it would be root's ever after.
        own = base.startswith("/") and os.stat(base).st_uid == os.geteuid()
        path = f"{base}/virtstore" if own else f"/tmp/virtstore-{os.geteuid()}"
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        found = os.lstat(path)
        ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
        return path if ours and not found.st_mode & 0o077 else None
    return None


def configuration_file() -> str | None:
    """The configuration of ssh that VIRTSTORE_RSH names in place of the user's own."""
    words = _rsh()
    return next((words[at + 1] for at, word in enumerate(words[:-1]) if word == "-F"), None)


def can_share(address: HostAddress) -> bool:
    """Whether sessions are to share a connection of ours: not where the program is no
    OpenSSH, nor where the user's configuration shares connections already."""
    settings = settings_for(address)
    return bool(settings) and "controlpath" not in settings


@contextmanager
def one_question_at_a_time(address: HostAddress, options: Sequence[str] = ()) -> Iterator[None]:
    """Log in to a host within this, so that no two of this process's ask for a password at once.
    Where there is nobody to ask, or ssh's `options` say that it does not, no login waits for
    another."""
    silent = {*_NO_QUESTION} <= {*options}
    if address.host is None or silent or not _may_ask():
        yield
        return
    with _ASKING:
        yield


def _may_ask() -> bool:
    """Whether ssh has a terminal, or a program of its user's, to ask for a password."""
    if "SSH_ASKPASS" in os.environ:
        return True
    with suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
        return True
    return False


def fast_ciphers(address: HostAddress) -> str | None:
    """The ciphers that the user's configuration allows, with the fastest first, where the processor
    has instructions for AES. OpenSSH itself would begin with one that takes twice as long there.
    None where nothing is gained."""
    allowed = settings_for(address).get("ciphers", "").split(",")
    fast = [cipher for cipher in _FAST if cipher in allowed]
    if not fast or allowed[0] in _FAST or not processor.has_aes():
        return None
    return ",".join([*fast, *(cipher for cipher in allowed if cipher not in fast)])


def settings_for(address: HostAddress) -> dict[str, str]:
    """The settings that ssh would use for a host; none where the program is no OpenSSH."""
    if address.host is None or not _is_ssh(rsh := _rsh()):
        return {}
    elsewhere, _ = _entry(address)
    where = _destination(parse_host(elsewhere) if elsewhere else address)
    return _settings((*rsh, "-G", *where))


@cache
def _settings(argv: tuple[str, ...]) -> dict[str, str]:
    try:
        told = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    lines = told.stdout.decode(errors="replace").splitlines()
    return {key: value for key, _, value in (line.partition(" ") for line in lines)}


def _destination(address: HostAddress) -> list[str]:
    port = ["-p", str(address.port)] if address.port else []
    user = f"{address.user}@" if address.user else ""
    return [*port, "--", f"{user}{address.host}"]


def _rsh() -> list[str]:
    argv = _words(os.environ.get("VIRTSTORE_RSH", ""), "VIRTSTORE_RSH") or ["ssh"]
    return [*argv, "-T"] if _is_ssh(argv) else argv


def _words(command: str, of: str) -> list[str]:
    """The words of a command line, as a shell would read it. `of`: what it is, for messages."""
    try:
        return shlex.split(command)
    except ValueError as error:
        what = "VIRTSTORE_AGENT, or the agent in hosts.toml," if of == "agent" else of
        raise UsageError(f"{what} is no command line: {command!r} ({error})") from None


def _is_ssh(argv: list[str]) -> bool:
    return os.path.basename(argv[0]) == "ssh"


def _configuration_of_a_login() -> str | None:
    """The configuration file that the environment names, where its user logged in by ssh: an
    agent heeds no variable there, as it cannot tell who sent it."""
    if "SSH_CONNECTION" not in os.environ:
        return None
    if named := os.environ.get("VIRTSTORE_CONFIG"):
        return named
    own = f"{os.environ.get('XDG_CONFIG_HOME')}/virtstore/config.toml"
    return own if own.startswith("/") and os.geteuid() and os.path.exists(own) else None


def _entry(address: HostAddress) -> tuple[str | None, str | None]:
    """The address and the agent that the user's file says a host has."""
    file = hosts_file()
    if not os.path.exists(file):
        return None, None
    from virtstore.client import hosts_file as files  # few have one, and it takes long to import

    entry = files.read(file).get(address.host or LOCAL_NAME)
    return (entry.address, entry.agent) if entry else (None, None)
