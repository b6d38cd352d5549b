"""The commands that put virtstore on a host, and take it away: install, uninstall."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

from cyclopts import Parameter

from virtstore.cli.meter import meter
from virtstore.cli.options import Changing
from virtstore.cli.render import print_json
from virtstore.client import hosts_file, ssh
from virtstore.client.api import Host
from virtstore.errors import UsageError
from virtstore.location import LOCAL, parse_host
from virtstore.model import Access, Authorized, Installed, Scope, Uninstalled
from virtstore.text import printable

_DEFAULTS = Changing()
_Flag = Annotated[bool, Parameter(negative=())]
_Several = Annotated[tuple[str, ...], Parameter(negative=())]


def install(
    host: str | None = None,
    /,
    *,
    directory: _Several = (),
    volume_group: _Several = (),
    as_root: _Flag = False,
    user: _Flag = False,
    bundle: str | None = None,
    downgrade: _Flag = False,
    remember: _Flag = False,
    key: str | None = None,
    read: str | None = None,
    append: str | None = None,
    write: str | None = None,
    options: Changing = _DEFAULTS,
) -> None:
    """Put virtstore on a host, or let a key start it there.

    The host needs ssh and Python 3.11, and nothing else. Nothing of its own is replaced, and a
    configuration that is there stays as it is. The same command again changes nothing.

    Parameters
    ----------
    host
        HOST, USER@HOST or ssh://HOST; for a key also this machine (the default).
    directory
        A directory that a first configuration allows, to read, append or write (the default).
        May be given more than once.
    volume_group
        A volume group, likewise.
    as_root
        For everybody there, by sudo where the login is not root's.
    user
        For the user who logs in alone (the default where that is not root).
    bundle
        A bundle of 'make bundle', or its tar (default: what runs here).
    downgrade
        Replace a newer virtstore, too.
    remember
        Write to hosts.toml here how its agent is started, where its PATH does not tell.
    key
        A public key that may start an agent there, and do nothing else. The host's configuration
        has to allow what the key may do, too.
    read
        That key may read images there.
    append
        That key may read images there and make new ones, and change none.
    write
        That key may do everything there.

    Examples
    --------
    virtstore install a --directory /srv/images --volume-group vg0
    virtstore install ann@b --as-root --directory /srv/golden:read
    virtstore install b --key backup.pub --append /srv/backups
    """
    levels: tuple[tuple[Access, str | None], ...] = (
        ("read", read),
        ("append", append),
        ("write", write),
    )
    narrowed = [(level, place) for level, place in levels if place is not None]
    others = directory or volume_group or as_root or user or bundle or downgrade or remember
    if key is not None:
        if len(narrowed) != 1 or others:
            raise UsageError("with --key go one of --read, --append and --write, and no other")
        _authorize(host, key, *narrowed[0], options)
        return
    if narrowed:
        raise UsageError("--read, --append and --write are about a key: --key FILE is missing")
    if host is None:
        raise UsageError("HOST is missing: write virtstore install HOST")
    at = _host(host, options)
    with meter(options) as progress:
        done = at.install(
            directory,
            volume_group,
            scope=_scope(as_root, user),
            bundle=bundle,
            downgrade=downgrade,
            dry_run=options.dry_run,
            progress=progress,
        )
    _print(done, _installed_text(at, done), options)
    if done.agent and not options.dry_run:
        _tell_agent(at, done.agent, remember=remember)


def uninstall(
    host: str,
    /,
    *,
    as_root: _Flag = False,
    user: _Flag = False,
    options: Changing = _DEFAULTS,
) -> None:
    """Remove what 'virtstore install' put on a host.

    Its configuration and its images stay. While virtstore is at work there it is refused.

    Parameters
    ----------
    host
        HOST, USER@HOST or ssh://HOST.
    as_root
        What is there for everybody, by sudo where the login is not root's.
    user
        What is there for the user who logs in alone.

    Examples
    --------
    virtstore uninstall a
    virtstore uninstall a --dry-run
    """
    at = _host(host, options)
    with meter(options) as progress:
        done = at.uninstall(scope=_scope(as_root, user), dry_run=options.dry_run, progress=progress)
    _print(done, _uninstalled_text(done), options)


def _authorize(
    host: str | None, key: str, access: Access, directory: str, options: Changing
) -> None:
    at = _host(host or "local:", options)
    done = at.authorize(key, directory, access, dry_run=options.dry_run)
    _print(done, _authorized_text(done), options)


def _host(text: str, options: Changing) -> Host:
    return Host(parse_host(text), config=options.config, verbose=options.verbose)


def _scope(as_root: bool, user: bool) -> Scope | None:
    if as_root and user:
        raise UsageError("it is --as-root or --user, not both")
    return "root" if as_root else "user" if user else None


def _tell_agent(host: Host, agent: str, *, remember: bool) -> None:
    """Say, or write down here, how an agent is started that the host's PATH does not lead to."""
    file, name = ssh.hosts_file(), host.address.host
    if host.address == LOCAL or name is None:
        return
    if remember and hosts_file.remember(file, name, agent):
        print(f"{printable(file)}: {name}'s agent is {agent}", file=sys.stderr)
    elif not remember:
        lines = hosts_file.lines(name, agent)
        print(
            f"{printable(host.name)}: its PATH does not lead to that agent; --remember writes these"
            f" lines to {printable(file)}:\n{_lines(lines)}",
            file=sys.stderr,
        )


def _print(done: Installed | Uninstalled | Authorized, text: str, options: Changing) -> None:
    if options.json:
        print_json(done)
    elif not options.quiet:
        print(_lines(text))
    if not options.json and not isinstance(done, Uninstalled):
        for warning in done.warnings:
            print(_lines(f"{done.host}: {warning}"), file=sys.stderr)


def _lines(text: str) -> str:
    """Lines of which some are what a host said."""
    return "\n".join(map(printable, text.split("\n")))


def _installed_text(host: Host, done: Installed) -> str:
    said = [f"{done.host}: virtstore {done.version} in {done.directory}"]
    if done.dry_run:
        said = [f"{done.host}: would {step.rstrip()}" for step in done.plan]
    if not done.changed and not done.lines:
        said.append(f"{done.host}: everything is as asked")
    if done.lines:
        said.append(
            f"{done.host}: add to {done.configuration}, which stays as it is:\n{done.lines}"
        )
    for needed, what in ((True, "needed"), (False, "of use")):
        there = [each for each in done.missing if each.needed == needed]
        if there:
            said += [f"{done.host}: {what} there, and missing:"]
            said += [f"    {each.package:<24}{each.purpose}" for each in there]
            said += [f"    apt-get install {shlex.join(dict.fromkeys(e.package for e in there))}"]
    return "\n".join(said)


def _uninstalled_text(done: Uninstalled) -> str:
    verb = "would be removed" if done.dry_run else "removed"
    said = [f"{done.host}:{path} {verb}" for path in done.removed]
    said += [] if done.changed else [f"{done.host}: nothing of virtstore's is installed"]
    return "\n".join([*said, *(f"{done.host}:{path} stays" for path in done.kept)])


def _authorized_text(done: Authorized) -> str:
    verb = "would have" if done.dry_run else "has" if done.changed else "had already"
    return f"{done.host}:{done.file} {verb}:\n{done.line}"
