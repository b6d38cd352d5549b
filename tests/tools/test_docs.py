"""The pages do what they show, for a user whose PATH has no /usr/sbin. The site is built of them
alone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .. import pages, shown


@pytest.mark.parametrize("page", shown.of_ring("tools"), ids=lambda page: page.stem)
def test_what_a_page_shows_is_what_its_commands_print(page: Path, tmp_path: Path) -> None:
    pages.check(page, tmp_path)


def test_the_site_is_built_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(argv, cwd=shown.ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    tag = r'<(?:script|img|link|iframe)\b[^>]*?(?:src|href)="?([^" >]+)'
    for page in tmp_path.rglob("*.html"):
        fetched = re.findall(tag, page.read_text())
        assert fetched
        assert not [each for each in fetched if re.match(r"\w+:|//", each)], page


_SHOWN = """
<!-- before:
$ mkdir work
-->

```console
$ cd work
$ printf '%s bytes in %s\\n' 4096 "$PWD"
1 bytes in /home/you/work
$ false
$ echo $?
1
```
"""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("1 bytes in", "1 bytes out of"),
        ("$ false\n", "$ false\nfalse said something\n"),
        ("$ mkdir work", "$ mkdir work/work"),
        ("bytes in /home/you/work\n", "bytes in /home/you/work\nand more\n"),
    ],
)
def test_a_page_that_shows_what_is_not_printed_fails(
    tmp_path: Path, right: str, wrong: str
) -> None:
    page = tmp_path / "page.md"
    page.write_text(_SHOWN)
    pages.check(page, tmp_path / "as it is")
    assert right in _SHOWN
    page.write_text(_SHOWN.replace(right, wrong))
    with pytest.raises(AssertionError):
        pages.check(page, tmp_path / "otherwise")


def test_what_is_printed_can_be_written_into_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(_SHOWN.replace("\n1 bytes", "\nwhatever\n1 bytes"))
    pages.write(page)
    assert page.read_text() == _SHOWN.replace("1 bytes", "4096 bytes")
