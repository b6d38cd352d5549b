"""The pages that name a volume group do what they show."""

from __future__ import annotations

from pathlib import Path

import pytest

from ... import pages, shown


@pytest.mark.parametrize("page", shown.of_ring("lab"), ids=lambda page: page.stem)
def test_what_a_page_shows_is_what_its_commands_print(
    vg0: None, page: Path, tmp_path: Path
) -> None:
    pages.check(page, tmp_path)
