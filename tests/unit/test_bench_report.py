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
