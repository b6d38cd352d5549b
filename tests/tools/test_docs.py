"""The pages do what they show, for a user whose PATH has no /usr/sbin. The site is built of them
alone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .. import pages

_HERE = [page for page in pages.that_run() if not pages.names_hosts(page.read_text())]


@pytest.mark.parametrize("page", _HERE, ids=lambda page: page.stem)
def test_what_a_page_shows_is_what_its_commands_print(page: Path, tmp_path: Path) -> None:
    pages.check(page, tmp_path)


def test_the_site_is_built_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(argv, cwd=pages.ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    tag = r'<(?:script|img|link|iframe)\b[^>]*?(?:src|href)="?([^" >]+)'
    for page in tmp_path.rglob("*.html"):
        fetched = re.findall(tag, page.read_text())
        assert fetched
        assert not [each for each in fetched if re.match(r"\w+:|//", each)], page
