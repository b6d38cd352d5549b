"""A power cut during any operation on a volume leaves the old or the new, and nothing lost.

One cut of each operation; `python -m tests.lab.torture` makes all of them.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from .cut_operations import OPERATIONS
from .power_cuts import Cut, Lightning, Outcome, at_every_step


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    """Of all operations in one go, since each boot judges one cut and makes the next."""
    chance = random.Random(3)
    cuts: list[Cut] = []
    for number, operation in enumerate(OPERATIONS.values()):
        # Thick and thin in turn, so that no boot is needed for judging only.
        cuts.append(chance.choice(at_every_step(operation)[number % 2 :: 2]))
    return list(Lightning(_directory(tmp_path_factory)).strike(cuts))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_final_name_is_old_or_new_after_a_power_cut(
    operation: str, outcomes: list[Outcome]
) -> None:
    mine = [outcome for outcome in outcomes if outcome.cut.operation == operation]
    assert len(mine) == 1
    assert [str(outcome) for outcome in mine if outcome.verdict.problems] == []


def _directory(factory: pytest.TempPathFactory) -> Path:
    return factory.mktemp("cuts") / "lab"
