"""The evaluations of a run in brief: few enough to be kept in memory for every run of a study."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from hotlap.core.targets import CHEAP_METRICS, GENERATION_METRICS, is_task_metric

MOST_EVALUATIONS: Final = 24
_METRICS: Final = frozenset((*CHEAP_METRICS, *GENERATION_METRICS))
_KEPT: Final = ("step", "train_seconds", "wall_seconds", *CHEAP_METRICS, *GENERATION_METRICS)


def brief_evaluations(points: Sequence[Mapping[str, Any]], also: Collection[str] = ()) -> tuple[dict[str, float], ...]:
    """Return at most 24 evaluations of a run: the first, the last and evenly spaced ones between.

    Evaluations fall on a geometric grid of the clock, so evenly spaced means evenly in log time. Kept are the clock
    readings and the metrics that targets may name, `also` those of somebody else's command; values that are not finite
    are left out.
    """
    found = [point for point in points if not _METRICS.isdisjoint(point) or any(name in point for name in also)]
    most = min(len(found), MOST_EVALUATIONS)
    last = len(found) - 1
    indices = dict.fromkeys(round(index * last / max(1, most - 1)) for index in range(most))
    return tuple(
        {
            name: value
            for name in (*_names(found[index]), *also)
            if (value := _finite(found[index].get(name))) is not None
        }
        for index in indices
    )


def _names(point: Mapping[str, Any]) -> list[str]:
    """Return what is kept of a point: what every evaluation has, then what it has of the tasks of a mixture."""
    return [*_KEPT, *filter(is_task_metric, point)]


def _finite(value: object) -> float | None:
    """Return a finite number, None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
