"""Rows about RBD images, beside Ceph's own programs and `qemu-img convert`.

The cluster is the one that the tests have (tests/ceph): a monitor, a manager and an OSD on loopback
whose data is in memory, so that programs are measured and no disks. It runs for as long as a row.
A host has its pool with a restricted user's key.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from tests.ceph import cluster as ceph
from tests.ceph.cluster import POOL, Cluster

from bench import demands
from bench.commands import without
from bench.configured import configured
from bench.inputs import FILES, MIB
from bench.model import Contender, Demand, Failed, Result, ratio
from bench.place import Place
from bench.race import Action, Command, Race, run_text, shell, timed
from bench.study import Study

#: Bytes that the OSD has room for: two images, and what is being removed.
_MEMORY = 12 << 30
_EXPORT, _IMPORT, _CONVERT = "rbd export", "rbd import", "qemu-img convert"
_PIPE, _EXPORT_DIFF = "rbd export | zstd -1 -T0", "rbd export-diff | zstd -1 -T0"
_FILE, _LARGE, _MADE = "{a}/sparse.img", "{a}/solid.img", f"{POOL}/made"
_DISK = f"{POOL}/disk"
_NOTE = "Data is in the memory of a cluster on the same machine, which takes processor time too."


@dataclass(frozen=True)
class OnCeph:
    """A race with a cluster, in whose pool the image `disk` is what `file` is."""

    race: Race
    file: str = _FILE

    @property
    def name(self) -> str:
        return self.race.name

    def measure(self, place: Place, runs: int) -> Result:
        try:
            with _cluster(place) as there:
                run_text(there, f"rbd import --no-progress {self.file} {_DISK}")
                return self.race.measure(there, runs)
        except Failed as failed:
            entered = Contender("virtstore", "", trouble=str(failed))
            return Result(self.name, self.race.job, (entered,))


def rows() -> tuple[OnCeph | Study, ...]:
    return (
        OnCeph(_exported("rbd-export", _FILE)),
        OnCeph(_exported("rbd-export-large", _LARGE), _LARGE),
        OnCeph(_imported("rbd-import", _FILE)),
        OnCeph(_imported("rbd-import-large", _LARGE), _LARGE),
        OnCeph(_archived()),
        Study("rbd-backup", _measure_backup),
    )


@contextmanager
def _cluster(place: Place) -> Iterator[Place]:
    """The place with a cluster that runs meanwhile, and host a's agent allowed its pool."""
    if lacking := ceph.missing():
        raise Failed(f"not here: {', '.join(lacking)}")
    with (
        tempfile.TemporaryDirectory(prefix="ceph-", dir=place.scratch) as directory,
        ceph.running(Path(directory), memory=_MEMORY) as cluster,
        configured(place.scratch / "a" / "config.toml", cluster.user().table()),
    ):
        own = {"CEPH_CONF": str(_conf(cluster)), "CEPH_ARGS": f"--id {cluster.user().name}"}
        yield replace(place, environment={**place.environment, **own})


def _conf(cluster: Cluster) -> Path:
    """A configuration with the way to the user's key, for those that take no more than a name."""
    user = cluster.user()
    conf = cluster.directory / "bench.conf"
    conf.write_text(f"{user.conf.read_text()}keyring = {user.keyring}\n")
    return conf


def _exported(row: str, file: str) -> Race:
    made = "{a}/copied.img"
    return Race(
        row,
        f"copy an RBD image of what {_name(file)} is to a raw image on one host, flushed",
        (
            _file("virtstore", f"virtstore copy --json /dev/rbd/{_DISK} {made}", made, file),
            _file(_EXPORT, f"rbd export --no-progress {_DISK} {made} && sync {made}", made, file),
            _file(
                _CONVERT,
                f"qemu-img convert -f raw -O raw rbd:{_DISK}:id=vms {made} && sync {made}",
                made,
                file,
            ),
        ),
        (demands.faster_than_best((_EXPORT, _CONVERT), 1), demands.memory),
        (_NOTE, "Only virtstore's image is wholly allocated."),
    )


def _imported(row: str, file: str) -> Race:
    return Race(
        row,
        f"copy {_name(file)} to an RBD image",
        (
            _image("virtstore", f"virtstore copy --json {file} /dev/rbd/{_MADE}", file),
            _image(_IMPORT, f"rbd import --no-progress {file} {_MADE}", file),
            _image(_CONVERT, f"qemu-img convert -f raw -O raw {file} rbd:{_MADE}:id=vms", file),
        ),
        (demands.faster_than_best((_IMPORT, _CONVERT), 1), demands.memory),
        (_NOTE,),
    )


def _archived() -> Race:
    made = "{a}/copied.zst"
    pipe = f"rbd export --no-progress {_DISK} - | zstd -q -1 -T0 > {made} && sync {made}"
    return Race(
        "rbd-archive",
        "copy an RBD image to an archive, flushed",
        (
            _file("virtstore", f"virtstore copy --archive --json /dev/rbd/{_DISK} {made}", made),
            _file(_PIPE, pipe, made),
        ),
        (demands.faster(_PIPE, 1), demands.memory),
        (_NOTE,),
    )


def _name(file: str) -> str:
    return file.removeprefix("{a}/")


def _file(name: str, text: str, made: str, file: str = _FILE) -> Command:
    read = f"zstd -dc {made}" if made.endswith(".zst") else f"cat {made}"
    check = shell(f"{read} | cmp - {file}")
    return Command(name, text, ("rbd", "qemu-img", "zstd"), without(made), check, made)


def _image(name: str, text: str, file: str) -> Command:
    gone: Action = shell(f"! rbd info {_MADE} > /dev/null 2>&1 || rbd rm --no-progress {_MADE}")
    check = shell(f"rbd export --no-progress {_MADE} - | cmp - {file}")
    return Command(name, text, ("rbd", "qemu-img"), gone, check)


#: Two directories of backups, so that neither way finds what the other made; and where what was
#: said goes.
_KEPT, _READ, _SAID = "{a}/kept", "{a}/read", "{a}/said.json"
#: MiB that are written between two backups: 1 % of the data.
_WRITTEN = 7
_BACKUPS = (
    Command(
        "virtstore backup --keep-snapshot",
        f"virtstore backup --json --keep-snapshot /dev/rbd/{_DISK} {_KEPT} > {_SAID}",
    ),
    Command("virtstore backup", f"virtstore backup --json /dev/rbd/{_DISK} {_READ}"),
    Command(
        _EXPORT_DIFF,
        f"rbd export-diff --no-progress --from-snap before {_DISK} - | zstd -q -1 -T0"
        " > {a}/diff.zst && sync {a}/diff.zst",
        ("rbd", "zstd"),
    ),
)


def _measure_backup(place: Place, runs: int) -> Result:
    """The backup of an image of which about 1 % was written since its last one."""
    entered = [Contender(each.name, place.shown(each.text)) for each in _BACKUPS]
    read: list[int] = []
    with _cluster(place) as there:
        run_text(there, f"rbd import --no-progress {_FILE} {_DISK}")
        for _ in range(runs):
            _back_up_first(there)
            entered = [_once(there, *pair) for pair in zip(_BACKUPS, entered, strict=True)]
            read.append(json.loads(there.path(_SAID).read_text())[0]["read"])
            _compare(there)
        run_text(there, f"rm -rf {_KEPT} {_READ} {_SAID} {{a}}/diff.zst")
    ours, all_read, _ = entered
    return Result(
        "rbd-backup",
        "back up an RBD image of which 1 % was written since its last backup",
        tuple(entered),
        (
            Demand("of the data read", max(read) / (FILES / place.scale), 0.05, False),
            Demand("as fast as reading all", ratio(ours, all_read), 1, True),
        ),
        (_NOTE, f"{max(read) / MIB:.0f} MiB were read, of {FILES / place.scale / MIB:.0f}."),
    )


def _back_up_first(place: Place) -> None:
    """Both ways from the beginning, and then something is written."""
    written = max(_WRITTEN // place.scale, 1)
    for text in (
        f"rm -rf {_KEPT} {_READ} && mkdir {_KEPT} {_READ} && rbd snap purge --no-progress {_DISK}",
        f"virtstore backup --keep-snapshot /dev/rbd/{_DISK} {_KEPT}",
        f"virtstore backup /dev/rbd/{_DISK} {_READ}",
        f"rbd snap create --no-progress {_DISK}@before",
        f"rbd bench --io-type write --io-size 1M --io-total {written}M --io-pattern rand {_DISK}",
    ):
        run_text(place, text)


def _once(place: Place, command: Command, contender: Contender) -> Contender:
    return msgspec.structs.replace(contender, runs=(*contender.runs, timed(place, command)))


def _compare(place: Place) -> None:
    """Raises `Failed` unless both have made the archive of the image as it is."""
    for directory in (_KEPT, _READ):
        newest = f"$(ls {directory}/*.zst | tail -n 1)"
        run_text(place, f"zstd -dc {newest} | cmp - <(rbd export --no-progress {_DISK} -)")
