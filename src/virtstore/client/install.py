"""Puts virtstore on a host that has ssh and Python only, and takes it away again.

What is there is asked first. What is to be done is decided here, from that alone, and a dry run
stops then.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import msgspec

from virtstore import own_programs
from virtstore.client import bundle, debian_packages
from virtstore.client.bundle import Bundle, Target
from virtstore.client.first_configuration import Wanted, not_allowed_yet, text_of
from virtstore.client.setup_session import SetupSession
from virtstore.errors import Denied, Exists, NotFound, Unsafe, Unsupported, UsageError
from virtstore.location import HostAddress
from virtstore.model import Installed, Scope, Uninstalled

#: Hears of a stage, and of how many bytes of how many.
Tell = Callable[[Literal["connecting", "copying", "flushing"], int, int], None]


class Facts(msgspec.Struct, frozen=True):
    """What there is on a host: bare_host/survey.py says what each of them means."""

    scope: Scope
    user: str
    python: tuple[int, int]
    machine: str
    library: str
    commands: str
    digest: str
    digests: tuple[str, ...]
    version: str
    linked: bool
    left_over: bool
    foreign: tuple[str, ...]
    packaged: bool
    searched: bool
    configuration: str
    configured: tuple[tuple[str, str, str], ...] | None
    missing_tools: tuple[str, ...]
    missing_directories: tuple[str, ...]


class Wish(NamedTuple):
    """What is asked for. `roots`: what the host may be used for. `scope`: None for root's places
    where the login is root, else that user's. `downgrade`: also over a newer version."""

    roots: tuple[Wanted, ...] = ()
    scope: Scope | None = None
    downgrade: bool = False
    dry_run: bool = False


class Plan(NamedTuple):
    """What is to be done. `send`: whether the bundle is sent. `switch`: whether anything of bundles
    and commands is changed. `configuration`: the text of a first one. `lines`: to be added by
    hand."""

    send: bool
    switch: bool
    configuration: str | None
    lines: str | None


def install(address: HostAddress, sent: Bundle, wish: Wish, tell: Tell, verbose: bool) -> Installed:
    """Have the bundle count on a host. Raises what is refused, before anything is changed."""
    tell("connecting", 0, 0)
    with SetupSession(address, verbose=verbose) as session:
        facts, by_sudo = _survey(session, wish.scope, wish.roots)
        for refusal in _refusals(facts, sent, wish, session.name):
            raise refusal
        plan = decide(facts, sent, wish.roots)
        if not wish.dry_run and (plan.switch or plan.configuration):
            packed = sent.packed() if plan.send else b""
            changed, wrote = session.ask(
                "install",
                tuple[bool, bool],
                packed,
                lambda count: tell(
                    "copying" if count < len(packed) else "flushing", count, len(packed)
                ),
                scope=facts.scope,
                digest=sent.digest,
                size=len(packed),
                configuration=plan.configuration,
            )
            plan = plan._replace(switch=changed)  # a bundle that something still runs from stays
            if plan.configuration and not wrote:  # somebody else has written one meanwhile
                plan = plan._replace(configuration=None, lines=plan.configuration)
    return _told(session.name, facts, sent, wish, plan, by_sudo)


def _survey(
    session: SetupSession, scope: Scope | None, roots: Sequence[Wanted]
) -> tuple[Facts, bool]:
    """The facts, and whether they are root's by sudo. `scope`: as a `Wish` has it."""
    directories = [root.name for root in roots if root.section == "directory"]

    def ask() -> Facts:
        return session.ask(
            "survey",
            Facts,
            scope=None,
            tools=debian_packages.PROGRAMS,
            directories=directories,
        )

    facts = ask()
    if scope == "user" and facts.scope == "root":
        raise UsageError(
            "that login is root's, for whom no user's configuration counts: log in as that user"
            " (USER@HOST), or leave --user out",
            host=session.name,
        )
    if scope == "root" and facts.scope == "user":
        session.become_root()
        return ask(), True
    return facts, False


def _refusals(facts: Facts, sent: Bundle, wish: Wish, host: str) -> Iterator[Exception]:
    """Why it is not done."""
    (made_for,) = sent.targets
    there = Target(facts.python, facts.machine)
    if facts.packaged:
        yield Exists(
            "virtstore is there as a Debian package: apt-get install the newer package there, or"
            " apt-get remove virtstore first",
            host=host,
        )
    if there != made_for:
        yield Unsupported(
            f"it has {there}, and this bundle is made for {made_for}; 'make bundle' makes one for"
            " another machine (ARCH=arm64), which --bundle names",
            host=host,
        )
    if facts.foreign:
        yield Exists(
            "something else is called so there; remove it first", host=host, path=facts.foreign[0]
        )
    if _order(facts.version) > _order(sent.version) and not wish.downgrade:
        yield Exists(
            f"virtstore {facts.version} is there, which is newer than {sent.version}; --downgrade"
            " has it replaced",
            host=host,
        )
    if facts.missing_directories:
        path = facts.missing_directories[0]
        yield NotFound(
            f"there is no such directory; make it first: install -d -m 700 {shlex.quote(path)}",
            host=host,
            path=path,
        )
    if facts.scope == "user" and any(root.section == "volume_group" for root in wish.roots):
        yield Unsafe("only root can use a volume group; give --as-root", host=host)


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d{1,9}", version)[:4])


def decide(facts: Facts, sent: Bundle, roots: tuple[Wanted, ...]) -> Plan:
    """What is to be done on a host of which these are the facts."""
    send = sent.digest not in facts.digests
    clean = facts.digests == (sent.digest,) and not facts.left_over
    switch = facts.digest != sent.digest or not facts.linked or not clean
    if facts.configured is None:
        return Plan(send, switch, text_of(roots) if roots else None, None)
    left = not_allowed_yet(roots, facts.configured)
    return Plan(send, switch, None, text_of(left) if left else None)


def _told(
    host: str, facts: Facts, sent: Bundle, wish: Wish, plan: Plan, by_sudo: bool
) -> Installed:
    directory = f"{facts.library}/{sent.digest}"
    steps = []
    if plan.switch:
        steps.append(
            f"put virtstore {sent.version} into {directory}, and links to it into {facts.commands}"
        )
    if plan.configuration:
        steps.append(f"write {facts.configuration}:\n{plan.configuration}")
    volumes = any(root.section == "volume_group" for root in wish.roots)
    warnings = []
    if facts.configured is None and not plan.configuration:
        warnings.append(
            f"nothing is allowed there yet: {facts.configuration} says what is; --directory PATH"
            " writes a first one"
        )
    return Installed(
        host=host,
        version=sent.version,
        directory=directory,
        configuration=facts.configuration,
        changed=bool(steps),
        lines=plan.lines,
        agent=_agent(facts, by_sudo=by_sudo),
        missing=debian_packages.missing(facts.missing_tools, volumes=volumes),
        dry_run=wish.dry_run,
        plan=tuple(steps) if wish.dry_run else (),
        warnings=tuple(warnings),
    )


def _agent(facts: Facts, *, by_sudo: bool) -> str | None:
    """How an agent is started where `virtstore-agent` alone does not do. None of it is what the
    host said."""
    if by_sudo:
        return "sudo virtstore-agent"
    if facts.searched:
        return None
    if facts.scope == "root":
        return "/usr/local/bin/virtstore-agent"
    return ".local/bin/virtstore-agent"


def uninstall(
    address: HostAddress, scope: Scope | None, *, dry_run: bool, verbose: bool
) -> Uninstalled:
    """Remove what `install` put on a host. Raises `InUse` while it is at work there."""
    with SetupSession(address, verbose=verbose) as session:
        facts, _ = _survey(session, scope, ())
        removed = session.ask("uninstall", tuple[str, ...], scope=facts.scope, dry_run=dry_run)
    kept = [*facts.foreign]
    if facts.configured is not None:
        kept += [facts.configuration, *(_place(*table[:2]) for table in facts.configured)]
    return Uninstalled(session.name, removed, tuple(kept), bool(removed), dry_run)


def _place(section: str, name: str) -> str:
    return f"/dev/{name}" if section == "volume_group" else name


def bundle_of(path: str | None) -> Bundle:
    """The bundle at `path`; without it that of the virtstore that runs. Raises `Unsupported`."""
    found = _own_bundle() if path is None else bundle.read(path)
    if len(found.targets) != 1:
        raise Denied("its native modules are of several kinds of machine, or there are none")
    return found


def _own_bundle() -> Bundle:
    if (tree := own_programs.tree_of_bundle()) is not None:
        return bundle.of_directory(tree)
    from virtstore.client import installed_files  # few need it

    return Bundle(installed_files.collect())
