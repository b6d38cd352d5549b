"""The pages that name hosts do what they show, between two sshds."""

from __future__ import annotations

from pathlib import Path

import pytest

from .. import pages, shown


@pytest.mark.parametrize("page", shown.of_ring("hosts"), ids=lambda page: page.stem)
def test_what_a_page_shows_is_what_its_commands_print(page: Path, tmp_path: Path) -> None:
    pages.check(page, tmp_path)
