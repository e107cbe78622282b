"""What the calibration runs say beside their times: the metric at a fixed reading of the clock, and how fast it falls.

A second spent is so much metric gained, so either can be read in units of the other: that tells how far from the target
a run was that missed it by a few seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev
from typing import Final

from hotlap.core.records import History, RunRecord
from hotlap.core.targets import parse_target

SLOPE_FROM: Final = 0.8
"""The slope is taken from this share of the fixed reading to the reading."""
Curve = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The metric of the first target over the calibration runs, at the last reading that all of them have."""

    metric: str
    reading_seconds: float
    mean: float
    sigma: float
    """Standard deviation between the runs."""
    slope_per_second: float
    """Change of the metric per second around the reading."""
    runs: int


def calibrate(history: History) -> Calibration | None:
    """Return what the baseline's runs say of the metric; None while fewer than two of them have two evaluations."""
    metric = _metric(history)
    curves = [curve for run in history.runs_of(0, "baseline") if len(curve := _curve(run, metric, history.clock)) >= 2]
    if len(curves) < 2:
        return None
    reading = min(curve[-1][0] for curve in curves)
    values = [value_at(curve, reading) for curve in curves]
    before = [value_at(curve, SLOPE_FROM * reading) for curve in curves]
    slope = (fmean(values) - fmean(before)) / ((1 - SLOPE_FROM) * reading) if reading > 0 else 0.0
    return Calibration(
        metric=metric,
        reading_seconds=reading,
        mean=fmean(values),
        sigma=stdev(values),
        slope_per_second=slope,
        runs=len(curves),
    )


def value_at(curve: Curve, seconds: float) -> float:
    """Return a metric at a reading, on straight lines between the evaluations and flat beyond them."""
    if seconds <= curve[0][0]:
        return curve[0][1]
    for (left, before), (right, after) in pairwise(curve):
        if seconds <= right:
            return before + (after - before) * (seconds - left) / (right - left) if right > left else after
    return curve[-1][1]


def _metric(history: History) -> str:
    targets = history.base_config.get("targets") or ()
    return parse_target(str(targets[0]), is_any_metric=True).metric if targets else "eval_loss"


def _curve(run: RunRecord, metric: str, clock: str) -> Curve:
    key = f"{clock}_seconds"
    return [(point[key], point[metric]) for point in run.evaluations if key in point and metric in point]
