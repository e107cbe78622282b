"""The start of a run's training loss: two runs with one seed that do the same work have the same one."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

MOST_POINTS: Final = 5
Trace = tuple[tuple[int, float], ...]
"""Step and training loss, oldest first."""


def brief_trace(points: Sequence[Mapping[str, Any]]) -> Trace:
    """Return step and training loss of the first lines of figures of a run, up to one that is not finite."""
    found: list[tuple[int, float]] = []
    for point in points:
        loss, step = point.get("train_loss"), point.get("step")
        if not isinstance(loss, int | float) or not isinstance(step, int):
            continue
        if len(found) == MOST_POINTS or not math.isfinite(loss):
            break
        found.append((step, float(loss)))
    return tuple(found)


def trace_difference(left: Trace, right: Trace) -> float:
    """Return the largest relative difference of the losses at common steps; not a number without a common step."""
    other = dict(right)
    common = [(loss, other[step]) for step, loss in left if step in other]
    return max((abs(a - b) / max(abs(a), abs(b), 1e-12) for a, b in common), default=math.nan)
