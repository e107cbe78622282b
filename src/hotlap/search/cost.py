"""What runs will cost in wall-clock seconds, so that a study ends with a record and not in the middle of one."""

import math
from collections.abc import Sequence
from statistics import median
from typing import Final

from hotlap.core.records import History, RunRecord
from hotlap.search.judge import FRESH_RUNS
from hotlap.search.noise import estimate, estimate_noise

LIMIT_RATIO: Final = 2.0
"""Runs whose reading may be censored are stopped at this many times the incumbent's time."""
PASSING_RATIO: Final = 0.5
"""Time of a change that is confirmed, relative to the incumbent's: early on, where room is short, gains are large."""
SLOWER_SIGMAS: Final = 4.0
"""Who needs so much longer than a candidate is slower, whatever the seeds are."""


def overhead_seconds(runs: Sequence[RunRecord]) -> float:
    """Return the median of wall minus training seconds: start-up, evaluation and saving of one run."""
    extra = [run.wall_seconds - run.train_seconds for run in runs if run.steps and not run.is_infrastructure_failure]
    return max(0.0, median(extra)) if extra else 0.0


def run_cost(history: History, candidate: int, run_seconds: float, ratio: float = 1.0) -> float:
    """Return the wall seconds that a run of `ratio` times a candidate's time takes; a miss takes all it may."""
    seconds = estimate(history, candidate).median_seconds
    reading = min(run_seconds, ratio * seconds) if math.isfinite(seconds) else run_seconds
    return reading + (overhead_seconds(history.runs) if history.clock == "train" else 0.0)


def limit_seconds(history: History, candidate: int, run_seconds: float) -> float:
    """Return where a run is stopped that needs no more than a censored reading: twice a candidate's time."""
    return min(run_seconds, LIMIT_RATIO * estimate(history, candidate).median_seconds)


def slower_seconds(history: History, candidate: int, run_seconds: float) -> float:
    """Return where a run is stopped that has to show no more than whether it is slower than a candidate."""
    return min(run_seconds, _slower_ratio(history) * estimate(history, candidate).median_seconds)


def _slower_ratio(history: History) -> float:
    return min(LIMIT_RATIO, math.exp(SLOWER_SIGMAS * estimate_noise(history).sigma))


def record_cost(history: History, run_seconds: float, runs_per_side: int) -> float:
    """Return the wall seconds of one record look at the incumbent, whose other side is stopped once it is slower."""
    ratio = (1 + _slower_ratio(history)) / 2
    return 2 * runs_per_side * run_cost(history, history.incumbent, run_seconds, ratio)


def least_record_cost(history: History, run_seconds: float, runs_per_side: int) -> float:
    """Return the same if the old side is no slower: with less it is not worth beginning."""
    return 2 * runs_per_side * run_cost(history, history.incumbent, run_seconds)


def proposal_cost(history: History, run_seconds: float) -> float:
    """Return the wall seconds that one more proposal may cost.

    With the baseline as incumbent there is no record to lose, and a change may be many times faster: one run. Later
    it is a screen at the incumbent's time and, since only a faster change gets further, a confirmation and a fresh run
    at a part of it.
    """
    screen = run_cost(history, history.incumbent, run_seconds)
    if not history.incumbent:
        return screen
    return screen + FRESH_RUNS * run_cost(history, history.incumbent, run_seconds, PASSING_RATIO)
