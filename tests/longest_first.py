"""The files of tests in the order in which they are run: the longest first.

Files are dealt out to several workers one by one. Where a long one comes last, the other workers
have nothing to do meanwhile. How long each took is kept in pytest's cache; a file that never ran
here is taken to be as long as others of its ring are.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Final

import pytest

_KEPT: Final = "virtstore/seconds"
#: Seconds that a test takes, about, by its ring. A file of the lab boots one besides.
_EACH: Final = {"lab": 3.0, "ceph": 3.0, "hosts": 1.0, "tools": 0.3, "contract": 0.1}
_BOOT: Final = 10.0


def configure(config: pytest.Config) -> None:
    """Let xdist keep to that order; its own is by the number of tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def sort(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the items of longer files first; those of one file stay together, in their order."""
    count = Counter(map(_file, items))
    known = _known(config)
    seconds = {file: known.get(file, _guess(file, number)) for file, number in count.items()}
    items.sort(key=lambda item: (-seconds[_file(item)], _file(item)))


def note(config: pytest.Config, reports: Iterable[pytest.TestReport]) -> None:
    """Keep how long each file took."""
    took: defaultdict[str, float] = defaultdict(float)
    for report in reports:
        took[report.nodeid.partition("::")[0]] += report.duration
    if cache := getattr(config, "cache", None):
        rounded = {file: round(seconds, 1) for file, seconds in took.items()}
        cache.set(_KEPT, _known(config) | rounded)


def _known(config: pytest.Config) -> dict[str, float]:
    cache = getattr(config, "cache", None)
    return cache.get(_KEPT, {}) if cache else {}


def _guess(file: str, count: int) -> float:
    ring = file.split("/")[1] if file.count("/") else ""
    return count * _EACH.get(ring, 0.03) + (_BOOT if ring == "lab" else 0)


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]
