"""`copy-contents` from an archive onto an image that is nearly the same: what was a disk some hours
ago is to be it again. An archive that tells its chunks' digests need not be decompressed for it."""

from __future__ import annotations

from bench import changing, demands
from bench.model import Result
from bench.place import Place
from bench.race import Command, Race, shell

_DISK, _ARCHIVE, _NEAR, _UNPACKED = (
    "{a}/disk.img",
    "{a}/disk.img.zst",
    "{b}/near.img",
    "{a}/unpacked.img",
)
_ITSELF, _RSYNC = "from the image itself", "zstd -d, then rsync --inplace"
#: Three times as fast as when all was decompressed, which took 2.8 times as long as from the image.
_LIMIT = 2.8 / 3
_BEFORE = (
    "Archives of format 1, which told no digests of chunks, took 2.8 times as long as the image"
    " itself (2.5 to 3.4 in five pairs, on a busy machine with two cores). In turns with them,"
    " archives of format 2 were 2.3 times as fast (2.3 to 2.4 in three pairs): what is left is to"
    " read and to hash the image on the other host."
)


def measure_update_from_archive(place: Place, runs: int) -> Result:
    disk = place.path(_DISK)
    try:
        changing.make(place, disk)
        changing.write(place, disk, changed=True)
        shell(f"virtstore copy --archive {_DISK} {_ARCHIVE} && cp {_DISK} {_NEAR}")(place)
        shell(f"cat {_ARCHIVE} > /dev/null")(place)  # what virtstore wrote is not in the cache
        return _race().measure(place, runs)
    finally:
        for path in (_DISK, _ARCHIVE, _NEAR, _UNPACKED):
            place.path(path).unlink(missing_ok=True)


def _race() -> Race:
    return Race(
        "update-archive",
        "copy-contents of an archive onto an image on another host, of which 1 % differs",
        (
            _command("virtstore", f"virtstore copy-contents --json {_ARCHIVE} b:{_NEAR}"),
            _command(_ITSELF, f"virtstore copy-contents --json {_DISK} b:{_NEAR}"),
            _command(
                _RSYNC,
                f"zstd -q -d {_ARCHIVE} -o {_UNPACKED} && rsync --inplace --no-whole-file"
                f" --ignore-times --fsync {_UNPACKED} b:{_NEAR}",
                "zstd",
                "rsync",
            ),
        ),
        (demands.no_slower(_ITSELF, _LIMIT), demands.memory),
        (changing.WHAT, _BEFORE),
    )


def _command(name: str, text: str, *programs: str) -> Command:
    return Command(name, text, programs, _before, shell(f"cmp {_DISK} {_NEAR}"))


def _before(place: Place) -> None:
    place.path(_UNPACKED).unlink(missing_ok=True)
    changing.write(place, place.path(_NEAR), changed=False)
