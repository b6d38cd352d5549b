"""Lets a public key start an agent of a host, for one directory, and tells what that key lacks.

A key is only ever narrower than the configuration of its host. So what is missing there is told to
whoever hands out the key, and not first to who uses it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Final

from virtstore.client import public_key
from virtstore.client.first_configuration import Wanted, text_of
from virtstore.client.install import Facts
from virtstore.client.setup_session import SetupSession
from virtstore.errors import NotFound
from virtstore.location import HostAddress, canonical, within
from virtstore.model import Access, Authorized

#: Each with all that are less, and what a table has that says nothing.
_LEVELS: Final = {"read": 0, "append": 1, "write": 2}
_DEFAULT: Final = "read"


def authorize(
    address: HostAddress,
    file: str,
    directory: str,
    access: Access,
    *,
    dry_run: bool,
    verbose: bool,
) -> Authorized:
    """Let the public key in `file` start an agent of a host, for one directory. Raises `Exists`
    where that key has another line there."""
    key = public_key.read(file)
    public_key.agent_command("virtstore-agent", directory, access)  # before anything is asked
    with SetupSession(address, verbose=verbose) as session:
        agent, path = session.ask("agent", tuple[str, str])
        if not agent:
            raise NotFound("virtstore is not installed there; do that first", host=session.name)
        warnings = lacking(_facts(session, directory), directory, access)
        line = key.line(public_key.agent_command(agent, directory, access))
        changed = session.ask("authorize", bool, line=line, key=key.data, dry_run=dry_run)
    return Authorized(session.name, path, line, changed, dry_run, tuple(warnings))


def _facts(session: SetupSession, directory: str) -> Facts:
    """Those of the configuration that counts for an agent of that login."""

    def ask(scope: str | None) -> Facts:
        return session.ask("survey", Facts, scope=scope, tools=(), directories=[directory])

    facts = ask(None)
    if facts.scope == "user" and facts.configured is None:
        for_all = ask("root")
        return facts if for_all.configured is None else for_all
    return facts


def lacking(facts: Facts, directory: str, access: Access) -> Iterator[str]:
    """What a host of which these are the facts lacks for a key to have that access."""
    wanted = canonical(directory)
    of_directory = not within(wanted, "/dev")
    if of_directory and facts.missing_directories:
        yield (
            f"{wanted} does not exist there, or that login cannot reach it; make it first:"
            f" install -d -m 700 {shlex.quote(wanted)}"
        )
    tables = [(_path(*table[:2]), table[2]) for table in facts.configured or ()]
    if any(within(path, wanted) and path != wanted for path, _ in tables):
        return  # it may see these
    around = [(path, level) for path, level in tables if within(wanted, path)]
    if around:
        path, level = max(around, key=lambda each: len(each[0]))
        level = level or _DEFAULT
        if _LEVELS.get(level, 0) < _LEVELS[access]:
            yield (
                f'the configuration there has access = "{level}" for {path}, and no key may do more'
                f' than that; its administrator writes access = "{access}" there'
                f" ({facts.configuration})"
            )
    elif of_directory:
        yield (
            f"no configuration there allows {wanted}, so that key may do nothing yet; its"
            f" administrator writes to {facts.configuration}:\n"
            + text_of([Wanted("directory", wanted, access)]).rstrip()
        )
    elif not any(section == "block_device" for section, *_ in facts.configured or ()):
        # Else it may be another name of that device.
        yield (
            f"no configuration there allows {wanted}, so that key may do nothing yet; 'virtstore"
            " doctor' with that key says what to write"
        )


def _path(section: str, name: str) -> str:
    return canonical(f"/dev/{name}" if section == "volume_group" else name)
