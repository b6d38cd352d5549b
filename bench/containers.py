"""Copies from and to qcow2 images, beside what QEMU's and libvirt's own programs do.

`qemu-img convert` writes to no pipe: between two hosts it makes a file of its own, which ssh then
sends.
"""

from __future__ import annotations

from bench import demands
from bench.commands import CONVERT, without
from bench.libvirt import POOL
from bench.race import Action, Command, Race, shell

_QCOW2, _RAW = "{a}/sparse.qcow2", "{a}/sparse.img"
_THEN_SSH, _DOWNLOAD = "qemu-img convert, then ssh", "virsh vol-download"
_INFO = "info of sparse.img"


def rows() -> tuple[Race, ...]:
    """All rows about containers."""
    return (_from_qcow2(), _to_qcow2(), _sent(), _fetched(), _info())


def _from_qcow2() -> Race:
    made = "{a}/copied.img"
    convert = f"qemu-img convert -S 0 -f qcow2 -O raw {_QCOW2} {made} && sync {made}"
    return Race(
        "from-qcow2",
        "copy sparse.qcow2 to a raw image on one host, wholly allocated and flushed",
        (
            _copy("virtstore", f"virtstore copy --json {_QCOW2} {made}", made),
            _copy(CONVERT, convert, made),
        ),
        (demands.faster(CONVERT, 1), demands.memory),
    )


def _to_qcow2() -> Race:
    made = "{a}/copied.qcow2"
    convert = f"qemu-img convert -f raw -O qcow2 {_RAW} {made} && sync {made}"
    return Race(
        "to-qcow2",
        "copy sparse.img to a qcow2 on one host, flushed",
        (
            _copy("virtstore", f"virtstore copy --json {_RAW} {made}", made),
            _copy(CONVERT, convert, made),
        ),
        (demands.faster(CONVERT, 1), demands.memory),
    )


def _sent() -> Race:
    made, between = "{b}/out.img", "{a}/between.img"
    send = f"ssh b 'cat > {made} && sync {made}' < {between}"
    return Race(
        "send-qcow2",
        "copy sparse.qcow2 to a raw image on another host, flushed",
        (
            _copy("virtstore", f"virtstore copy --json {_QCOW2} b:{made}", made),
            _copy(_THEN_SSH, f"qemu-img convert -O raw {_QCOW2} {between} && {send}", made),
        ),
        (demands.faster(_THEN_SSH, 3), demands.memory),
        after=shell(f"rm -f {between}"),
    )


def _fetched() -> Race:
    kept, made = "{b}/kept.qcow2", "{a}/copied.qcow2"
    refresh = "virsh -q -c '{libvirt}' pool-refresh " + POOL
    download = f"virsh -q -c '{{libvirt}}' vol-download --pool {POOL} kept.qcow2 {made}"
    ready = f"[ -e {kept} ] || cp {_QCOW2} {kept}; rm -f {made}"
    return Race(
        "fetch-qcow2",
        "copy a qcow2 from another host to a qcow2, flushed",
        (
            Command(
                "virtstore",
                f"virtstore copy --json b:{kept} {made}",
                before=shell(ready),
                check=_same(made),
                made=made,
            ),
            Command(
                _DOWNLOAD,
                f"{download} && sync {made}",
                ("virsh",),
                shell(f"{ready}; {refresh}"),
                _same(made),
                made,
            ),
        ),
        (demands.faster(_DOWNLOAD, 3), demands.memory),
        after=shell(f"rm -f {kept}"),
    )


def _info() -> Race:
    return Race(
        "info-qcow2",
        "info of a qcow2 on this host",
        (
            Command("virtstore", f"virtstore info {_QCOW2}"),
            Command(_INFO, f"virtstore info {_RAW}"),
        ),
        (demands.no_later(_INFO, 0.1), demands.memory),
    )


def _copy(name: str, text: str, made: str) -> Command:
    return Command(name, text, ("qemu-img",), without(made), _same(made), made)


def _same(made: str) -> Action:
    form = "qcow2" if made.endswith(".qcow2") else "raw"
    return shell(f"qemu-img compare -q -f raw -F {form} {_RAW} {made}")
