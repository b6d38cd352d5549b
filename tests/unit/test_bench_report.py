"""What the page of benchmarks says of figures."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench import remarks, report
from bench.model import Contender, Document, Machine, Result, Run, Share

_MACHINE = Machine("2026-11-29", "some", 2, 4 << 30, "6.1", "ext4", {})


def _contender(name: str, seconds: float, shares: tuple[Share, ...] = ()) -> Contender:
    return Contender(name, name, (Run(seconds, seconds),), shares=shares)


def _page(*results: Result) -> str:
    return report.markdown(Document(_MACHINE, 1, False, results), Path("/nonexistent"))


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.8, "faster than"), (1.03, "as fast as"), (1.3, "slower than")]
)
def test_a_peer_is_called_what_it_was_in_this_run(seconds: float, said: str) -> None:
    ours, peer = _contender("virtstore", 1.0), _contender("tar", seconds)
    assert f"`tar` is {said} virtstore" in remarks.beside("tar", "It checks nothing.")([ours, peer])


def test_nothing_is_said_of_a_peer_that_could_not_run() -> None:
    peer = Contender("tar", "tar", trouble="not here: tar")
    said = remarks.beside("tar", "It checks nothing.")([_contender("virtstore", 1.0), peer])
    assert said == ""


def test_processor_time_is_shown_for_each_end_apart() -> None:
    shares = (Share("here", "agent", 1.5), Share("here", "ssh", 0.25), Share("there", "agent", 0.5))
    page = _page(Result("archive", "copy", (_contender("virtstore", 2.0, shares),)))
    assert "| archive | virtstore | agent 1.50 s, ssh 0.25 s | agent 0.50 s |" in page


def test_a_job_on_one_host_is_not_in_the_table_of_ends() -> None:
    shares = (Share("here", "agent", 1.5),)
    page = _page(Result("compress", "compress", (_contender("virtstore", 2.0, shares),)))
    assert "agent 1.50 s" not in page


def test_a_row_that_was_measured_later_takes_the_place_of_the_old_one_and_says_when() -> None:
    old = Document(
        _MACHINE,
        5,
        False,
        tuple(Result(name, name, (_contender("virtstore", 1.0),)) for name in ("copy", "list")),
    )
    later = Machine("2026-12-24", "some", 2, 4 << 30, "6.1", "ext4", {"virtstore": "0.2"})
    rows = tuple(Result(name, name, (_contender("virtstore", 9.0),)) for name in ("copy", "rbd"))
    both = old.with_rows_of(Document(later, 3, False, rows))
    assert [result.name for result in both.results] == ["copy", "list", "rbd"]
    page = report.markdown(both, Path("/nonexistent"))
    copy, listing = page.index("## copy"), page.index("## list")
    said = "Measured apart from the other rows: 2026-12-24, 3 runs, virtstore 0.2, Linux 6.1."
    assert said in page[copy:listing]
    assert said not in page[listing : page.index("## rbd")]
    assert "9.00 s" in page[copy:listing]
