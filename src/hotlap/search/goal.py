"""Whether a study is as fast as its user asked (`stop_when`), by the runs that were not chosen for being fast."""

import math
from statistics import median

from hotlap.core.clock import ClockName
from hotlap.core.durations import format_seconds
from hotlap.core.goals import Goal
from hotlap.core.records import History, RunRecord
from hotlap.search.drift import comparable_runs, equivalent_factor
from hotlap.search.noise import estimate


def reached_goal(history: History, goal: Goal) -> str:
    """Return how the incumbent reaches the goal, in one sentence; empty while it does not."""
    found = estimate(history, history.incumbent)
    before = least_seconds(history, 0)
    if not found.median_seconds <= goal.limit_seconds(before):
        return ""
    now = f"{format_seconds(found.median_seconds)} ({found.runs} runs)"
    if goal.share is None:
        return f"the goal of {goal} is reached: {now}"
    return f"the goal of {goal} is reached: {now} against the baseline's {format_seconds(before)}"


def least_seconds(history: History, candidate: int) -> float:
    """Return a candidate's median time to target, or what it is at least: a miss counts with its last reading.

    In seconds of the machine as it is now. Not a number while it has not run.
    """
    seconds = estimate(history, candidate).median_seconds
    if math.isfinite(seconds):
        return seconds
    runs = comparable_runs(history, candidate, "baseline", "incumbent")  # record runs may have been stopped early
    times = [equivalent_factor(history, run) * _least(run, history.clock) for run in runs]
    return median(times) if times else math.nan


def _least(run: RunRecord, clock: ClockName) -> float:
    seconds = run.clock_to_target(clock)
    return seconds if math.isfinite(seconds) else run.reading(clock)
