"""The package on a Debian that has nothing else: installed, used, purged; nothing is left. And a
Debian that has ssh and Python only, which gets virtstore from the package elsewhere.

`make torture`: it downloads a minimal Debian and takes a minute or two."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from release import bundle, deb
from tests.hosts.sshd import free_port, make_key

_ENTER: Final = """
set -e
mount --bind {root} {root}
cd {root}
mount --rbind /dev dev; mount -t proc proc proc; mount -t tmpfs tmpfs run; mount --rbind /sys sys
pivot_root . mnt
exec sh -c "$1"
"""

_USE: Final = r"""
set -e
exec 2>&1
apt-get update -q
apt-get install -y -q --no-install-recommends /tmp/virtstore.deb e2fsprogs
mkdir -m 700 /srv/images
virtstore create /srv/images/x.img 8M && exit 3 # nothing is configured: nothing is allowed
cat > /etc/virtstore/config.toml <<'END'
[[directory]]
path = "/srv/images"
access = "write"
END
virtstore create /srv/images/x.img 8M
mke2fs -q -t ext4 /srv/images/x.img
virtstore resize /srv/images/x.img 16M
virtstore copy /srv/images/x.img /srv/images/y.img.zst --archive
virtstore verify /srv/images/y.img.zst
apt-get purge -y -q virtstore
find / -xdev '(' -path /mnt -o -path /proc -o -path /tmp -o -path /var/lib/dpkg \
    -o -path /var/log ')' -prune -o -name '*virtstore*' -print
echo done
"""


#: Serves ssh in the fresh root, for root with one key.
_SERVE: Final = r"""
set -e
mkdir -p /run/sshd
exec /usr/sbin/sshd -D -e -p {port} -o ListenAddress=127.0.0.1 -o UsePAM=no
"""


@pytest.mark.torture
def test_it_is_installed_used_and_purged(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes a root file system")
    root = tmp_path / "root"
    minimal = ["mmdebstrap", "--variant=apt", "--mode=root", "bookworm", str(root)]
    subprocess.run(minimal, check=True, capture_output=True)
    package = deb.make(tmp_path, bundle.own_architecture())
    package.rename(root / "tmp" / "virtstore.deb")
    enter = _ENTER.format(root=root)
    unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c", enter, "sh", _USE]
    said = subprocess.run(unshare, capture_output=True, text=True).stdout
    *_, last = said.splitlines()
    assert last == "done", said
    assert "allows nothing here" in said
    assert "whole, 16777216 bytes" in said
    assert "Purging configuration files for virtstore" in said.splitlines()[-2], said


@pytest.mark.torture
def test_a_host_with_ssh_and_python_only_is_installed_over_ssh_and_used(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes a root file system")
    root, client = tmp_path / "root", tmp_path / "client"
    include = "--include=openssh-server,python3"
    minimal = ["mmdebstrap", "--variant=apt", "--mode=root", include, "bookworm", str(root)]
    subprocess.run(minimal, check=True, capture_output=True)
    package = deb.make(tmp_path, bundle.own_architecture())
    subprocess.run(["dpkg-deb", "-x", str(package), str(client)], check=True)
    make_key(tmp_path / "key")
    (root / "root/.ssh").mkdir(mode=0o700)
    (root / "root/.ssh/authorized_keys").write_text((tmp_path / "key.pub").read_text())
    (root / "srv/images").mkdir(mode=0o700)
    port = free_port()
    with _serving(root, port):
        here = _Here(client, tmp_path, port)
        told = here.told("install", "h", "--directory", "/srv/images")
        assert told["directory"].startswith("/usr/local/lib/virtstore/")
        missing = {each["package"] for each in told["missing"] if each["needed"]}
        assert missing == {"bubblewrap"}
        assert here.told("install", "h", "--directory", "/srv/images")["changed"] is False
        assert here.told("create", "h:/srv/images/x.img", "8M")["size"] == 8 << 20
        archive = "h:/srv/images/y.img.zst"
        assert here.told("copy", "h:/srv/images/x.img", archive, "--archive")["size"] == 8 << 20
        assert here.told("verify", archive)["checked"] == "digest"
        assert here.told("uninstall", "h")["kept"] == ["/etc/virtstore/config.toml", "/srv/images"]
        assert here.told("uninstall", "h")["changed"] is False
    left = {str(path.relative_to(root)) for path in (root / "usr/local").rglob("*virtstore*")}
    assert not left
    assert {path.name for path in (root / "srv/images").iterdir()} == {"x.img", "y.img.zst"}


class _Here:
    """A client that runs from the package's own tree."""

    def __init__(self, client: Path, directory: Path, port: int) -> None:
        self._program = str(client / "usr/bin/virtstore")
        ssh = f"ssh -p {port} -i {directory}/key -o IdentitiesOnly=yes -o BatchMode=yes"
        options = f"-o StrictHostKeyChecking=no -o UserKnownHostsFile={directory}/known"
        (directory / "ssh_config").write_text("Host h\n    HostName 127.0.0.1\n    User root\n")
        self._environment = {
            "PATH": os.environ["PATH"],
            "XDG_CONFIG_HOME": str(directory),
            "VIRTSTORE_RSH": f"{ssh} {options} -F {directory}/ssh_config",
        }

    def told(self, *words: str) -> Any:
        argv = [self._program, *words, "--json"]
        done = subprocess.run(argv, env=self._environment, capture_output=True, text=True)
        assert done.returncode == 0, done
        return json.loads(done.stdout)


@contextmanager
def _serving(root: Path, port: int) -> Iterator[None]:
    enter = ["sh", "-c", _ENTER.format(root=root), "sh", _SERVE.format(port=port)]
    unshare = ["unshare", "--mount", "--propagation", "private", *enter]
    with subprocess.Popen(unshare, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as sshd:
        try:
            assert sshd.stderr
            assert any(b"listening on" in line for line in sshd.stderr)
            yield
        finally:
            sshd.terminate()
