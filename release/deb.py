"""The Debian package: the bundle under /usr/lib/virtstore, and what a system has around it.

    python -m release.deb [--arch amd64|arm64] DIRECTORY

Writes DIRECTORY/virtstore_VERSION_ARCH.deb, by dpkg-deb. Debian has not all that virtstore imports,
so the package brings its own, and depends on the Python that its native modules are made for.
"""

from __future__ import annotations

import argparse
import gzip
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from release import bundle, manual
from virtstore.cli.completion import SCRIPTS
from virtstore.version import __version__

_CONTROL: Final = """\
Package: virtstore
Version: {version}
Architecture: {arch}
Maintainer: The virtstore project <virtstore@localhost>
Installed-Size: {kib}
Depends: python3 (>= 3.11), python3 (<< 3.12), libc6 (>= 2.34), libblkid1,
 bubblewrap, mount, util-linux
Recommends: e2fsprogs, openssh-client
Suggests: btrfs-progs, libvirt-clients, lvm2, lzop, nbdkit, nbdkit-plugin-python, ntfs-3g,
 thin-provisioning-tools, xfsprogs
Section: admin
Priority: optional
Description: storage for the disk images of virtual machines, over ssh
 Lists, creates, inspects, resizes, snapshots, copies, compresses and restores
 the images of virtual machines, as plain files and logical volumes, on any
 Linux host that ssh reaches. Nothing is registered, and no daemon runs: an agent,
 started over ssh for the length of a session, does the work and enforces what
 the host's administrator allowed in /etc/virtstore.
"""

#: Python keeps what it compiles beside the modules: dpkg must know nothing of it.
_POSTINST: Final = """\
#!/bin/sh
set -e
if [ "$1" = configure ]; then
    /usr/bin/python3 -I -S -m compileall -q /usr/lib/virtstore
fi
"""

_PRERM: Final = """\
#!/bin/sh
set -e
find /usr/lib/virtstore -depth -name __pycache__ -exec rm -rf {} +
"""

_POSTRM: Final = """\
#!/bin/sh
set -e
if [ "$1" = purge ]; then
    rm -rf /etc/virtstore /run/virtstore
fi
"""

_EXAMPLE: Final = """\
# What virtstore may touch on this host: copy this to /etc/virtstore/config.toml. Without it nothing
# is allowed.

# Where is written who changed what, and what was refused: "journal" (if nothing is said), "syslog",
# "none", or the path of a file. It stands before the tables.
#log = "journal"

# A directory with images, and all below it. It must belong to root, and nobody else may write to
# it.
#[[directory]]
#path = "/var/lib/libvirt/images"
#access = "write"    # or "append": read, and make new images; or "read"

# A volume group: its logical volumes are images.
#[[volume_group]]
#name = "vg0"
#access = "write"
"""


#: Where each shell looks for its scripts, below /usr/share.
_COMPLETIONS: Final = {
    "bash": "bash-completion/completions/virtstore",
    "zsh": "zsh/vendor-completions/_virtstore",
    "fish": "fish/vendor_completions.d/virtstore.fish",
}


def make(directory: Path, arch: str) -> Path:
    """Make the package in `directory`. Returns its path."""
    directory.mkdir(parents=True, exist_ok=True)
    made = directory / f"virtstore_{__version__}_{arch}.deb"
    with tempfile.TemporaryDirectory(dir=directory) as work:
        root = Path(work, "root")
        bundle.make(root / "usr/lib/virtstore", arch)
        _commands(root / "usr/bin")
        _write(root / "usr/share/doc/virtstore/examples/config.toml", _EXAMPLE)
        _write(root / "usr/share/doc/virtstore/copyright", _copyright(root))
        _manual(root / "usr/share/man")
        units(root / "usr/lib/systemd/system")
        for shell, path in _COMPLETIONS.items():
            _write(root / "usr/share" / path, SCRIPTS[shell])
        (root / "etc/virtstore/conf.d").mkdir(parents=True)
        _control(root, arch)
        build = ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(root), str(made)]
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    return made


def _commands(directory: Path) -> None:
    directory.mkdir(parents=True)
    for name in ("virtstore", "virtstore-agent"):
        (directory / name).symlink_to(f"../lib/virtstore/bin/{name}")


def units(directory: Path) -> None:
    """Put systemd's units into a directory. Which of them run is the administrator's to say."""
    for unit in (bundle.ROOT / "release/systemd").iterdir():
        _write(directory / unit.name, unit.read_text())


def _manual(directory: Path) -> None:
    for name, text in manual.make().items():
        (path := directory / f"{name}.gz").parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def _copyright(root: Path) -> str:
    """virtstore's licence, and those of what the package brings."""
    own = (bundle.ROOT / "LICENSE").read_text()
    parts = [f"virtstore {__version__}\n\n{own}"]
    for facts in sorted((root / "usr/lib/virtstore").glob("*/*.dist-info")):
        texts = [p for p in facts.rglob("*") if p.is_file() and _is_licence(p)]
        if not facts.name.startswith("virtstore-"):
            told = (
                "\n".join(path.read_text() for path in texts) or "(its METADATA names its licence)"
            )
            parts.append(f"{facts.name.removesuffix('.dist-info')}\n\n{told}")
    return f"\n{'=' * 78}\n\n".join(parts)


def _is_licence(path: Path) -> bool:
    return path.name.upper().startswith(("LICENSE", "LICENCE", "COPYING", "NOTICE"))


def _control(root: Path, arch: str) -> None:
    kib = sum(path.lstat().st_size for path in root.rglob("*") if path.is_file()) // 1024
    _write(root / "DEBIAN/control", _CONTROL.format(version=__version__, arch=arch, kib=kib))
    for name, script in (("postinst", _POSTINST), ("prerm", _PRERM), ("postrm", _POSTRM)):
        _write(root / "DEBIAN" / name, script)
        (root / "DEBIAN" / name).chmod(0o755)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    architectures = tuple(bundle.ARCHITECTURES)
    parser.add_argument("--arch", choices=architectures, default=bundle.own_architecture())
    parser.add_argument("directory", type=Path)
    arguments = parser.parse_args()
    print(make(arguments.directory, arguments.arch))


if __name__ == "__main__":
    main()
