"""The package on a Debian that has nothing else: installed, used, purged; nothing is left.

`make torture`: it downloads a minimal Debian and takes a minute or two."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

import pytest
from release import bundle, deb

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
