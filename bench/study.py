"""A row that is more than a race: a function that measures it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.model import Contender, Failed, Result
from bench.place import Place


@dataclass(frozen=True)
class Study:
    name: str
    measured_by: Callable[[Place, int], Result]

    def measure(self, place: Place, runs: int) -> Result:
        try:
            return self.measured_by(place, runs)
        except Failed as failed:
            return Result(self.name, self.name, (Contender("virtstore", "", trouble=str(failed)),))
