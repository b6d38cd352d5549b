"""`make demo`: a day's work on real images, between two hosts, and the proof that it held.

A golden image is made of this machine's own files; `virtstore` does the rest, each
command shown as one would type it. At the end the restored image's file system is
checked, and every file in it compared with the original.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo.loopback import Hosts, find
from demo.terminal import Terminal, say

#: Bytes of files that the golden image is filled with, and the sizes of the images.
FILES = 300 << 20
GOLDEN, IMAGE, RESTORED = "400M", "600M", "800M"
#: Where the files come from: what there is of these, readable by everyone.
TREES = ("/usr/lib/python3", "/usr/lib/python3.11", "/usr/share", "/usr/lib", "/usr/bin")


def main() -> None:
    started = time.monotonic()
    missing = [tool for tool in ("mke2fs", "e2fsck", "debugfs", "bwrap") if not find(tool)]
    if missing:
        raise SystemExit(f"the demo needs {', '.join(missing)}; 'dev/packages demo' names packages")
    with _private_directory() as base, Hosts(base, ("a", "b")) as hosts:
        how = "an sshd on loopback each" if hosts.real else "local agents: there is no sshd here"
        print(f"Two hosts, a and b, each with a directory and a configuration of its own ({how}).")
        originals = _collect(base / "originals")
        _make_golden(hosts.directory("a") / "golden.img", originals)
        names = {f"{h.upper()}/": f"{h}:{hosts.directory(h)}/" for h in hosts.names}
        _tell_the_story(Terminal(hosts.environment, names))
        _prove(hosts.directory("a") / "web.img", originals, base)
    print(f"\nAll of it held. {time.monotonic() - started:.0f} s.")


def _tell_the_story(demo: Terminal) -> None:
    say("What do the hosts offer?")
    demo.run("storage-info a:")
    say("A new image, filled from the golden one; its file system grown to fit.")
    demo.run(f"create A/web.img {IMAGE}")
    demo.run("copy-contents A/golden.img A/web.img --progress")
    demo.run("growfs A/web.img")
    demo.run("info A/web.img")
    say("The backup: compressed where it is read, verified where it lands.")
    demo.run("copy A/web.img B/web.img.zst --archive --progress")
    demo.run("verify B/web.img.zst")
    say("A second backup of that name is refused: what is there stays.")
    demo.run("copy A/web.img B/web.img.zst --archive", expect=4)
    say("A bad day: the image is gone.")
    demo.run("delete A/web.img")
    say("The restore, into a new and larger image; only what is not zero moves.")
    demo.run(f"create A/web.img {IMAGE}")
    demo.run("copy-contents B/web.img.zst A/web.img --progress")
    demo.run("diff A/web.img B/web.img.zst")
    demo.run(f"grow A/web.img {RESTORED}")
    demo.run("growfs A/web.img")
    demo.run("list A/ -l")
    say("Shrinking what a file system still needs is refused.")
    demo.run("shrink A/web.img 500M", expect=8)
    demo.run("delete B/web.img.zst")


def _collect(directory: Path) -> Path:
    """Copies of a few hundred MB of this machine's own files."""
    directory.mkdir()
    total = 0
    for source in _files():
        if total + source.stat().st_size > FILES:
            continue
        target = directory / str(source).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        total += source.stat().st_size
        if total > FILES - (1 << 20):
            break
    count = sum(1 for path in directory.rglob("*") if path.is_file())
    print(f"Golden image: {count} of this machine's files, {total >> 20} MiB.")
    return directory


def _files() -> Iterator[Path]:
    for tree in TREES:
        for place, directories, names in os.walk(tree):
            directories.sort()
            for name in sorted(names):
                path = Path(place, name)
                if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK):
                    yield path


def _make_golden(image: Path, files: Path) -> None:
    mke2fs = find("mke2fs")
    assert mke2fs
    argv = [mke2fs, "-q", "-t", "ext4", "-L", "golden", "-d", str(files), str(image), GOLDEN]
    subprocess.run(argv, check=True)


def _prove(image: Path, originals: Path, base: Path) -> None:
    """A clean file system, larger than the golden one, holding every file unchanged."""
    say("The proof.")
    e2fsck, debugfs = find("e2fsck"), find("debugfs")
    assert e2fsck
    assert debugfs
    print(f"$ e2fsck -fn {image}", flush=True)
    subprocess.run([e2fsck, "-fn", str(image)], check=True)
    _prove_size(image)
    restored = base / "restored"
    restored.mkdir()
    # debugfs writes a line for each file whose owner it may not set: no matter of ours.
    command = [debugfs, "-R", f"rdump / {restored}", str(image)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    paths = [p.relative_to(originals) for p in originals.rglob("*") if p.is_file()]
    equal, different, missing = filecmp.cmpfiles(
        originals, restored, [str(p) for p in paths], shallow=False
    )
    print(f"{len(equal)} of {len(paths)} files are equal to their originals.")
    if different or missing or len(equal) != len(paths) or not paths:
        raise SystemExit(f"these are not: {(different + missing)[:10]}")


def _prove_size(image: Path) -> None:
    """The file system fills the grown image: told by a tool that is not ours."""
    dumpe2fs = find("dumpe2fs")
    assert dumpe2fs
    said = subprocess.run(
        [dumpe2fs, "-h", str(image)], check=True, capture_output=True, text=True
    ).stdout
    facts = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
    size = int(facts["Block count"]) * int(facts["Block size"])
    print(f"The file system has {size >> 20} MiB; the golden one had {GOLDEN[:-1]} MiB.")
    if size != image.stat().st_size:
        raise SystemExit("it does not fill its image")


@contextmanager
def _private_directory() -> Iterator[Path]:
    base = Path(
        tempfile.mkdtemp(prefix="virtstore-demo-", dir=os.environ.get("TMPDIR", "/var/tmp"))
    )
    try:
        yield base
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
