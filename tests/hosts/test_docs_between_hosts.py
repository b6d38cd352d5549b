"""The pages that name hosts do what they show, between two sshds."""

from __future__ import annotations

from pathlib import Path

import pytest

from .. import pages

_BETWEEN = [page for page in pages.that_run() if pages.names_hosts(page.read_text())]


@pytest.mark.parametrize("page", _BETWEEN, ids=lambda page: page.stem)
def test_what_a_page_shows_is_what_its_commands_print(page: Path, tmp_path: Path) -> None:
    pages.check(page, tmp_path)
