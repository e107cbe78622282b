"""How a repeated run compares with the first one: the loss line by line, and what the machine was each time."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hotlap.runs.views import config_differences

_ENVIRONMENT: Final = (
    "hotlap",
    "python",
    "torch",
    "platform",
    "processor",
    "device",
    "device_name",
    "threads",
    "devices",
    "batch_size",
    "accumulation_steps",
    "git_commit",
    "num_parameters",
    "sources",
    "data",
)
"""Facts of environment.json that may make a run another one."""

Point = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceComparison:
    """Two runs' losses at the steps that both have logged."""

    metric: str
    steps: int
    """Logged steps that were compared."""
    first_difference: int | None
    """Step of the first pair that is not equal to the last digit."""
    largest_difference: float

    def __str__(self) -> str:
        if not self.steps:
            return f"{self.metric}: no step that both have logged"
        count = f"{self.steps} step{'' if self.steps == 1 else 's'}"
        if self.first_difference is None:
            return f"{self.metric}: equal to the last digit wherever both have logged it ({count})"
        return (
            f"{self.metric}: differs from step {self.first_difference} on, by {self.largest_difference:.3g} at most "
            f"({count} that both have logged)"
        )


def compare_traces(first: Sequence[Point], second: Sequence[Point], metric: str) -> TraceComparison:
    """Compare a metric at the steps at which both runs have logged it; two values that are not a number are equal."""
    before, after = ({int(p["step"]): float(p[metric]) for p in points if metric in p} for points in (first, second))
    compared = {step: _distance(before[step], after[step]) for step in sorted(before.keys() & after.keys())}
    return TraceComparison(
        metric=metric,
        steps=len(compared),
        first_difference=next((step for step, distance in compared.items() if distance), None),
        largest_difference=max(compared.values(), default=0.0),
    )


def environment_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Return what was not the same when two runs were made, by dotted name, with both values."""
    kept = [{name: facts[name] for name in _ENVIRONMENT if name in facts} for facts in (first, second)]
    return config_differences(kept)


def _distance(old: float, new: float) -> float:
    if old == new or (math.isnan(old) and math.isnan(new)):
        return 0.0
    distance = abs(old - new)
    return distance if math.isfinite(distance) else math.inf
