"""A host that has ssh and Python, and no virtstore: for what installs it.

Its sshd runs in a mount namespace of its own, with directories of the test in place of
/usr/local, /etc and the homes. So what is installed there is nothing of this machine's. Run by
root it lets in `root` and `ann`, who may use sudo or not; run by an ordinary user, that user.
"""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .sshd import Remote, free_port, make_key, serving

#: As Debian's sshd has it.
PATH: Final = "/usr/local/bin:/usr/bin:/bin:/usr/games"

_SSHD: Final = """
ListenAddress 127.0.0.1
Port {port}
HostKey {directory}/host-key
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
UseDNS no
PidFile {directory}/sshd.pid
LogLevel VERBOSE
SetEnv PATH={path}
"""

_SSH: Final = """
Host bare-append
    IdentityFile {keys}/append
Host bare
    IdentityFile {keys}/key
Host bare bare-append
    HostName 127.0.0.1
    Port {port}
    HostKeyAlias bare
    IdentitiesOnly yes
    UserKnownHostsFile {keys}/known_hosts
    StrictHostKeyChecking yes
    BatchMode yes
"""

#: What a login, and sudo, need of a system.
_OF_ETC: Final = ("ld.so.cache", "localtime", "nsswitch.conf", "pam.d", "security", "ssl")

_ENTER: Final = """
set -e
for at in "$1"/mounts/*; do mount --bind "$at" "/$(basename "$at" | tr : /)"; done
shift
exec "$@"
"""

ANN: Final = 64999


@dataclass(frozen=True)
class Bare(Remote):
    """`users`: who is let in."""

    users: tuple[str, ...]

    def _mounted(self, path: str) -> Path:
        return self.directory / "mounts" / path.strip("/").replace("/", ":")

    def at_path(self, path: str) -> Path:
        """A path of this host, as this machine has it."""
        for mounted in sorted(self.directory.joinpath("mounts").iterdir()):
            there = Path("/", mounted.name.replace(":", "/"))
            if Path(path).is_relative_to(there):
                return mounted / Path(path).relative_to(there)
        return Path(path)

    def home(self, user: str) -> Path:
        return self.at_path(_home(user))

    def let_sudo(self, user: str) -> None:
        file = self.at_path("/etc/sudoers")
        file.write_text(f"Defaults !syslog\n{user} ALL=(root) NOPASSWD: ALL\n")
        file.chmod(0o440)


def _home(user: str) -> str:
    return "/home/ann" if user == "ann" else pwd.getpwnam(user).pw_dir


@contextmanager
def bare_host(directory: Path, keys: Path) -> Iterator[Bare]:
    """Such a host, in an empty `directory`."""
    as_root = os.geteuid() == 0
    users = ("root", "ann") if as_root else (getpass.getuser(),)
    host = Bare("bare", free_port(), directory, users)
    make_key(directory / "host-key")
    host.images.mkdir(parents=True)
    host.images.chmod(0o700)
    homes = ("/root", "/home") if as_root else (_home(users[0]),)
    for path in ("/usr/local", *homes, *(("/etc",) if as_root else ())):
        host._mounted(path).mkdir(parents=True)
    if as_root:
        _make_etc(host.at_path("/etc"))
    for user in users:
        _make_home(host, user, keys)
    config = _SSHD.format(port=host.port, directory=directory, path=PATH)
    (directory / "sshd_config").write_text(config)
    with serving(host, *_namespace(host, as_root)):
        yield host


def _make_etc(etc: Path) -> None:
    for name in _OF_ETC:
        source = Path("/etc", name)
        if source.is_dir():
            shutil.copytree(source, etc / name, symlinks=True)
        elif source.exists():
            shutil.copy(source, etc / name)
    root = "root:x:0:0:root:/root:/bin/sh\n"
    nobody = "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    sshd = "sshd:x:64998:65534::/run/sshd:/usr/sbin/nologin\n"
    ann = f"ann:x:{ANN}:{ANN}::/home/ann:/bin/sh\n"
    (etc / "passwd").write_text(root + nobody + sshd + ann)
    (etc / "group").write_text(f"root:x:0:\nnogroup:x:65534:\nann:x:{ANN}:\n")
    (etc / "shadow").write_text("".join(f"{user}:*:19000::::::\n" for user in ("root", "ann")))
    (etc / "shadow").chmod(0o640)
    (etc / "hostname").write_text("bare\n")
    (etc / "hosts").write_text("127.0.0.1 localhost bare\n")


def _make_home(host: Bare, user: str, keys: Path) -> None:
    home = host.home(user)
    home.joinpath(".ssh").mkdir(parents=True, mode=0o700)
    authorized = home / ".ssh" / "authorized_keys"
    authorized.write_text((keys / "key.pub").read_text())
    authorized.chmod(0o600)
    if user == "ann":
        for path in (home, home / ".ssh", authorized):
            os.chown(path, ANN, ANN)


def _namespace(host: Bare, as_root: bool) -> list[str]:
    if as_root:
        enter = ["sh", "-c", _ENTER, "sh", str(host.directory)]
        return ["unshare", "--mount", "--propagation", "private", *enter]
    binds = [
        word
        for mounted in host.directory.joinpath("mounts").iterdir()
        for word in ("--bind", str(mounted), f"/{mounted.name.replace(':', '/')}")
    ]
    return ["bwrap", "--die-with-parent", "--dev-bind", "/", "/", *binds]


def reached(host: Bare, client: Path, keys: Path) -> dict[str, str]:
    """Writes what a client needs to reach it. Returns the environment that names that."""
    client.mkdir(exist_ok=True)
    (keys / "known_hosts").write_text(f"bare {(host.directory / 'host-key.pub').read_text()}")
    config = _SSH.format(port=host.port, keys=keys)
    (client / "ssh_config").write_text(config)
    return {
        "VIRTSTORE_RSH": f"ssh -F {client}/ssh_config",
        "XDG_CONFIG_HOME": str(client),
        "TMPDIR": str(client),
    }
