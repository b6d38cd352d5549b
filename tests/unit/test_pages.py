"""What the commands of a page print is written into it only where they can run."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import pages


@pytest.mark.parametrize("place", ["/dev/rbd/vms", "/dev/vg0"])
def test_a_page_that_needs_a_cluster_or_the_lab_is_left_as_it_is(
    tmp_path: Path, place: str
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"```console\n$ virtstore list {place}\nwhat it shows\n```\n")
    was = page.read_text()
    with pytest.raises(SystemExit, match="edit it by hand"):
        pages.write(page)
    assert page.read_text() == was
