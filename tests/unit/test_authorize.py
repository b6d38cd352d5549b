"""What is told of a key whose host lacks what the key needs."""

from __future__ import annotations

import tomllib

import msgspec
import pytest
from tests.unit.test_install import BARE

from virtstore.client.authorize import lacking
from virtstore.model import Access

Tables = tuple[tuple[str, str, str], ...]


def told(
    directory: str, access: Access, tables: Tables | None, missing: tuple[str, ...] = ()
) -> list[str]:
    facts = msgspec.structs.replace(BARE, configured=tables, missing_directories=missing)
    return [*lacking(facts, directory, access)]


@pytest.mark.parametrize("tables", [None, (), (("directory", "/srv/back", "write"),)])
def test_of_a_directory_that_nothing_allows_the_lines_are_told(tables: Tables | None) -> None:
    [warning] = told("/srv/backups/", "append", tables)
    first, _, lines = warning.partition("\n")
    assert BARE.configuration in first
    assert tomllib.loads(lines) == {"directory": [{"path": "/srv/backups", "access": "append"}]}


def test_of_a_directory_that_is_not_there_it_is_told_how_to_make_it() -> None:
    allowed = (("directory", "/srv", "append"),)
    [warning] = told("/srv/a b", "append", allowed, ("/srv/a b",))
    assert warning.endswith("install -d -m 700 '/srv/a b'")
    assert len(told("/srv/a b", "append", (), ("/srv/a b",))) == 2


@pytest.mark.parametrize(
    ("directory", "table"),
    [
        ("/srv/backups", ("directory", "/srv/backups/", "append")),
        ("/srv/backups/a", ("directory", "/srv/backups", "write")),
        ("/srv", ("directory", "/srv/backups", "append")),
        ("/dev/vg0", ("volume_group", "vg0", "append")),
        ("/dev/vg0/web", ("volume_group", "vg0", "append")),
        ("/dev/sdb", ("block_device", "/dev/disk/by-id/x", "append")),
    ],
)
def test_what_is_allowed_is_told_nothing_of(directory: str, table: tuple[str, str, str]) -> None:
    assert told(directory, "append", (table,)) == []


@pytest.mark.parametrize("level", ["", "read"])
def test_a_configuration_that_allows_less_is_told(level: str) -> None:
    tables = (("directory", "/srv", "write"), ("directory", "/srv/x", level))
    [warning] = told("/srv/x/y", "append", tables)
    assert 'has access = "read" for /srv/x' in warning
    assert 'writes access = "append"' in warning
    assert told("/srv/y", "append", tables) == []


def test_of_what_may_be_a_device_the_host_itself_is_asked() -> None:
    """Only there it is seen what it is."""
    [warning] = told("/dev/vg1", "read", (("volume_group", "vg0", "write"),), ("/dev/vg1",))
    assert "'virtstore doctor'" in warning
