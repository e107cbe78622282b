"""Graded scores: one number for every run, also the stopped, missed and diverged ones, so that samplers learn from all.

Scores are log seconds of the judged clock, lower is better: runs that reached, by their time; near misses, by how long
they would have needed; hopeless ones. A study that told its sampler only the times would have nothing to learn from
before the first run that reaches.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, median_low
from typing import Final

from hotlap.core.records import History, RunRecord
from hotlap.core.targets import parse_target
from hotlap.search.curves import Scale, cheap_scale
from hotlap.search.drift import comparable_runs, equivalent_factor
from hotlap.search.judge import rival_of
from hotlap.search.noise import estimate

HOPELESS_RATIO: Final = 20.0
"""A run that will never get there counts as this many times the longest run."""
CENSORED_RATIO: Final = 1.05
"""A run that was stopped needs at least this many times the reading at which it was stopped."""
_HOPELESS_OUTCOMES: Final = ("diverged", "out_of_memory", "crashed", "invalid", "reached")
"""Outcomes of a run that would never get there (`reached` without a usable time among them)."""
_HOPELESS_KILLS: Final = ("broken", "throughput")
"""Rules of racing that fire on what no further second would mend."""
_UNSCORED_ROLES: Final = ("timing", "audit", "manual")
_LEAST_EVALUATIONS: Final = 4
"""Evaluations below which a curve is not extrapolated."""

Curve = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What one run, or the runs of one candidate, are worth to a sampler."""

    value: float
    """Log seconds; lower is better."""
    is_reached: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Yardstick:
    """What scores of one study are relative to."""

    cheap: Scale
    """The targets that every evaluation tells of, as racing measures them."""
    generated: Scale
    """Targets of generated text, relative to their own size: no baseline tells of them at its start."""
    cap_seconds: float
    """The longest a run may take, on the judged clock."""

    def gap(self, metrics: Mapping[str, float]) -> float:
        """Return the largest remaining share of the way over all targets, at most 1; 1 where no metric tells.

        Metrics of generated text are missing until the cheap targets hold, and count only then.
        """
        gap = self.cheap.gap(metrics)
        if self.generated.targets and not gap > 0:
            gap = self.generated.gap(metrics)
        return gap if gap < 1 else 1.0  # not a number is not below


def yardstick_of(history: History) -> Yardstick:
    """Return what scores are relative to: the first baseline run's first evaluation, and the budget of a run."""
    targets = tuple(parse_target(text, is_any_metric=True) for text in history.base_config.get("targets", ()))
    first = next((run.evaluations[0] for run in history.runs_of(0, "baseline") if run.evaluations), {})
    generated = tuple(target for target in targets if not target.is_cheap)
    budget = history.base_config.get("budget", {}).get("run", math.inf)
    longest = max((run.reading(history.clock) for run in history.runs), default=0.0)
    return Yardstick(
        cheap=cheap_scale(first, targets),
        generated=Scale(generated, tuple(abs(target.value) or 1.0 for target in generated)),
        cap_seconds=budget if math.isfinite(budget) else longest or 1.0,
    )


def score_run(run: RunRecord, history: History, yardstick: Yardstick) -> Score:
    """Return the score of a run that says something about its config (see `RunRecord.is_infrastructure_failure`)."""
    factor = equivalent_factor(history, run)  # seconds of the machine as it is now
    seconds = factor * run.clock_to_target(history.clock)
    if math.isfinite(seconds):
        return Score(value=math.log(seconds), is_reached=True)
    at, gap = factor * run.reading(history.clock), yardstick.gap(last_evaluation(run))
    hopeless = Score(value=math.log(HOPELESS_RATIO * yardstick.cap_seconds) + gap, is_reached=False)
    if run.outcome in _HOPELESS_OUTCOMES or not at > 0 or (run.kill and run.kill.rule in _HOPELESS_KILLS):
        return hopeless
    as_missed = Score(value=math.log(at) + min(3.0, 1.0 + 4.0 * gap), is_reached=False)
    if run.outcome == "missed":
        return as_missed
    bound = CENSORED_RATIO * max(at, _lost_to(run, history))
    needed = factor * extrapolated_seconds([(reading, yardstick.gap(e)) for reading, e in _curve(run, history)])
    if math.isnan(needed):
        return as_missed
    ceiling = HOPELESS_RATIO * yardstick.cap_seconds
    value = math.log(min(needed, ceiling)) if needed > bound else math.log(bound) + gap
    return Score(value=value, is_reached=False)


def score_candidates(history: History, yardstick: Yardstick) -> dict[int, Score]:
    """Return the score of each candidate that ran: its estimated time, else the median over its comparable runs.

    One value a candidate: with one for each run, the incumbent's many repetitions would fill a sampler's list of the
    best and leave nothing but itself to imitate.
    """
    found: dict[int, Score] = {}
    for candidate in range(len(history.proposals) + 1):
        seconds = estimate(history, candidate).median_seconds
        runs = [run for run in comparable_runs(history, candidate) if run.role not in _UNSCORED_ROLES]
        if math.isfinite(seconds):
            found[candidate] = Score(value=math.log(seconds), is_reached=True)
        elif runs:
            scores = [score_run(run, history, yardstick) for run in runs]
            found[candidate] = Score(
                value=median(score.value for score in scores),
                is_reached=median_low(score.is_reached for score in scores),
            )
    return found


def extrapolated_seconds(curve: Curve) -> float:
    """Return when a curve of gaps reaches zero, on a straight line over log time through its later half.

    Infinite for a curve that does not fall, not a number with fewer than four evaluations. A guess for ranking only:
    it stops nothing.
    """
    if len(curve) < _LEAST_EVALUATIONS:
        return math.nan
    end = curve[-1][0]
    late = [(math.log(seconds), gap) for seconds, gap in curve if seconds >= end / 2]
    if len(late) < _LEAST_EVALUATIONS:
        late = [(math.log(seconds), gap) for seconds, gap in curve[-_LEAST_EVALUATIONS:]]
    center = math.fsum(x for x, _ in late) / len(late)
    level = math.fsum(gap for _, gap in late) / len(late)
    spread = math.fsum((x - center) ** 2 for x, _ in late)
    slope = math.fsum((x - center) * (gap - level) for x, gap in late) / spread if spread else 0.0
    if not slope < 0:
        return math.inf
    reaches = center - level / slope
    return math.exp(reaches) if reaches < math.log(1e12) else math.inf


def last_evaluation(run: RunRecord) -> Mapping[str, float]:
    """Return the metrics of a run's end."""
    return run.metrics or (run.evaluations[-1] if run.evaluations else {})


def _lost_to(run: RunRecord, history: History) -> float:
    """Return the time that a raced run could not beat any more; 0 for other runs.

    Early curves promise too much: without this, what was stopped first would score better than what stopped it.
    """
    if run.outcome != "raced" or not 0 < run.candidate <= len(history.proposals):
        return 0.0
    seconds = estimate(history, rival_of(history, history.proposal(run.candidate))).median_seconds
    return seconds if math.isfinite(seconds) else 0.0


def _curve(run: RunRecord, history: History) -> list[tuple[float, Mapping[str, float]]]:
    name = f"{history.clock}_seconds"
    return [(evaluation[name], evaluation) for evaluation in run.evaluations if evaluation.get(name, 0.0) > 0]
