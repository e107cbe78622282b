"""What a sweep does next: a pure function of what happened so far and of what is running.

baseline → points of the sampler, as many at once as there are slots → the best few with more seeds → end
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, Literal

from hotlap.core.clock import ClockName
from hotlap.core.durations import format_seconds
from hotlap.core.records import History, Role
from hotlap.core.scores import TIME_TO_TARGET, Goal
from hotlap.core.targets import GENERATION_METRICS
from hotlap.search.sweep_score import candidate_value, holds, sweep_scores

MOST_FAILURES: Final = 3
"""Runs in a row that the machine may spoil."""
MOST_RESERVED: Final = 1 / 3
"""Share of the budget that is kept for the repetitions of the best at most."""
RETRY: Final = "retry"
"""Proposer of a point that failed and is tried once more."""
OWN_ENDS: Final = ("reached", "missed", "out_of_budget")
"""Outcomes of runs that nobody stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSettings:
    """What a sweep optimises, and what it may spend."""

    metric: str = "eval_loss"
    goal: Goal = "minimize"
    target: float | None = None
    """Value of the metric at which no further point is asked for."""
    clock: ClockName = "train"
    run_cap: int | None = None
    """Most points, the baseline not counted; None: as many as the budget has room for."""
    total_seconds: float = 3600.0
    """Longest sweep, wall clock."""
    run_seconds: float = 900.0
    """Longest run, on the clock."""
    slots: int = 1
    """Runs at the same time."""
    top: int = 3
    """Points that run again with other seeds before the best is named."""
    seeds: int = 3
    """Runs of each of them, the first one counted."""
    seed_base: int = 42


@dataclass(frozen=True, slots=True)
class Start:
    """Start a run of a candidate."""

    role: Role
    candidate: int
    seed: int


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the sampler for the next point; when it has none, call again with the reason in `no_points`."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be started before a run has ended."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Nothing is left to do, and why."""

    reason: str
    cause: Literal["end", "interrupted", "machine"] = "end"
    """`end`: the sweep is over. Else the same command goes on: the user stopped it, or the machine spoiled its runs."""


SweepAction = Start | Ask | Wait | Stop


def next_sweep_action(
    history: History,
    running: Sequence[Start],
    settings: SweepSettings,
    *,
    spent_seconds: float,
    no_points: str = "",
    sitting_start: int = 0,
) -> SweepAction:
    """Return what a sweep does next; the same arguments always give the same answer.

    `spent_seconds` is the age of the sweep now, `sitting_start` the number of runs that earlier sittings had made;
    `no_points` says why the sampler has no further point, empty while it may have one.
    """
    if reason := _spoiled(history, sitting_start):
        return Wait() if running else Stop(reason, "machine")
    if reason := _untold(history, settings.metric):
        return Wait() if running else Stop(reason)
    if spent_seconds >= settings.total_seconds:
        return Wait() if running else Stop(f"the budget of {format_seconds(settings.total_seconds)} is used up")
    if len(running) >= settings.slots:
        return Wait()
    if (start := _next_first_run(history, running, settings)) is not None:
        return start
    why_no_more = no_points or _why_no_more(history, settings, spent_seconds)
    if not why_no_more:
        return Ask()
    if (repeat := _next_repeat(history, running, settings, spent_seconds)) is not None:
        return repeat
    return Wait() if running else Stop(why_no_more)


def ranking(history: History, settings: SweepSettings) -> list[int]:
    """Return the points that came to a value, best first: those that ran with all their seeds, then the others.

    A point counts with the median of its runs, and one lucky run is no reason to be named the best. What failed, was
    stopped early or never told the metric is left out, and so is the baseline.
    """
    scores = sweep_scores(history, settings.metric, settings.goal)
    usable = [number for number in scores if number and _has_value(history, number, settings)]
    return sorted(usable, key=lambda number: (not _is_repeated(history, number, settings), scores[number], number))


def best_candidate(history: History, settings: SweepSettings) -> int | None:
    """Return the best point; None while there is none."""
    return next(iter(ranking(history, settings)), None)


def run_seconds(history: History, settings: SweepSettings) -> float:
    """Return the wall seconds that a run takes: the median of those that ended by themselves, or the longest."""
    ended = [run.wall_seconds for run in history.runs if run.outcome in OWN_ENDS]
    return median(ended) if ended else settings.run_seconds


def _has_value(history: History, number: int, settings: SweepSettings) -> bool:
    """Say whether a run of a point ended by itself, and any of them told the metric (a miss tells its time, too)."""
    has_ended = any(run.outcome in OWN_ENDS for run in history.runs_of(number))
    return has_ended and not math.isnan(candidate_value(history, number, settings.metric, settings.goal))


def _is_repeated(history: History, number: int, settings: SweepSettings) -> bool:
    return len(history.runs_of(number)) >= settings.seeds


def _spoiled(history: History, sitting_start: int) -> str:
    """Say so when the machine spoils run after run of a sitting; empty while another one may help."""
    failures = 0
    for run in reversed(history.runs[sitting_start:]):
        if not run.is_infrastructure_failure:
            break
        failures += 1
    if failures <= MOST_FAILURES:
        return ""
    last = history.runs[-1]
    why = last.contaminated or last.reason or last.outcome
    return f"{failures} runs in a row were spoiled by the machine (the last one, {last.run_id}: {why})"


def _untold(history: History, metric: str) -> str:
    """Say so when runs end by themselves and none of them tells the metric: nothing could be compared.

    Metrics of generated text may come only from good runs.
    """
    if metric == TIME_TO_TARGET or metric in GENERATION_METRICS:
        return ""
    ended = [run for run in history.runs if run.outcome in OWN_ENDS and not run.is_infrastructure_failure]
    if not ended or any(metric in run.metrics for run in history.runs):
        return ""
    return f"{ended[0].run_id} ended by itself and told no {metric}; it told {', '.join(sorted(ended[0].metrics))}"


def _next_first_run(history: History, running: Sequence[Start], settings: SweepSettings) -> Start | None:
    """Return the first run of the first candidate that has none: of the baseline, a new point, or one that was lost."""
    under_way = {start.candidate for start in running}
    for number in range(len(history.proposals) + 1):
        if number not in under_way and not history.runs_of(number):
            return Start("screen" if number else "baseline", number, settings.seed_base)
    return None


def _why_no_more(history: History, settings: SweepSettings, spent_seconds: float) -> str:
    """Say why no further point is asked for; empty while one may be."""
    points = sum(proposal.proposer != RETRY for proposal in history.proposals)  # a point tried again is no new one
    if settings.run_cap is not None and points >= settings.run_cap:
        return f"all {settings.run_cap} points have run"
    if settings.target is not None and _reaches(history, settings, settings.target):
        return f"a run has reached {settings.metric} {settings.target:g}"
    cost = run_seconds(history, settings)
    repeats = settings.top * (settings.seeds - 1) * cost / settings.slots
    reserve = min(repeats, MOST_RESERVED * settings.total_seconds)
    if spent_seconds + cost + reserve > settings.total_seconds:
        return f"the budget of {format_seconds(settings.total_seconds)} has no room for another point"
    return ""


def _reaches(history: History, settings: SweepSettings, target: float) -> bool:
    numbers = range(1, len(history.proposals) + 1)
    values = [candidate_value(history, number, settings.metric, settings.goal) for number in numbers]
    return any(math.isfinite(value) and holds(value, target, settings.goal) for value in values)


def _next_repeat(
    history: History, running: Sequence[Start], settings: SweepSettings, spent_seconds: float
) -> Start | None:
    """Return the next run with another seed of one of the best; they are known once all points have ended."""
    if any(start.role != "confirm" for start in running):
        return None
    if spent_seconds + run_seconds(history, settings) > settings.total_seconds:
        return None
    for number in _chosen(history, settings):
        under_way = [start.seed for start in running if start.candidate == number]
        taken = {*under_way, *(run.seed for run in history.runs_of(number))}
        if len(taken) < settings.seeds:
            seeds = range(settings.seed_base, settings.seed_base + settings.seeds)
            return Start("confirm", number, next(seed for seed in seeds if seed not in taken))
    return None


def _chosen(history: History, settings: SweepSettings) -> list[int]:
    """Return the points that are repeated: the best by their first runs, however the repetitions turn out."""
    firsts = tuple(run for run in history.runs if run.role != "confirm")
    alone = History(clock=history.clock, base_config=history.base_config, runs=firsts, proposals=history.proposals)
    return ranking(alone, settings)[: settings.top]
