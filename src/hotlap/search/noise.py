"""How noisy the clock is in this study, and what that noise lets the study see.

All spreads are standard deviations of **log** time to target: noise multiplies, so 0.05 reads as 5 %.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, median
from typing import Final

from hotlap.core.clock import GRID_RATIO, ClockName
from hotlap.core.records import SELECTED_ROLES, History, RunRecord

SIGMA_FLOOR: Final = 0.05
"""Least noise believed while few runs were made: three runs that agree by luck prove little."""
TRUSTED_DEGREES_OF_FREEDOM: Final = 5
MARGIN_SIGMAS: Final = 1.5
"""A change must beat the incumbent's median by this many sigma, twice."""
SIMPLER_MARGIN_SIGMAS: Final = 0.5
"""The same for a change that only removes something."""

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Spread of log time to target between runs that differ in their seed only."""

    sigma: float
    """The spread that is used: the measured one, or the floor or the resolution where that is larger."""
    degrees_of_freedom: int
    """Runs beyond the first of each candidate that the measured spread rests on."""
    resolution: float
    """Log distance of two readings of the evaluation grid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What the unselected runs of one candidate say; a median that falls on a miss is infinite."""

    median_seconds: float
    low_seconds: float
    high_seconds: float
    reached: int
    runs: int
    steps: float
    """Median optimizer steps to the target over the runs that reached; not a number without one."""
    seconds_per_step: float
    """Median training seconds of a step; not a number without one."""


def estimate(history: History, candidate: int, clock: ClockName | None = None) -> Estimate:
    """Return time to target, steps and step time of a candidate, from its unselected runs.

    Misses rank above all hits. A run that was stopped for its time before the median hit is left out: such a
    reading (the old side of a record look, stopped at twice the new side's time) says nothing about the median.
    """
    clock = clock or history.clock
    runs = _informative(history.unselected_runs(candidate), clock)
    times = sorted(run.clock_to_target(clock) for run in runs)
    steps = [run.time_to_target["step"] for run in runs if run.time_to_target and "step" in run.time_to_target]
    step_seconds = [run.seconds_per_step for run in runs if run.steps]
    return Estimate(
        median_seconds=median(times) if times else math.inf,
        low_seconds=times[0] if times else math.inf,
        high_seconds=times[-1] if times else math.inf,
        reached=sum(math.isfinite(seconds) for seconds in times),
        runs=len(times),
        steps=median(steps) if steps else math.nan,
        seconds_per_step=median(step_seconds) if step_seconds else math.nan,
    )


def _informative(runs: Sequence[RunRecord], clock: ClockName) -> list[RunRecord]:
    hits = [seconds for run in runs if math.isfinite(seconds := run.clock_to_target(clock))]
    typical = median(hits) if hits else 0.0
    return [run for run in runs if run.outcome != "out_of_budget" or run.reading(clock) >= typical]


def estimate_noise(history: History) -> Noise:
    """Return the pooled spread of log time to target within candidates, over unselected runs that reached.

    The baseline carries it at first. Where the baseline does not reach twice, the first candidate that does in its
    two fresh runs is the first to count. Below 5 degrees of freedom the spread is at least 5 %, and it is never
    below the resolution of the evaluation grid.
    """
    resolution = math.log(GRID_RATIO[history.clock])
    squares, degrees = 0.0, 0
    for candidate in dict.fromkeys(run.candidate for run in history.runs if run.role not in SELECTED_ROLES):
        times = [run.clock_to_target(history.clock) for run in history.unselected_runs(candidate)]
        logs = [math.log(seconds) for seconds in times if math.isfinite(seconds)]
        if len(logs) >= 2:
            center = fmean(logs)
            squares += sum((value - center) ** 2 for value in logs)
            degrees += len(logs) - 1
    measured = math.sqrt(squares / degrees) if degrees else 0.0
    floor = SIGMA_FLOOR if degrees < TRUSTED_DEGREES_OF_FREEDOM else 0.0
    return Noise(sigma=max(measured, floor, resolution), degrees_of_freedom=degrees, resolution=resolution)


def required_log_gain(noise: Noise, *, simplifies: bool = False) -> float:
    """Return by how much, in log time, a run must beat the incumbent's median (and within how much it is a tie).

    1.5 sigma, or 0.5 sigma for a change that only removes something. A sigma from three runs is often too small by
    luck; widening the margin for that (by Student's t, 1.6 times) was tried on simulated studies and left out: it
    halved the false keeps (0.35 to 0.19 in 20 tries, at a true sigma of 10 to 25 %) but missed a 30 % gain at a sigma
    of 10 % in 26 of 100 studies instead of 6.
    """
    return (SIMPLER_MARGIN_SIGMAS if simplifies else MARGIN_SIGMAS) * noise.sigma


def smallest_visible_effect(noise: Noise, power: float = 0.8) -> float:
    """Return the largest ratio of times (below 1) that a screen and a confirming run see with the given power.

    Both must pass, so each has to pass with the square root of the power.
    """
    return math.exp(-required_log_gain(noise) - _NORMAL.inv_cdf(math.sqrt(power)) * noise.sigma)


def runs_needed(noise: Noise, effect: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Return the runs of each side that show a gain of `effect` (0.02: 2 % less time), one-sided."""
    distance = (_NORMAL.inv_cdf(1 - alpha) + _NORMAL.inv_cdf(power)) * noise.sigma / -math.log1p(-effect)
    return max(2, math.ceil(2 * distance**2))


def expected_false_keeps(noise: Noise, tries: int, incumbent_runs: int = 3) -> float:
    """Return how many of `tries` changes that do nothing would be kept, if sigma is what it seems.

    Averages over the error of the incumbent's own median: screen and confirm must pass, two fresh runs be faster.
    """
    margin = required_log_gain(noise) / noise.sigma
    error = math.sqrt(math.pi / 2 / incumbent_runs) if incumbent_runs > 2 else math.sqrt(1 / incumbent_runs)
    slices = 200
    total = 0.0
    for index in range(slices):
        shift = error * _NORMAL.inv_cdf((index + 0.5) / slices)
        total += _NORMAL.cdf(shift - margin) ** 2 * _NORMAL.cdf(shift * math.sqrt(2))
    return tries * total / slices
