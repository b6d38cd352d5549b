"""More that a host's configuration allows, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def configured(configuration: Path, table: str) -> Iterator[None]:
    """One more root, as a `table` of TOML, in a host's configuration while this lasts."""
    before = configuration.read_text()
    configuration.write_text(f"{before}\n{table}")
    try:
        yield
    finally:
        configuration.write_text(before)
