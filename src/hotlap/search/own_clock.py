"""Can the clock that changed code reports be believed? What it leaves out shows on the wall clock.

A command's own clock counts its training and leaves out its start, its evaluations and its saving. A change may make
those shorter, but time that moves from inside the clock to its outside was not saved.
"""

from collections.abc import Sequence
from typing import Final

from hotlap.core.durations import format_seconds
from hotlap.core.records import RunRecord

USUAL_GROWTH: Final = 1.25
"""Ratio of the time outside the clock to the longest that a calibration run had, which nobody asks about."""
USUAL_SHARE: Final = 0.05
"""Share of a run's wall clock that may lie outside beside that."""
LEAST_SECONDS: Final = 1.0


def own_clock_problem(run: RunRecord, calibration: Sequence[RunRecord]) -> str:
    """Say why a run's own clock cannot be all of its training; empty where nothing speaks against it."""
    outside = outside_seconds(run)
    known = [seconds for other in calibration if (seconds := outside_seconds(other)) is not None]
    if outside is None or not known:
        return ""
    allowed = USUAL_GROWTH * max(known) + USUAL_SHARE * run.wall_seconds + LEAST_SECONDS
    if outside <= allowed:
        return ""
    return (
        f"{format_seconds(outside)} until its target lie outside of the clock that it reports "
        f"({format_seconds(allowed)} would be usual): time that the clock leaves out was not saved"
    )


def outside_seconds(run: RunRecord) -> float | None:
    """Return the wall seconds until a run's target that its training clock did not count; None for a miss."""
    times = run.time_to_target
    if run.outcome != "reached" or times is None or "wall" not in times or "train" not in times:
        return None
    return float(times["wall"]) - float(times["train"])
