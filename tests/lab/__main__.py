"""`python -m tests.lab COMMAND…`: one command in the lab; `--shell`: a shell in it."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from .machine import LabError
from .uml import Lab, missing_packages


def main() -> int:
    arguments = _arguments()
    if missing := missing_packages():
        print(f"lab: it needs: apt-get install {' '.join(missing)}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="virtstore-lab-") as directory:
        lab = Lab(Path(directory), [arguments.disk_size << 20] * arguments.disks)
        try:
            if arguments.shell:
                return lab.shell()
            return _run(lab, " ".join(arguments.command), arguments.timeout)
        except LabError as error:
            print(f"lab: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    parser.add_argument("--shell", action="store_true", help="a shell on this terminal")
    parser.add_argument("--timeout", type=float, default=600, help="seconds, booting included")
    parser.add_argument("--disks", type=int, default=2, help="/dev/ubda, /dev/ubdb, …")
    parser.add_argument("--disk-size", type=int, default=1024, help="MiB each; sparse")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="a line for sh")
    arguments = parser.parse_args()
    if bool(arguments.command) == arguments.shell:
        parser.error("give a command, or --shell")
    if arguments.shell and not (sys.stdin.isatty() and sys.stdout.isatty()):
        parser.error("a shell needs a terminal")
    return arguments


def _run(lab: Lab, command: str, timeout: float) -> int:
    with (
        lab.boot(command) as machine,
        (machine.directory / "stdout").open("rb") as stdout,
        (machine.directory / "stderr").open("rb") as stderr,
    ):

        def pass_on() -> None:
            for source, to in ((stdout, sys.stdout.buffer), (stderr, sys.stderr.buffer)):
                if news := source.read():
                    to.write(news)
                    to.flush()

        return machine.wait(timeout, watch=pass_on).status


if __name__ == "__main__":
    sys.exit(main())
