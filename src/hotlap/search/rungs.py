"""Stop the runs of a sweep that are far behind the others at the same reading of the clock.

Asynchronous successive halving (Li et al. 2018, arXiv 1810.05934) with rungs on the clock, not on steps: a run with a
larger batch or model takes fewer steps in the same time, and time is what a sweep spends. At each rung one run in `eta`
goes on. Whoever is stopped is told against whom.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hotlap.core.clock import ClockName
from hotlap.core.durations import format_seconds
from hotlap.core.records import Kill

LEAST_OTHERS: Final = 3
"""Other runs that a rung must have seen before it stops one, or `eta` where that is more."""

Point = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RungRules:
    """When a run of a sweep is stopped early."""

    clock: ClockName
    metric: str
    is_minimized: bool
    eta: float
    """Of the runs at a rung, one in eta goes on."""
    readings: tuple[float, ...]
    """Seconds of the clock at which a run is looked at, ascending."""
    limit_seconds: float
    """Longest run."""
    is_strict: bool = False
    """Whether runs are stopped as readily as in the paper: by fewer others, and no place is rounded up."""

    def value_at(self, points: Iterable[Point], reading: float) -> float | None:
        """Return the last value of the metric up to a reading; None where the run did not get there or never told."""
        value: float | None = None
        is_past = False
        for point in points:
            seconds = float(point.get(f"{self.clock}_seconds", 0.0))
            is_past = is_past or seconds >= reading
            if seconds > reading and value is not None:
                break
            value = float(point[self.metric]) if point.get(self.metric) is not None else value
        return value if is_past else None

    def verdict(self, points: Sequence[Point], others: Sequence[Sequence[Point]], passed: int) -> Kill | None:
        """Return why a run is stopped at the rung after those it has passed; `others` are the points of other runs."""
        reading = self.readings[passed]
        value = self.value_at(points, reading)
        assert value is not None, "a run is judged at a rung once it is there"
        known = [found for other in others if (found := self.value_at(other, reading)) is not None]
        if len(known) < self._least_others:
            return None
        better = sum(self._is_better(other, value) for other in known)
        places = self._places(len(known) + 1)
        if better < places and math.isfinite(value):
            return None
        ranked = sorted(filter(math.isfinite, known), reverse=not self.is_minimized)
        last = ranked[places - 1] if len(ranked) >= places else math.nan
        reason = (
            f"not among the best {places} of {len(known) + 1} runs at {format_seconds(reading)}: {self.metric} "
            f"{value:.4g}, place {places} had {last:.4g}"
        )
        numbers = {"rung_seconds": reading, "value": value, "last_place": last, "rank": better + 1.0}
        evidence = {name: number for name, number in numbers.items() if math.isfinite(number)}
        at = float(points[-1].get(f"{self.clock}_seconds", reading))
        saved = max(0.0, self.limit_seconds - at)
        return Kill(rule="rung", reason=reason, at_seconds=at, saved_seconds=saved, evidence=evidence)

    @property
    def _least_others(self) -> int:
        """Other runs that a rung must have seen before it stops one."""
        return math.ceil(self.eta) - 1 if self.is_strict else max(LEAST_OTHERS, math.ceil(self.eta))

    def _places(self, count: int) -> int:
        """Return how many of so many runs at a rung go on."""
        return max(1, math.floor(count / self.eta)) if self.is_strict else math.ceil(count / self.eta)

    def _is_better(self, one: float, other: float) -> bool:
        if not math.isfinite(other):
            return True
        return one < other if self.is_minimized else one > other

    def due(self, points: Sequence[Point], passed: int) -> bool:
        """Say whether a run has come to its next rung, with an evaluation to be judged by."""
        return passed < len(self.readings) and self.value_at(points, self.readings[passed]) is not None
