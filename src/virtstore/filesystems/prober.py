"""What libblkid recognises on many devices, told by one process.

This is a script and not a module of virtstore's: it runs confined, by itself, with nothing
but Python's standard library. Its arguments are descriptors; for each it prints a line of
JSON, an object of what was found (`TYPE`, `UUID`, `LABEL`, `PTTYPE`), null for nothing, or
"several" for marks of more than one thing. blkid(8) does the same, but ends at the first
device on which it finds nothing, and starting it for each of ten thousand takes a minute.

Source: libblkid's blkid.h, "low-level probing"; what blkid(8) asks of it, misc-utils/blkid.c.
"""

import ctypes
import json
import sys

# blkid.h: BLKID_SUBLKS_LABEL, _UUID, _TYPE, _SECTYPE, _USAGE, _VERSION
_SUPERBLOCKS = (1 << 1) | (1 << 3) | (1 << 5) | (1 << 6) | (1 << 7) | (1 << 8)
_NOTHING, _SEVERAL = 1, -2
_TAGS = ("TYPE", "UUID", "LABEL", "PTTYPE")


def main() -> None:
    library = ctypes.CDLL("libblkid.so.1")
    library.blkid_new_probe.restype = ctypes.c_void_p
    for descriptor in sys.argv[1:]:
        print(json.dumps(_probe(library, int(descriptor))), flush=True)


def _probe(library: ctypes.CDLL, fd: int) -> "dict[str, str] | str | None":
    probe = ctypes.c_void_p(library.blkid_new_probe())
    try:
        if library.blkid_probe_set_device(probe, fd, ctypes.c_int64(0), ctypes.c_int64(0)):
            raise OSError(f"descriptor {fd} cannot be probed")
        library.blkid_probe_enable_partitions(probe, 1)
        library.blkid_probe_enable_superblocks(probe, 1)
        library.blkid_probe_set_superblocks_flags(probe, _SUPERBLOCKS)
        result = library.blkid_do_safeprobe(probe)
        if result in (_NOTHING, _SEVERAL):
            return None if result == _NOTHING else "several"
        if result:
            raise OSError(f"descriptor {fd} cannot be read")
        return _tags(library, probe)
    finally:
        library.blkid_free_probe(probe)


def _tags(library: ctypes.CDLL, probe: ctypes.c_void_p) -> "dict[str, str]":
    found = {}
    value = ctypes.c_char_p()
    for tag in _TAGS:
        if library.blkid_probe_lookup_value(probe, tag.encode(), ctypes.byref(value), None) == 0:
            found[tag] = (value.value or b"").decode("utf-8", "replace")
    return found


if __name__ == "__main__":
    main()
