"""What QEMU's daemon needs to reach a cluster: a configuration of a few lines, and one key.

The administrator's file is not shown to the daemon, nor a keyring of others. Ceph itself is asked
what that file means for this user, since it has sections, and words for paths. What says where the
monitors are may be a name: so the daemon also sees what resolves names.

Sources: ceph-conf(8); Ceph's documentation, "Configuring Ceph" and "User Management" on keyrings.
Host tools needed: ceph-conf (Debian: ceph-common).
"""

from __future__ import annotations

import re
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from virtstore import run
from virtstore.backends.rbd.cluster import CONNECTING, Cluster
from virtstore.errors import Denied, Error
from virtstore.exporter import Reaches

#: Where the daemon finds these.
CONF: Final = "/etc/ceph/ceph.conf"
_KEYRING: Final = "/etc/ceph/keyring"
_RESOLVING: Final = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf")
#: Settings that decide who is reached and how, as far as the file of the host says them.
_TAKEN: Final = re.compile(r"fsid|mon_host|mon_dns_srv_name|auth_\w+_required|ms_client_mode")
#: A host of `mon_host`, with its port: an IPv6 address in brackets, or whatever else.
_HOST: Final = re.compile(r"(?:v[12]:)?(?:\[([0-9a-fA-F:]+)\]|([\w.-]+))(?::\d+)?(?:/\d+)?")
#: What a client alone on its host, and without directories, is to leave alone.
_OWN: Final = (
    "log_file =",
    "log_to_stderr = false",
    "admin_socket =",
    f"client_mount_timeout = {CONNECTING}",
    # Whoever writes flushes in the end, so no write need wait for the cluster before the first one.
    "rbd_cache_writethrough_until_flush = false",
)


def reaches(cluster: Cluster) -> Reaches:
    """What shows a daemon the way to the cluster. Raises `Denied` where there is no key."""
    said = settings(cluster)
    lines = [f"{name} = {value}" for name, value in said.items() if _TAKEN.fullmatch(name)]
    files = [(path, contents) for path in _RESOLVING if (contents := _contents(path))]
    if "cephx" in said.get("auth_client_required", "cephx"):
        keyring = f"[client.{cluster.user}]\nkey = {_key(cluster, said)}\n"
        files.append((_KEYRING, keyring.encode()))
        lines.append(f"keyring = {_KEYRING}")
    conf = "\n".join(("[global]", *lines, *_OWN, ""))
    return Reaches((*files, (CONF, conf.encode())), cluster.patience())


def settings(cluster: Cluster) -> dict[str, str]:
    """What Ceph's settings are for this user, by their names. Raises `Error`, and `Denied` where
    the file cannot be read."""
    try:
        Path(cluster.conf).read_bytes()
    except OSError as error:
        raise Denied(
            f"Ceph's configuration {cluster.conf} cannot be read: {error.strerror}; it has to say"
            " where the monitors are (mon_host)"
        ) from None
    argv = ("ceph-conf", "--conf", cluster.conf, "--name", f"client.{cluster.user}")
    said = run.run((*argv, "--show-config"))
    if said.status:
        raise Error(f"ceph-conf does not understand {cluster.conf}: {said.complaint}")
    lines = said.stdout.decode("utf-8", "replace").splitlines()
    return {
        name: value for name, equals, value in (line.partition(" = ") for line in lines) if equals
    }


@cache
def monitors(cluster: Cluster) -> frozenset[str]:
    """The names and addresses of the monitors, as the configuration has them; none where it does
    not say, or cannot be read."""
    with suppress(Error):
        return hosts_of(settings(cluster).get("mon_host", ""))
    return frozenset()


def hosts_of(mon_host: str) -> frozenset[str]:
    """The hosts in a value of `mon_host`, such as `[v2:10.0.0.1:3300,v1:10.0.0.1:6789],mon2` or
    `[::1]:6789`."""
    return frozenset(six or plain for six, plain in _HOST.findall(mon_host))


def _key(cluster: Cluster, said: dict[str, str]) -> str:
    """The key of the cluster's user."""
    if said.get("key"):
        return said["key"]
    if said.get("keyfile"):
        return _contents(said["keyfile"]).decode("utf-8", "replace").strip()
    files = [cluster.keyring] if cluster.keyring else said.get("keyring", "").split(",")
    for file in filter(None, (each.strip() for each in files)):
        if key := key_of(_contents(file), cluster.user):
            return key
    raise Denied(
        f"there is no key of client.{cluster.user} in {' or '.join(files)}, as far as the agent can"
        f" read that; 'ceph auth get client.{cluster.user}' on a monitor's host shows it"
    )


def key_of(keyring: bytes, user: str) -> str:
    """The key that a keyring has of a user; "" for none."""
    section = ""
    for line in keyring.decode("utf-8", "replace").splitlines():
        if header := re.fullmatch(r"\s*\[(.+)\]\s*", line):
            section = header[1]
        elif (key := re.fullmatch(r"\s*key\s*=\s*(\S+)\s*", line)) and section == f"client.{user}":
            return key[1]
    return ""


def _contents(path: str) -> bytes:
    with suppress(OSError):
        return Path(path).read_bytes()
    return b""
