"""What a sweep does next: a pure function of what happened so far and of what is running.

baseline → points of the sampler, as many at once as there are slots → the best few with more seeds → end
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from hotlap.core.clock import ClockName
from hotlap.core.durations import format_seconds
from hotlap.core.records import History, Role
from hotlap.search.sweep_score import Goal, sweep_scores

MOST_FAILURES: Final = 3
"""Runs in a row that the machine may spoil."""


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
    """Ask the sampler for the next point; when it has none, call again with `has_points=False`."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be started before a run has ended."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Nothing is left to do, and why."""

    reason: str


SweepAction = Start | Ask | Wait | Stop


def next_sweep_action(
    history: History,
    running: Sequence[Start],
    settings: SweepSettings,
    *,
    spent_seconds: float,
    has_points: bool = True,
    sitting_start: int = 0,
) -> SweepAction:
    """Return what a sweep does next; the same arguments always give the same answer.

    `spent_seconds` is the age of the sweep now, `sitting_start` the number of runs that earlier sittings had made.
    """
    if reason := _give_up(history, sitting_start):
        return Wait() if running else Stop(reason)
    if spent_seconds >= settings.total_seconds:
        return Wait() if running else Stop(f"the budget of {format_seconds(settings.total_seconds)} is used up")
    if len(running) >= settings.slots:
        return Wait()
    if (start := _next_first_run(history, running, settings)) is not None:
        return start
    why_no_more = _why_no_more(history, running, settings, spent_seconds) if has_points else "the space is exhausted"
    if not why_no_more:
        return Ask()
    if (repeat := _next_repeat(history, running, settings)) is not None:
        return repeat
    return Wait() if running else Stop(why_no_more)


def ranking(history: History, settings: SweepSettings) -> list[int]:
    """Return the candidates that ran, best first; those that failed are left out, and so is the baseline.

    A candidate that ran with several seeds counts with its median, before every other one that looks as good: so the
    best is named among those that were repeated, once there are any.
    """
    scores = sweep_scores(history, settings.metric, settings.goal)
    usable = {
        number: score
        for number, score in scores.items()
        if number and any(run.outcome in ("reached", "missed", "out_of_budget") for run in history.runs_of(number))
    }
    return sorted(usable, key=lambda number: (usable[number], number))


def best_candidate(history: History, settings: SweepSettings) -> int | None:
    """Return the best point: among those that ran with all their seeds, where there are any; None without a point."""
    ranked = ranking(history, settings)
    repeated = [number for number in ranked if len(history.runs_of(number)) >= settings.seeds]
    return next(iter(repeated or ranked), None)


def _give_up(history: History, sitting_start: int) -> str:
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


def _next_first_run(history: History, running: Sequence[Start], settings: SweepSettings) -> Start | None:
    """Return the first candidate that has neither run nor runs: the baseline, a new point, or one that was lost."""
    under_way = {start.candidate for start in running}
    for number in range(len(history.proposals) + 1):
        if number not in under_way and not history.runs_of(number):
            return Start("screen" if number else "baseline", number, settings.seed_base)
    return None


def _why_no_more(history: History, running: Sequence[Start], settings: SweepSettings, spent_seconds: float) -> str:
    """Say why no further point is asked for; empty while one may be."""
    if settings.run_cap is not None and len(history.proposals) >= settings.run_cap:
        return f"all {settings.run_cap} points have run"
    if settings.target is not None and _reaches(history, settings, settings.target):
        return f"a run has reached {settings.metric} {settings.target:g}"
    cost = run_seconds(history, settings)
    reserve = settings.top * (settings.seeds - 1) * cost / settings.slots
    if spent_seconds + cost + reserve > settings.total_seconds:
        return f"the budget of {format_seconds(settings.total_seconds)} has no room for another point"
    return ""


def _reaches(history: History, settings: SweepSettings, target: float) -> bool:
    wanted = target if settings.goal == "minimize" else -target
    scores = sweep_scores(history, settings.metric, settings.goal)
    return any(score <= wanted for score in scores.values())


def run_seconds(history: History, settings: SweepSettings) -> float:
    """Return the wall seconds that a run takes: the median of those that ended by themselves, or the longest."""
    ended = [run.wall_seconds for run in history.runs if run.outcome in ("reached", "missed", "out_of_budget")]
    return median(ended) if ended else settings.run_seconds


def _next_repeat(history: History, running: Sequence[Start], settings: SweepSettings) -> Start | None:
    """Return the next run with another seed of one of the best; they are known once all points have ended."""
    if any(start.role != "confirm" for start in running):
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
