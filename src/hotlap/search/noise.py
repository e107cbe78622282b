"""How noisy the clock is in this study, and what that noise lets the study see.

All spreads are standard deviations of **log** time to target: noise multiplies, so 0.05 reads as 5 %. Times that were
measured before the machine changed its speed count in seconds of the machine as it is now.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist, fmean, median
from typing import Final

from hotlap.core.clock import GRID_RATIO, ClockName
from hotlap.core.records import UNCOUNTED_ROLES, History, RunRecord
from hotlap.search.drift import comparable_runs, equivalent_factor, is_comparable, pooled

SIGMA_FLOOR: Final = 0.05
"""Least noise believed while few runs were made: three runs that agree by luck prove little."""
TRUSTED_DEGREES_OF_FREEDOM: Final = 5
MARGIN_SIGMAS: Final = 1.5
"""A change must beat the incumbent's median by this many sigma in the mean of two runs."""
SIMPLER_MARGIN_SIGMAS: Final = 0.5
"""The same for a change that only removes something."""
SCREEN_SHARE: Final = 2 / 3
"""Share of that by which the first of the two must be faster by itself: then there is a second one."""
CONFIRM_SHARE: Final = 1 / 3
"""The same for the second, which nobody chose."""
LONGEST_ERROR: Final = 8
"""Tries after which the incumbent runs again at the latest, and its median has another error."""
FEWEST_RUNS: Final = 3
"""Runs of an incumbent, where nothing else is known."""
STEP_TIME_RATIO: Final = "step_time_ratio"
"""Statistic of a change that was kept for its step time alone, since its loss trace is its parent's."""

_NORMAL = NormalDist()
_SLICES: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Spread of log time to target between runs that differ in their seed only."""

    sigma: float
    """The spread that is used: the measured one, or the floor or the resolution where that is larger."""
    degrees_of_freedom: int
    """Runs beyond the first of each candidate that the measured spread rests on."""
    resolution: float
    """Log distance of two readings of the evaluation grid."""
    measured: float = 0.0
    """The spread as it was measured."""

    @property
    def spread(self) -> float:
        """The measured spread without the caution of the floor; rounding up to the grid alone makes some."""
        return max(self.measured, self.resolution / math.sqrt(12))


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


@dataclass(frozen=True, slots=True)
class Reading:
    """What one run says about a time to target."""

    seconds: float
    """The time; infinite for a run that ended without one; where a stopped run was stopped."""
    is_censored: bool = False
    """Whether the run was stopped there by its limit, so that its time is longer than this and not known."""
    last_seconds: float = math.inf
    """The last reading of a run without a time."""

    @property
    def is_hit(self) -> bool:
        """Whether there is a time."""
        return not self.is_censored and math.isfinite(self.seconds)

    @property
    def at_least(self) -> float:
        """The time, or a reading that it is not below."""
        return min(self.seconds, self.last_seconds)

    def scaled(self, factor: float) -> "Reading":
        """Return what the run would have said on a machine that takes `factor` times as long."""
        return Reading(factor * self.seconds, self.is_censored, factor * self.last_seconds)


def estimate(history: History, candidate: int, clock: ClockName | None = None) -> Estimate:
    """Return time to target, steps and step time of a candidate, from its unselected runs.

    Stopped runs are right-censored: the median is that of the product-limit estimate (Kaplan and Meier 1958), so the
    old side of a record look, stopped at twice the new side's time, makes the old median neither shorter nor longer.
    Runs that ended without reaching rank above all hits. Runs that were stopped before the median hit are not counted.
    """
    clock = clock or history.clock
    return history.once(f"estimate of {candidate} on {clock}", lambda: _estimate(history, candidate, clock))


def _estimate(history: History, candidate: int, clock: ClockName) -> Estimate:
    found = list(readings(history, candidate, clock))
    hits = [reading.seconds for reading in found if reading.is_hit]
    typical = median(hits) if hits else 0.0
    counted = [reading for reading in found if not reading.is_censored or reading.seconds >= typical]
    times = sorted(math.inf if reading.is_censored else reading.seconds for reading in counted)
    runs = counted_runs(history, candidate)
    steps = [run.time_to_target["step"] for run in runs if run.time_to_target and "step" in run.time_to_target]
    step_seconds = [equivalent_factor(history, run) * run.seconds_per_step for run in runs if run.steps]
    return Estimate(
        median_seconds=censored_median(found),
        low_seconds=times[0] if times else math.inf,
        high_seconds=times[-1] if times else math.inf,
        reached=len(hits),
        runs=len(times),
        steps=median(steps) if steps else math.nan,
        seconds_per_step=median(step_seconds) if step_seconds else math.nan,
    )


def readings(history: History, candidate: int, clock: ClockName | None = None) -> Iterator[Reading]:
    """Yield what each unselected run of a candidate says, in seconds of the machine as it is now.

    A change that was kept for its step time alone needs as many steps as its parent: the parent's runs count for it,
    too, times the ratio that was measured.
    """
    clock = clock or history.clock
    for run in counted_runs(history, candidate):
        factor = equivalent_factor(history, run)
        last = factor * run.reading(clock)
        if run.outcome == "out_of_budget":
            yield Reading(last, is_censored=True)
        else:
            seconds = factor * run.clock_to_target(clock)
            yield Reading(seconds, last_seconds=math.inf if math.isfinite(seconds) else last)
    ratio = step_time_ratio(history, candidate)
    if ratio is not None and clock == "train":
        for reading in readings(history, history.proposal(candidate).parent, clock):
            yield reading.scaled(ratio)


def counted_runs(history: History, candidate: int) -> tuple[RunRecord, ...]:
    """Return the runs of a candidate that enter its estimate."""
    return tuple(run for run in comparable_runs(history, candidate) if run.role not in UNCOUNTED_ROLES)


def step_time_ratio(history: History, candidate: int) -> float | None:
    """Return the step time relative to the parent's of a change that was kept for it alone, None for any other."""
    decision = history.verdict(candidate)
    return decision.statistics.get(STEP_TIME_RATIO) if decision and decision.verdict == "keep" else None


def censored_median(found: Sequence[Reading]) -> float:
    """Return the median of times of which some are only known to be longer than a reading; a miss is infinite.

    Where the estimated share of longer times is a half from one hit to the next, the middle of the two is taken, as
    the plain median does. Infinite where the hits do not reach down to a half.
    """
    at_risk, longer, below = len(found), 1.0, math.nan
    events = sorted((reading.seconds, reading.is_censored) for reading in found)  # a hit before a stop at its time
    for seconds, is_censored in events:
        if not is_censored:
            if not math.isnan(below):
                return (below + seconds) / 2
            longer *= 1 - 1 / at_risk
            if math.isclose(longer, 0.5, rel_tol=1e-9):
                below = seconds
            elif longer < 0.5:
                return seconds
        at_risk -= 1
    return math.inf


def estimate_noise(history: History) -> Noise:
    """Return the pooled spread of log time to target within candidates, over unselected runs that reached.

    The baseline carries it at first. Where the baseline does not reach twice, the first candidate that does in its
    two fresh runs is the first to count. Below 5 degrees of freedom the spread is at least 5 %, and it is never
    below the resolution of the evaluation grid.
    """
    return history.once("noise", lambda: _estimate_noise(history))


def _estimate_noise(history: History) -> Noise:
    resolution = math.log(GRID_RATIO[history.clock])
    groups: dict[int, list[float]] = {}
    for run in history.runs:
        if run.role in UNCOUNTED_ROLES or not is_comparable(history, run):
            continue
        seconds = equivalent_factor(history, run) * run.clock_to_target(history.clock)
        if math.isfinite(seconds):
            groups.setdefault(run.candidate, []).append(math.log(seconds))
    squares, degrees = pooled(groups.values())
    measured = math.sqrt(squares / degrees) if degrees else 0.0
    floor = SIGMA_FLOOR if degrees < TRUSTED_DEGREES_OF_FREEDOM else 0.0
    sigma = max(measured, floor, resolution)
    return Noise(sigma=sigma, degrees_of_freedom=degrees, resolution=resolution, measured=measured)


def required_log_gain(noise: Noise, *, simplifies: bool = False) -> float:
    """Return by how much, in log time, two runs must beat the incumbent's median (and within how much one is a tie).

    1.5 sigma, or 0.5 sigma for a change that only removes something. A sigma from three runs is often too small by
    luck; widening the margin for that (by Student's t, 1.6 times) was tried on simulated studies and left out: it
    halved the false keeps (0.35 to 0.19 in 20 tries, at a true sigma of 10 to 25 %) but missed a 30 % gain at a sigma
    of 10 % in 26 of 100 studies instead of 6.
    """
    return (SIMPLER_MARGIN_SIGMAS if simplifies else MARGIN_SIGMAS) * noise.sigma


def screen_log_gain(noise: Noise, *, simplifies: bool = False) -> float:
    """Return by how much, in log time, a screen must beat the incumbent's median to be confirmed."""
    return SCREEN_SHARE * required_log_gain(noise, simplifies=simplifies)


def smallest_visible_effect(noise: Noise, power: float = 0.8) -> float:
    """Return the largest ratio of times (below 1) that a screen and a confirming run see with the given power.

    Their mean must pass against the median of two fresh runs of the incumbent.
    """
    return math.exp(-required_log_gain(noise) - _NORMAL.inv_cdf(power) * noise.sigma)


def runs_needed(noise: Noise, effect: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Return the runs of each side that show a gain of `effect` (0.02: 2 % less time), one-sided."""
    distance = (_NORMAL.inv_cdf(1 - alpha) + _NORMAL.inv_cdf(power)) * noise.sigma / -math.log1p(-effect)
    return max(2, math.ceil(2 * distance**2))


def expected_false_keeps_of(history: History) -> float:
    """Return how many of a study's tries would be among the kept if none did anything.

    Ablations are no tries, nor is what was decided without a run.

    The more runs an incumbent had when a try was judged, the less its median was off by luck.
    """
    noise, tries = estimate_noise(history), Counter[int]()
    for proposal in history.proposals:
        decision = history.verdict(proposal.number)
        if decision is not None and proposal.role != "ablation" and history.runs_of(proposal.number):
            tries[int(decision.statistics.get("incumbent_runs", FEWEST_RUNS))] += 1
    return sum(expected_false_keeps(noise, count, max(1, runs)) for runs, count in tries.items())


def expected_false_keeps(noise: Noise, tries: int, incumbent_runs: int = FEWEST_RUNS) -> float:
    """Return how many of `tries` changes that do nothing would be kept, if sigma is what it seems."""
    return tries * _false_keep_share(required_log_gain(noise) / noise.sigma, incumbent_runs)


@cache
def _false_keep_share(margin: float, incumbent_runs: int) -> float:
    """Return the chance that a change without effect is kept, averaged over the error of the incumbent's median.

    The screen must pass; then the incumbent runs once more, and the screen must still pass, so must its mean with the
    confirmation, and two fresh runs be faster. An error by which screens pass does not last, as they have the incumbent
    run again: it is met by as few tries as one of them takes to pass. In units of sigma.
    """
    before, after = median_error(incumbent_runs), median_error(incumbent_runs + 1)
    weight = incumbent_runs / (incumbent_runs + 1)
    added = math.sqrt(max(0.0, after**2 - (weight * before) ** 2))
    steps = [_NORMAL.inv_cdf((index + 0.5) / _SLICES) for index in range(_SLICES)]
    kept = lasted = 0.0
    for first in steps:
        most = before * first - SCREEN_SHARE * margin
        lasts = min(LONGEST_ERROR, 1 / _NORMAL.cdf(most))
        lasted += lasts
        for second in steps:
            shift = weight * before * first + added * second
            screen = min(most, shift - SCREEN_SHARE * margin)
            kept += lasts * _both_pass(margin, screen, shift) * _NORMAL.cdf(shift * math.sqrt(2)) / _SLICES
    return kept / lasted


def _both_pass(margin: float, screen: float, shift: float) -> float:
    """Return the chance that a screen is below `screen`, and a second run and the mean of the two pass, too."""
    share = _NORMAL.cdf(screen)
    found = [_NORMAL.inv_cdf((index + 0.5) / _SLICES * share) for index in range(_SLICES)]
    seconds = (min(shift - CONFIRM_SHARE * margin, 2 * (shift - margin) - first) for first in found)
    return share * fmean(_NORMAL.cdf(second) for second in seconds)


def median_error(runs: int) -> float:
    """Return the standard error of the median of so many log times, in units of sigma; of two it is their mean."""
    return math.sqrt(math.pi / 2 / runs) if runs > 2 else math.sqrt(1 / runs)
