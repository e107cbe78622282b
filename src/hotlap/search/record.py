"""Records: the only speedups that a study may claim.

A look takes fresh runs of the last record's config and of the incumbent, in turn, and asks an exact permutation test
on the ranks of their times. A study has three looks, each at a third of alpha, and looks once at an incumbent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist, fmean, median
from typing import Final

from hotlap.core.clock import ClockName
from hotlap.core.durations import format_seconds
from hotlap.core.errors import ConfigError
from hotlap.core.records import History, RecordClaim, RunRecord
from hotlap.search.drift import equivalent_factor
from hotlap.search.noise import Noise, Reading, censored_median, counted_runs, median_error, readings
from hotlap.search.selection import expected_luck

MAX_LOOKS: Final = 3
MAX_SPLITS: Final = 200_000
"""Most ways to split the runs in two that are enumerated."""
INTERVAL_LEVEL: Final = 0.9
SPREAD_CAUTION: Final = NormalDist().inv_cdf(0.9)
WORTH_TELLING: Final = 0.005
"""Least share of a speedup for which the journal says that it was taken off."""


@dataclass(frozen=True, slots=True)
class Look:
    """One comparison for a record, with the runs that it has so far."""

    number: int
    candidate: int
    against: int
    runs: tuple[RunRecord, ...]
    start: int
    """Index of its first run in the history (the number of runs, when it has none yet)."""
    factors: tuple[float, ...] = ()
    """What each run's seconds are multiplied by to be seconds of the machine as it is now; empty: by one."""

    def is_complete(self, runs_per_side: int) -> bool:
        """Say whether both sides have their runs."""
        return len(self.runs) >= 2 * runs_per_side

    def times(self, candidate: int, clock: ClockName) -> list[float]:
        """Return the times to target of one side, in seconds of the machine as it is now."""
        factors = self.factors or (1.0,) * len(self.runs)
        both = zip(self.runs, factors, strict=True)
        return [factor * run.clock_to_target(clock) for run, factor in both if run.candidate == candidate]

    def next_candidate(self, runs_per_side: int) -> int:
        """Return whose turn it is: A B B A …, so that a drifting machine favours neither; the incumbent is last."""
        from_end = 2 * runs_per_side - 1 - len(self.runs)
        return self.candidate if (from_end // 2 + from_end % 2) % 2 == 0 else self.against


def look_alpha(alpha: float) -> float:
    """Return the level of one look: a third of alpha (a hair more, so that 1/20 is not above 0.15/3 by rounding)."""
    return alpha / MAX_LOOKS * (1 + 1e-9)


def last_record(history: History) -> int:
    """Return the candidate of the last confirmed claim, or the baseline."""
    return next((claim.candidate for claim in reversed(history.claims) if claim.confirmed), 0)


def is_claimed(history: History, candidate: int) -> bool:
    """Say whether a candidate had its look already, whatever came of it."""
    return any(claim.candidate == candidate for claim in history.claims)


def current_look(history: History) -> Look:
    """Return the look at the incumbent with its runs so far.

    A look is an unbroken row of record runs at the end of the history: if the study went on to other runs, what had
    been measured is stale and the look starts again. Runs that have to be repeated do not break the row.
    """
    candidate, against = history.incumbent, last_record(history)
    start = len(history.runs)
    for index in range(start - 1, -1, -1):
        run = history.runs[index]
        if run.is_infrastructure_failure or run.role in ("manual", "audit"):
            continue
        if run.role != "record" or run.candidate not in (candidate, against):
            break
        start = index
    runs = tuple(run for run in history.runs[start:] if run.role == "record" and not run.is_infrastructure_failure)
    factors = tuple(equivalent_factor(history, run) for run in runs)
    return Look(len(history.claims) + 1, candidate, against, runs, start, factors)


def look_pace(history: History, look: Look) -> float:
    """Return how long a step took in a look, relative to when the baseline was measured: the old side ran both times.

    A look at a fast recipe lasts seconds, and a shared machine is a quarter faster or slower in some minutes than in
    others, too often for a drift to be seen in it. What is told in seconds of two such times is no speedup.
    """
    earlier = [run for run in counted_runs(history, look.against) if run not in look.runs]
    if look.against:
        earlier = [run for run in earlier if run.role == "record"]  # those of the look that made it the last record
    now = _log_step_time(history, [run for run in look.runs if run.candidate == look.against])
    then = _log_step_time(history, earlier)
    if math.isnan(now - then):
        return 1.0
    return math.exp(now - then) * _pace_of(history, look.against)


def _log_step_time(history: History, runs: Sequence[RunRecord]) -> float:
    """Return the mean log step time, as the drift has it; not a number without a step."""
    times = [equivalent_factor(history, run) * run.seconds_per_step for run in runs if run.steps]
    return fmean(math.log(seconds) for seconds in times) if times and min(times) > 0 else math.nan


def _pace_of(history: History, candidate: int) -> float:
    """Return the pace of the look that made a candidate a record; that of the baseline is one."""
    return next(
        (claim.pace for claim in reversed(history.claims) if claim.confirmed and claim.candidate == candidate), 1.0
    )


def baseline_readings(history: History, look: Look | None = None, pace: float = 1.0) -> tuple[Reading, ...]:
    """Return what a speedup is told against: the readings of all unselected runs of the baseline.

    Where looks stopped at least half of its record runs, those say no more than that it is slower, and the others tell
    its time: they alone are returned, as a group, so that no single run is left out for being slow.
    For a look, all are brought to the pace of its machine.
    """
    before = next((claim.pace for claim in reversed(history.claims) if not claim.against), 1.0)
    here = look.runs if look else ()
    found = [
        (run, reading.scaled(1.0 if run in here else pace / before if run.role == "record" else pace))
        for run, reading in zip(counted_runs(history, 0), readings(history, 0), strict=True)
    ]
    looks = [reading for run, reading in found if run.role == "record"]
    others = [reading for run, reading in found if run.role != "record"]
    is_stopped = others and 2 * sum(reading.is_hit for reading in looks) <= len(looks)
    return tuple(others if is_stopped else (reading for _, reading in found))


def permutation_p_value(incumbent_times: Sequence[float], other_times: Sequence[float]) -> float:
    """Return the exact one-sided p-value that the incumbent is faster: the share of splits at least as good.

    Works on ranks (the same for times and log times). Misses are infinite, rank last and share their rank; what is
    not a number counts as a miss.
    Raises ConfigError when there are too many runs to enumerate.
    """
    times = [math.inf if math.isnan(seconds) else seconds for seconds in (*incumbent_times, *other_times)]
    size = len(incumbent_times)
    splits = math.comb(len(times), size)
    if splits > MAX_SPLITS:
        raise ConfigError(
            f"{size} + {len(other_times)} record runs can be split in {splits} ways, at most {MAX_SPLITS} are tried; "
            "use fewer record runs"
        )
    ranks = _doubled_ranks(times)
    observed = sum(ranks[:size])
    as_good = sum(sum(chosen) <= observed for chosen in combinations(ranks, size))
    return as_good / splits


def _doubled_ranks(times: Sequence[float]) -> list[int]:
    """Return twice the mid-ranks, so that shared ranks stay whole numbers and sums compare exactly."""
    ordered = sorted(times)
    count: dict[float, int] = {}
    first: dict[float, int] = {}
    for rank, value in enumerate(ordered):
        first.setdefault(value, rank)
        count[value] = count.get(value, 0) + 1
    return [2 * first[value] + count[value] - 1 for value in times]


def check_record_plan(runs: int, alpha: float) -> None:
    """Refuse a number of record runs that can never show anything at a third of alpha, or that cannot be enumerated.

    Raises ConfigError with the arithmetic.
    """
    splits, level = math.comb(2 * runs, runs), look_alpha(alpha)
    if 1 / splits > level:
        enough = next((n for n in range(2, 11) if 1 / math.comb(2 * n, n) <= level), None)
        advice = f"use record.runs: {enough}" if enough else "use a larger record.alpha"
        raise ConfigError(
            f"record.runs {runs} and record.alpha {alpha:g} can never succeed: {runs} + {runs} runs have {splits} "
            f"splits, so p is at least 1/{splits} = {1 / splits:.2g}, above alpha/{MAX_LOOKS} = {level:.2g}; {advice}"
        )
    if splits > MAX_SPLITS:
        raise ConfigError(f"record.runs {runs} means {splits} splits, at most {MAX_SPLITS} are tried; use 10 or fewer")


def judge_record(
    look: Look,
    clock: ClockName,
    alpha: float,
    baseline: Sequence[Reading] = (),
    noise: Noise | None = None,
    pace: float = 1.0,
) -> RecordClaim:
    """Return the claim of a complete look; the claimed time comes from the record runs of the incumbent alone.

    A run that was stopped once it had shown that it is slower is a miss and ranks last, with every other miss. A median
    that is a miss is never a record. `baseline` is what the speedup is told against: the readings of all its unselected
    runs, in seconds of the look, whose `pace` is noted. `noise` is that between seeds: what of the speedup is expected
    to be luck, in view of the test that it had to pass, is taken off it and off the lower end of its interval.
    """
    new, old = look.times(look.candidate, clock), look.times(look.against, clock)
    p_value, level = permutation_p_value(new, old), look_alpha(alpha)
    seconds = median(new)
    confirmed = p_value <= level and math.isfinite(seconds)
    luck = passing_luck(new, old, level, _cautious_spread(noise)) if confirmed and noise else 0.0
    if look.against:
        luck /= 2  # the old side's half: it is not what the speedup is told against
    typical = censored_median(baseline) if baseline and math.isfinite(seconds) else math.nan
    speedup = typical / seconds * math.exp(-luck)
    interval = speedup_interval(baseline, [Reading(time) for time in new], noise) if baseline else None
    sides = f"candidate {look.candidate}: {_describe(new)}; candidate {look.against}: {_describe(old)}"
    verdict = "a record" if confirmed else "no record"
    lowered = f"; {-math.expm1(-luck):.0%} are taken off its speedup for luck" if luck >= WORTH_TELLING else ""
    if abs(math.log(pace)) >= WORTH_TELLING:
        lowered += f"; a step took {pace:.2f} times what it took with the baseline's own runs, whose times count so"
    return RecordClaim(
        look=look.number,
        candidate=look.candidate,
        against=look.against,
        p_value=p_value,
        alpha=level,
        confirmed=confirmed,
        median_seconds=seconds,
        reason=f"{sides}; p = {p_value:.3g} where {level:.3g} or less is needed: {verdict}{lowered}",
        speedup=speedup if math.isfinite(speedup) else None,
        speedup_interval=(interval[0] * math.exp(-luck), interval[1]) if interval else None,
        pace=pace,
    )


def passing_luck(new: Sequence[float], old: Sequence[float], level: float, sigma: float) -> float:
    """Return how much of the log ratio of the two sides' times is expected to be luck, as their test was passed.

    Zero where the old side's median is no time: then the gain is far from what the test can just see.
    """
    gain = math.log(median(old) / median(new)) if math.isfinite(median(old)) else math.inf
    splits = math.comb(len(new) + len(old), len(new))
    passing = math.floor(level * splits) / splits  # what an exact test really lets through
    error = sigma * math.sqrt(1 / len(new) + 1 / len(old))
    if not 0 < passing < 1 or not math.isfinite(gain) or not error:
        return 0.0
    return error * expected_luck(gain / error, NormalDist().inv_cdf(1 - passing))


def _cautious_spread(noise: Noise) -> float:
    """Return the spread with its upper bound of 90 %: a record passes by luck sooner where the noise was underrated.

    The relative standard error of a standard deviation is one over the root of twice its degrees of freedom.
    """
    return noise.spread * (1 + SPREAD_CAUTION / math.sqrt(2 * max(1, noise.degrees_of_freedom)))


def speedup_interval(
    old: Sequence[Reading], new: Sequence[Reading], noise: Noise | None = None, level: float = INTERVAL_LEVEL
) -> tuple[float, float]:
    """Return the interval in which the ratio of the typical times lies with at least the given confidence.

    All ratios of one old and one new time, in order; so many are cut off at either end as the exact distribution of
    the rank sum allows (Moses 1953; Hollander and Wolfe, Nonparametric Statistical Methods, section 4.3), which assumes
    no bell curve but that log times differ by a shift. A run without a time bounds its ratios on one side only; an end
    that nothing bounds is 0 or infinite.

    Two and four times are too few for any such interval. Where all of them are times, the noise of the whole study then
    stands in, as Student's t.
    """
    lows = sorted(left.at_least / right.seconds if right.is_hit else 0.0 for left in old for right in new)
    highs = sorted(left.seconds / right.at_least if left.is_hit else math.inf for left in old for right in new)
    cut = _cut_off(len(old), len(new), (1 - level) / 2)
    if cut:
        return lows[cut - 1], highs[-cut]
    if noise is None or not noise.degrees_of_freedom or not all(reading.is_hit for reading in (*old, *new)):
        return 0.0, math.inf
    ratio = censored_median(old) / censored_median(new)
    width = student_quantile((1 + level) / 2, noise.degrees_of_freedom) * noise.sigma
    width *= math.hypot(median_error(len(old)), median_error(len(new)))
    return ratio * math.exp(-width), ratio * math.exp(width)


def student_quantile(share: float, degrees: int) -> float:
    """Return a quantile of Student's t, to 1 % from 3 degrees of freedom on (Abramowitz and Stegun, 26.7.5)."""
    z = NormalDist().inv_cdf(share)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / degrees + second / degrees**2 + third / degrees**3


def _cut_off(num_old: int, num_new: int, tail: float) -> int:
    """Return the largest k for which the rank sum statistic U is below k with at most the probability `tail`."""
    counts = _rank_sum_counts(num_old, num_new)
    total, below, cut = sum(counts), 0, 0
    while cut < len(counts) and (below + counts[cut]) <= tail * total:
        below += counts[cut]
        cut += 1
    return cut


def _rank_sum_counts(size: int, others: int) -> list[int]:
    """Return in how many of all splits U is 0, 1, … (U: pairs in which the one of the first side is larger)."""
    ways = [[0] * (size * others + 1) for _ in range(size + 1)]
    ways[0][0] = 1
    for place in range(size + others):
        for chosen in range(min(size, place + 1), 0, -1):
            smaller = place - (chosen - 1)  # items of the other side below this place
            for u in range(size * others, smaller - 1, -1):
                ways[chosen][u] += ways[chosen - 1][u - smaller] if 0 <= smaller <= others else 0
    return ways[size]


def _describe(times: Sequence[float]) -> str:
    middle = median(times)
    shown = format_seconds(middle) if math.isfinite(middle) else "a miss"
    return f"median {shown}, {sum(map(math.isfinite, times))} of {len(times)} reached"
