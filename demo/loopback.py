"""Hosts that are really this machine: an sshd on loopback for each, with its own key,
port and agent configuration, started by whoever runs this and ended with it.

Keys are made anew each time. Without sshd a host is a local agent with the same
configuration, reached by a command in place of ssh.
"""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def find(program: str) -> str | None:
    """A program's path, also where a user's PATH lacks the sbin directories."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{SBIN}")


class Hosts:
    """Hosts by name, each with a directory of its own that its agent may write to.

    `base` is a private directory. `environment` is what makes `virtstore` reach them.
    `images` is where their directories are, if not in `base`: these may be there already.
    """

    def __init__(self, base: Path, names: tuple[str, ...], *, images: Path | None = None) -> None:
        self.base = base
        self.images = images or base
        self.names = names
        self.real = find("sshd") is not None and find("ssh-keygen") is not None
        self._daemons: list[subprocess.Popen[bytes]] = []
        self.environment = dict(os.environ, XDG_CONFIG_HOME=str(base / "config"))

    def __enter__(self) -> Hosts:
        try:
            for name in self.names:
                self.directory(name).mkdir(parents=True, exist_ok=True)
                self._configure(name)
            self._write_hosts_file()
            if self.real:
                self._start_daemons()
            else:
                self._reach_without_ssh()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for daemon in self._daemons:
            daemon.terminate()
        for daemon in self._daemons:
            daemon.wait()

    @property
    def daemons(self) -> list[int]:
        """The listening sshd's, by process id."""
        return [daemon.pid for daemon in self._daemons]

    def directory(self, name: str) -> Path:
        return self.images / name / "images"

    def _configure(self, name: str) -> None:
        (self.base / name).mkdir(exist_ok=True)
        text = f'[[directory]]\npath = "{self.directory(name)}"\naccess = "write"\n'
        text += "volatile = true\n"  # what is here need not outlive the machine's next start
        (self.base / name / "config.toml").write_text(text)

    def _agent(self, name: str) -> str:
        agent = Path(sys.executable).parent / "virtstore-agent"
        return shlex.join([str(agent), "--config", str(self.base / name / "config.toml")])

    def _write_hosts_file(self) -> None:
        file = self.base / "config" / "virtstore" / "hosts.toml"
        file.parent.mkdir(parents=True)
        lines = [f"[hosts.{name}]\nagent = '''{self._agent(name)}'''\n" for name in self.names]
        file.write_text("\n".join(lines))

    def _start_daemons(self) -> None:
        keys = self.base / "keys"
        keys.mkdir()
        for key in ("user", *self.names):
            argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / key)]
            subprocess.run(argv, check=True)
        shutil.copy(keys / "user.pub", keys / "authorized")
        client = [self._start_daemon(name, keys) for name in self.names]
        (keys / "ssh_config").write_text("\n".join(client))
        self.environment["VIRTSTORE_RSH"] = f"ssh -F {keys / 'ssh_config'}"

    def _start_daemon(self, name: str, keys: Path) -> str:
        """Start one sshd and return the client's configuration for it."""
        port = _free_port()
        server = keys / f"sshd_config.{name}"
        server.write_text(
            f"ListenAddress 127.0.0.1:{port}\nHostKey {keys / name}\nPidFile none\n"
            f"AuthorizedKeysFile {keys / 'authorized'}\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nPermitRootLogin yes\nUseDNS no\nMaxStartups 100\n"
            "Subsystem sftp internal-sftp\n"
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # sshd(8) wants it for privilege separation
        sshd = find("sshd")
        assert sshd
        with (keys / f"sshd.{name}.log").open("wb") as log:
            argv = [sshd, "-D", "-e", "-f", str(server)]
            self._daemons.append(subprocess.Popen(argv, stderr=log, stdin=subprocess.DEVNULL))
        _wait_for(port)
        host_key = " ".join((keys / f"{name}.pub").read_text().split()[:2])
        (keys / "known_hosts").open("a").write(f"[127.0.0.1]:{port} {host_key}\n")
        return (
            f"Host {name}\n  HostName 127.0.0.1\n  Port {port}\n  User {getpass.getuser()}\n"
            f"  IdentityFile {keys / 'user'}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {keys / 'known_hosts'}\n  BatchMode yes\n"
        )

    def _reach_without_ssh(self) -> None:
        """A stand-in for ssh: drop the host's name, run the command here."""
        rsh = self.base / "rsh"
        # As of ssh, nothing of a sudo before it is seen behind it.
        rsh.write_text(
            '#!/bin/sh\n[ "$1" = -- ] && shift\nshift\n'
            'exec env -u SUDO_UID -u SUDO_USER sh -c "$*"\n'
        )
        rsh.chmod(0o700)
        self.environment["VIRTSTORE_RSH"] = str(rsh)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"no sshd answers at port {port}")
