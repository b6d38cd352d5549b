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
import shlex
import subprocess
import sys
from typing import Final

from virtstore.location import HostAddress, parse_host

#: unix(7) has 108 bytes for a socket's path; ssh makes it under a name that is 17 longer.
_LONGEST_CONTROL: Final = 90


def hosts_file() -> str:
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return f"{base}/virtstore/hosts.toml"


def agent_argv(
    address: HostAddress, *, config: str | None = None, control: str | None = None
) -> list[str]:
    """What starts an agent for one session. `config`: for a local agent, its `--config`;
    `control`: a socket by which this run's sessions share one ssh connection."""
    elsewhere, agent = _entry(address.name)
    command = agent or os.environ.get("VIRTSTORE_AGENT")
    if address.host is None:
        argv = shlex.split(command) if command else _own_agent()
        return [*argv, *(["--config", config] if config else [])]
    if elsewhere:
        address = parse_host(elsewhere)
    return [*_ssh(address, control), command or "virtstore-agent"]


def can_share(address: HostAddress) -> bool:
    """Whether sessions are to share a connection of ours: not where the program is no
    OpenSSH, nor where the user's configuration shares connections already."""
    rsh = _rsh()
    if address.host is None or os.path.basename(rsh[0]) != "ssh":
        return False
    elsewhere, _ = _entry(address.name)
    argv = _ssh(parse_host(elsewhere) if elsewhere else address, None)
    try:
        told = subprocess.run(
            [*argv[:-2], "-G", *argv[-2:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return told.returncode == 0 and b"\ncontrolpath " not in told.stdout


def _ssh(address: HostAddress, control: str | None) -> list[str]:
    argv = _rsh()
    if control and len(os.fsencode(control)) <= _LONGEST_CONTROL:
        # ControlPersist=no: the connection ends with its last session, whatever happens.
        argv += ["-o", "ControlMaster=auto", "-o", f"ControlPath={control}"]
        argv += ["-o", "ControlPersist=no"]
    if address.port:
        argv += ["-p", str(address.port)]
    user = f"{address.user}@" if address.user else ""
    return [*argv, "--", f"{user}{address.host}"]


def _rsh() -> list[str]:
    argv = shlex.split(os.environ.get("VIRTSTORE_RSH", "")) or ["ssh"]
    return [*argv, "-T"] if os.path.basename(argv[0]) == "ssh" else argv


def _own_agent() -> list[str]:
    # -P: a directory called virtstore where the user happens to stand is not ours.
    return [sys.executable, "-P", "-m", "virtstore.agent"]


def _entry(name: str) -> tuple[str | None, str | None]:
    """The address and the agent that the user's file says `name` has."""
    file = hosts_file()
    if not os.path.exists(file):
        return None, None
    from virtstore import hosts_file as files  # few have one, and it takes long to import

    entry = files.read(file).get(name)
    return (entry.address, entry.agent) if entry else (None, None)
