"""The command that serves an image to other programs: export."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from typing import Annotated, Final

from cyclopts import Parameter

from virtstore.cli.meter import meter
from virtstore.cli.options import Common, image_at, located, open_at
from virtstore.cli.render import print_error, print_json, print_notice
from virtstore.client.export import Export
from virtstore.errors import Error, Interrupted, UsageError

_DEFAULTS: Final = Common()
_Flag = Annotated[bool, Parameter(negative=())]
#: Seconds that a command has to end once it was told to.
_PATIENCE: Final = 5.0


def export(
    location: str,
    /,
    *,
    socket: str | None = None,
    run: str | None = None,
    snapshot: _Flag = False,
    allow_in_use: _Flag = False,
    raw: _Flag = False,
    options: Common = _DEFAULTS,
) -> int:
    """Serve an image read-only to any program that reads NBD.

    So qemu-img, guestfish, nbdcopy, or a virtual machine with an overlay, on this machine, read any
    byte of an image or archive, wherever it lies, without restoring it. What is asked for is read
    on the image's host, and of an archive only what holds that is decompressed. Zeros and holes are
    told as such.

    It serves until it is interrupted, or with --run until that command has ended, whose status it
    ends with then. Nothing stays behind. The image is locked against change meanwhile, as for a
    copy.

    A guest can write into its disk what a format's header looks like. So say that it is raw to
    programs that would guess (qemu-img: -f raw).

    It needs nbdkit and its Python plugin, on this machine only.

    Parameters
    ----------
    location
        The image; of a container the disk in it; of an archive the image in it.
    socket
        Where the unix socket is to be. Otherwise it is in a directory that only this user can look
        into.
    run
        A command for the shell, which finds $uri, $unixsocket and $nbd in its environment.
    snapshot
        Serve a snapshot: the image as it is now, whoever uses it.
    allow_in_use
        Serve the image while somebody uses it. What is read may be a mix of old and new.
    raw
        Take its bytes for a raw disk's, whatever they look like.

    Examples
    --------
    virtstore export b:/mnt/backups/web.img.zst
    virtstore export b:/mnt/backups/web.img.zst --run 'nbdinfo --map "$uri"'
    virtstore export a:/dev/vg0/web --snapshot --run 'qemu-img convert -f raw "$uri" web.qcow2'
    """
    at = located(location)
    if run is not None and options.json:
        raise UsageError("--run leaves standard output to its command; leave --json out")

    def complain(error: Error) -> None:
        with suppress(OSError):
            print_error(error, as_json=False)

    with open_at(at, options) as host:
        with meter(options) as progress:
            served = image_at(host, at).export(
                socket=socket,
                snapshot=snapshot,
                allow_in_use=allow_in_use,
                raw=raw,
                complain=complain,
                progress=progress,
            )
        with served:
            for warning in served.result.warnings:
                print_notice(str(at), warning, options)
            status = _serve(served, options) if run is None else _run(run, served)
            for warning in served.close():
                print_notice(str(at), warning, options)
    return status


def _serve(served: Export, options: Common) -> int:
    """Serve until somebody interrupts, which is how this ends well."""
    try:
        print_json(served.result) if options.json else print(served.uri)
        sys.stdout.flush()
        failure = served.wait()
    except KeyboardInterrupt:
        return 0
    return failure.exit_status if failure else 0


def _run(command: str, served: Export) -> int:
    """The status of a command that uses what is served, as a shell has it. Whoever interrupts it
    wants nothing more."""
    environment = {**os.environ, **served.environment}
    with subprocess.Popen(["/bin/sh", "-c", command], env=environment) as process:
        try:
            status = process.wait()
        except KeyboardInterrupt:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE)
            process.kill()
            return Interrupted.exit_status
    return status if status >= 0 else 128 - status
