"""The line that tells for which of several hosts a command waits."""

from __future__ import annotations

import pytest

from virtstore.cli.meter import waiting_text


@pytest.mark.parametrize(
    ("names", "width", "ends"),
    [
        (["a", "b"], 80, "waiting for: a, b"),
        (["alpha", "beta", "gamma"], 63, "waiting for: alpha, beta, gamma"),
        (["alpha", "beta", "gamma"], 62, "waiting for: alpha and 2 more"),
        (["a" * 90, "b"], 60, "waiting for: aaaaaaaaaaaaaaa"),
        (["a\x1b[2J"], 80, "waiting for: a?[2J"),
    ],
)
def test_it_names_as_many_as_there_is_room_for(names: list[str], width: int, ends: str) -> None:
    text = waiting_text(names, 103, width)
    assert text.endswith(ends)
    assert len(text) <= width
    assert text.startswith(f"{103 - len(names)} of 103 hosts have answered; ")
