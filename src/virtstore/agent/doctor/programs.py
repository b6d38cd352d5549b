"""Programs of the host: Python, the tools that virtstore starts, and the walls around them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from virtstore import exporter, formats, programs, run
from virtstore.errors import Error
from virtstore.filesystems import registry
from virtstore.findings import note, ok, problem
from virtstore.model import Finding

#: Without these nothing looks into an image, and hardly anything works.
_REQUIRED: Final = ("blkid", "bwrap", "prlimit")
_WITHOUT: Final = (
    "without it nothing is known of what is in an image, and no file system is resized"
)

#: Settings of the kernel that keep bubblewrap from working, where they have this value, and what
#: allows it. Sources: bwrap(1); user_namespaces(7); Debian's and Ubuntu's kernels.
_WALLS: Final = (
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "sysctl -w kernel.unprivileged_userns_clone=1 (for good: in /etc/sysctl.d)",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor keeps unprivileged users from namespaces: install its profile"
        " bwrap-userns-restrict (package apparmor-profiles), or let the agent run as root",
    ),
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        "sysctl -w user.max_user_namespaces=15000 (for good: in /etc/sysctl.d)",
    ),
)


def python() -> Iterator[Finding]:
    yield ok(f"Python {sys.version.split()[0]}, {sys.executable}")


def required() -> Iterator[Finding]:
    for tool in (missing := programs.missing(*_REQUIRED)):
        yield problem(f"{tool} is missing; {_WITHOUT}", _install(tool))
    if not missing:
        yield ok(f"{', '.join(_REQUIRED)} are installed")


class _Missing(NamedTuple):
    """Tools of one package, and what they are for, both in order."""

    tools: dict[str, None]
    purposes: dict[str, dict[str, None]]

    def note(self, tool: str, doing: str, what: str) -> None:
        self.tools[tool] = None
        self.purposes.setdefault(doing, {})[what] = None

    def told(self) -> str:
        purposes = "; ".join(f"{doing} {', '.join(of)}" for doing, of in self.purposes.items())
        are, they = ("are", "they are") if len(self.tools) > 1 else ("is", "it is")
        return f"{', '.join(self.tools)} {are} missing; {they} for {purposes}"


def optional() -> Iterator[Finding]:
    """Tools for kinds of file systems, archives and containers: whoever has none of a kind needs
    none."""
    missing: dict[str, _Missing] = {}

    def want(tools: Iterable[str], doing: str, what: str) -> None:
        for tool in tools:
            if tool not in _REQUIRED:
                missing.setdefault(programs.package(tool), _Missing({}, {})).note(tool, doing, what)

    for kind, filesystem in registry.FILESYSTEMS.items():
        want(programs.missing(*filesystem.capabilities.tools), "resizing", kind)
    for name, archive in formats.FORMATS.items():
        want(archive.missing(), "archives in", name)
    want(programs.missing(exporter.DAEMON), "opening", "qcow2, vmdk, vdi and vhdx")
    want(programs.missing("qemu-img"), "making and checking", "qcow2")
    for each in missing.values():
        yield note(each.told(), _install(*each.tools))
    if not missing:
        yield ok("the tools of every kind of file system, archive and container are installed")


def confinement() -> Iterator[Finding]:
    """Whether bubblewrap works here, by having it run something."""
    if programs.missing("bwrap", "prlimit", "true"):
        return
    try:
        said = run.run(("true",), confined=True)
        failed = said.complaint if said.status else ""
    except (Error, OSError) as error:
        failed = str(error)
    if not failed:
        yield ok("bubblewrap works")
        return
    yield problem(
        f"bubblewrap does not work here, and no image is looked into without it: {failed}",
        _opening()
        or "try 'bwrap --ro-bind / / --unshare-all true' there, as the user of the agent; a"
        " container has to allow namespaces ('docker run --security-opt seccomp=unconfined')",
    )


def _opening() -> str:
    """What makes bubblewrap work, where a setting of the kernel's keeps it from that."""
    for file, value, remedy in _WALLS:
        with suppress(OSError):
            if Path(file).read_text().strip() == value:
                return remedy
    return ""


def _install(tool: str, *more: str) -> str:
    """The remedy for tools of one package."""
    return f"install {'them' if more else 'it'} (Debian: apt install {programs.package(tool)})"
