"""What each run of a sweep is worth to its sampler: one finite number for all of them, lower is better.

A sweep optimises the value of a metric at the end of a run, or the time to its targets. Runs that were stopped early
count with what they had come to; runs that diverged, broke or ran out of memory count as clearly worse than the worst.
A sampler that was told of successes alone would go on asking for what fails.
"""

import math
from collections.abc import Mapping
from statistics import median
from typing import Final

from hotlap.core.records import History, RunRecord
from hotlap.core.scores import FAILED_SPREADS, FAILURES, TIME_TO_TARGET, Goal
from hotlap.search.score import last_evaluation, score_candidates, yardstick_of

_LEAST_DISTANCE: Final = 1e-9
"""And by at least this share of the worst: two values may be as good as equal."""


def sweep_scores(history: History, metric: str, goal: Goal) -> dict[int, float]:
    """Return the score of each candidate that ran; a metric that is to be maximised counts with its sign turned.

    For `time_to_target` these are log seconds, with misses graded by how far they came. For a metric a candidate with
    several seeds counts with the median of them.
    """
    if metric == TIME_TO_TARGET:
        return {number: score.value for number, score in score_candidates(history, yardstick_of(history)).items()}
    sign = 1.0 if goal == "minimize" else -1.0
    values = {number: candidate_value(history, number, metric, goal) for number in _candidates(history)}
    known = {number: sign * value for number, value in values.items() if math.isfinite(value)}
    failed = _failed_value(known)
    return {number: known.get(number, failed) for number in values}


def final_value(run: RunRecord, metric: str) -> float:
    """Return a metric at the end of a run, or where it was stopped; not a number where it failed or never told."""
    if run.outcome in FAILURES:
        return math.nan
    value = last_evaluation(run).get(metric)
    return float(value) if value is not None and math.isfinite(value) else math.nan


def run_value(run: RunRecord, metric: str, history: History) -> float:
    """Return what a run came to, in the unit of the metric; a time to target in seconds, infinite for a miss."""
    return run.clock_to_target(history.clock) if metric == TIME_TO_TARGET else final_value(run, metric)


def candidate_value(history: History, candidate: int, metric: str, goal: Goal) -> float:
    """Return the median of what the runs of a candidate came to, without those that never told.

    A failed run counts as worse than any value. Not a number where none told, or where half of them failed; a time to
    target is infinite where the median run missed.
    """
    failed = math.inf if goal == "minimize" else -math.inf
    values = [
        failed if run.outcome in FAILURES else run_value(run, metric, history) for run in history.runs_of(candidate)
    ]
    known = [value for value in values if not math.isnan(value)]
    middle = median(known) if known else math.nan
    return middle if metric == TIME_TO_TARGET or math.isfinite(middle) else math.nan


def holds(value: float, target: float, goal: Goal) -> bool:
    """Say whether a value is as good as was asked for."""
    return value <= target if goal == "minimize" else value >= target


def _candidates(history: History) -> list[int]:
    return [number for number in range(len(history.proposals) + 1) if history.runs_of(number)]


def _failed_value(known: Mapping[int, float]) -> float:
    """Return the score of a failed run; 0 while nothing else is known."""
    if not known:
        return 0.0
    best, worst = min(known.values()), max(known.values())
    distance = FAILED_SPREADS * (worst - best or abs(worst) or 1.0)
    return worst + max(distance, _LEAST_DISTANCE * max(abs(worst), _LEAST_DISTANCE))
