"""What a file's name promises of its contents: the suffixes of archives, containers and others.

virtstore finds out what a file is from its contents. Other programs, and people, go by its name,
so nothing is written under a name that promises something else, and what is called like
something that it is not is taken for damaged. Upper case promises the same (`X.IMG.GZ`).

A container that may name other files (qcow2) is opened as one by its name or by the host's
configuration only (`container_of`): a guest can write such a header into its raw disk.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from virtstore.model import Compression, ContainerFormat

#: What an archive's name ends in, by its format.
SUFFIXES: Final[dict[Compression, str]] = {
    "zstd": ".zst",
    "lz4": ".lz4",
    "lzop": ".lzo",
    "gzip": ".gz",
    "xz": ".xz",
}


class Kind(NamedTuple):
    """What a file can hold that is neither an image nor an archive that virtstore reads: `what`
    it is, the `suffixes` of its names, and the command line that makes a raw image of it."""

    what: str
    suffixes: tuple[str, ...]
    convert: str
    container: bool = False
    #: Whether there are raw images with these suffixes, too.
    loose: bool = False


def _container(what: str, qemu: str, *suffixes: str, loose: bool = False) -> Kind:
    convert = f"qemu-img convert -f {qemu} -O raw FILE NEW.img"
    return Kind(what, suffixes, convert, container=True, loose=loose)


#: By the name that `info` has for them; containers are `model.ContainerFormat`.
KINDS: Final[dict[str, Kind]] = {
    "qcow2": _container("a qcow2 container", "qcow2", ".qcow2"),
    "qcow": _container("a qcow container (version 1)", "qcow", ".qcow"),
    "qed": _container("a QED container", "qed", ".qed"),
    "vmdk": _container("a VMDK container", "vmdk", ".vmdk"),
    "vdi": _container("a VDI container", "vdi", ".vdi"),
    "vhd": _container("a VHD container", "vpc", ".vhd", ".avhd", ".vpc"),
    "vhdx": _container("a VHDX container", "vhdx", ".vhdx", ".avhdx"),
    "parallels": _container(
        "a Parallels container", "parallels", ".hdd", ".hds", ".parallels", loose=True
    ),
    "dmg": _container("an Apple disk image (dmg)", "dmg", ".dmg", loose=True),
    "bochs": _container("a Bochs container", "bochs"),
    "cloop": _container("a cloop container", "cloop", ".cloop"),
    "bzip2": Kind("a bzip2 archive", (".bz2",), "bzip2 -dc FILE > NEW.img"),
    "lzma": Kind("an lzma archive", (".lzma",), "xz --format=lzma -dc FILE > NEW.img"),
    "lzip": Kind("an lzip archive", (".lz",), "lzip -dc FILE > NEW.img"),
    "lrzip": Kind("an lrzip archive", (".lrz",), "lrzip -d -o NEW.img FILE"),
    "compress": Kind("an archive of compress", (".Z",), "gzip -dc FILE > NEW.img"),
    "zip": Kind("a zip archive", (".zip",), "unzip -p FILE > NEW.img"),
    "7z": Kind("a 7z archive", (".7z",), "7z x -so FILE > NEW.img"),
    "rar": Kind("a rar archive", (".rar",), "unrar p -inul FILE > NEW.img"),
    "tar": Kind(
        "a tar archive",
        (".tar", ".tgz", ".tbz", ".tbz2", ".txz", ".tzst", ".ova"),
        "tar -xOf FILE MEMBER > NEW.img",
    ),
    "cpio": Kind("a cpio archive", (".cpio",), "cpio -i --to-stdout MEMBER < FILE > NEW.img"),
    "cab": Kind("a cabinet archive", (".cab",), "cabextract -p FILE > NEW.img"),
    "ar": Kind("an ar archive", (".deb",), "ar p FILE MEMBER > NEW.img"),
    "xar": Kind("a xar archive", (".xar", ".pkg"), "xar -xf FILE"),
    "wim": Kind("a Windows imaging archive", (".wim", ".esd"), "wimapply FILE NEW.img"),
    "ewf": Kind("an EnCase image (EWF)", (".e01",), "ewfexport -f raw FILE"),
    "partclone": Kind("a partclone image", (), "partclone.restore -C -s FILE -O NEW.img"),
    "android-sparse": Kind("an Android sparse image", (".simg",), "simg2img FILE NEW.img"),
    "old-zstd": Kind(
        "an archive of zstd before 0.8", (), "a zstd with ZSTD_LEGACY_SUPPORT, -dc FILE > NEW.img"
    ),
    "no-zstd-frame": Kind("a zstd or lz4 archive of nothing", (), "zstd -dc FILE > NEW.img"),
}


#: What a backup is called: of which image it is, and when it was made (UTC).
_BACKUP: Final = re.compile(
    r"(?P<series>[^/\0\r\n]+)"
    r"\.(?P<made>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{6}Z)" + re.escape(".img.zst")
)

#: Containers that are opened, and not only recognised; of those, the ones that are written as well.
OPENED: Final[tuple[ContainerFormat, ...]] = ("qcow2", "vmdk", "vdi", "vhdx")
WRITTEN: Final[tuple[ContainerFormat, ...]] = ("qcow2",)

#: What raw images are called everywhere. `.img` is not among them: it says nothing of the format.
_RAW: Final = (".raw", ".iso")

#: The suffixes that promise a kind, in lower case, each with the kind; and the suffixes alone.
_PROMISES: Final = tuple(
    (suffix.lower(), name)
    for name, kind in KINDS.items()
    for suffix in kind.suffixes
    if not kind.loose
)
_PROMISING: Final = tuple(suffix for suffix, _ in _PROMISES)


def backup_parts(name: str) -> tuple[str, str] | None:
    """The name of the image in a backup's file name, and when it was made, as text that sorts by
    time; None for any other file name."""
    found = _BACKUP.fullmatch(name)
    return (found["series"], found["made"]) if found else None


def archive_format(path: str) -> Compression | None:
    """The archive format whose suffix `path` has."""
    low = path.lower()
    return next((name for name, suffix in SUFFIXES.items() if low.endswith(suffix)), None)


def without_archive_suffix(path: str) -> str:
    """`path` without the suffix of an archive, if it has one."""
    found = archive_format(path)
    return path[: -len(SUFFIXES[found])] if found else path


def promised(path: str) -> str | None:
    """The kind that a file called `path` is by its name, and nothing else."""
    low = path.lower()
    if not low.endswith(_PROMISING):  # as most do not, in a listing of thousands
        return None
    return next(kind for suffix, kind in _PROMISES if low.endswith(suffix))


def fits(path: str, kind: str) -> bool:
    """Whether what is of this kind may be called `path`."""
    return any(path.lower().endswith(s.lower()) for s in KINDS[kind].suffixes)


def container_of(path: str, default: ContainerFormat | None = None) -> ContainerFormat | None:
    """The container that a file called `path` is to be opened as; None for a raw image, and for
    what is called like an archive or anything else that is not opened. `default`: what the
    configuration says of names that say nothing (`.img`, or no suffix that is known here)."""
    low = path.lower()
    if archive_format(low) or low.endswith(_RAW):
        return None
    kind = promised(low)
    return default if kind is None else next((c for c in OPENED if c == kind), None)
