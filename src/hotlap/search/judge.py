"""Decisions on proposals: pure functions of the history and the runs that were made for them.

A change is kept when its screen and one confirming run with another seed beat the incumbent's median by the margin of
`noise.required_log_gain` in the mean, each of them by a part of it, and when fresh runs do not contradict it: one, or
two where the first is not faster. A kept change is removed again when runs without it are not slower, and two fresh
runs do not contradict that. Runs that were stopped are never treated as times. Whatever is not kept says what would
reopen it. Changes of the step time alone have a judge of their own, in systems.py.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from hotlap.core.clock import ClockName
from hotlap.core.durations import format_seconds
from hotlap.core.records import Decision, History, Proposal, RunRecord, Verdict
from hotlap.search.drift import comparable_runs, equivalent_factor
from hotlap.search.noise import (
    CONFIRM_SHARE,
    MARGIN_SIGMAS,
    SCREEN_SHARE,
    SIMPLER_MARGIN_SIGMAS,
    TRUSTED_DEGREES_OF_FREEDOM,
    Estimate,
    Noise,
    estimate,
    required_log_gain,
    step_time_ratio,
)
from hotlap.search.revisit import LATER, earlier_try

FRESH_RUNS: Final = 2
"""Runs of a kept candidate that were not selected for being fast; and the least of an ablation."""
BEYOND_LUCK_SIGMAS: Final = 2.5
"""After a screen that gains so much hardly any second run fails."""
BEYOND_LUCK_OF_FEW_RUNS: Final = 4.0
"""The same while sigma rests on fewer than five degrees of freedom, and may be twice as large."""
TRADE_RATIO: Final = 1.10
"""A change is a trade only when the other clock gets worse by more than this (and by more than the noise)."""


@dataclass(frozen=True, slots=True)
class _Bar:
    """What a proposal is measured against: the best kept candidate before it."""

    clock: ClockName
    estimate: Estimate
    gain: float
    """Log time by which screen and confirmation must be faster in the mean."""
    tie: float
    """Log time by which a run may be slower and still count as within the noise."""
    sigma: float
    resolution: float
    """Least sigma that the grid of evaluations allows."""

    @property
    def fast(self) -> float:
        """Seconds that screen and confirmation must not exceed in the mean; infinite where the rival mostly misses."""
        return self.estimate.median_seconds * math.exp(-self.gain)

    def part(self, share: float) -> float:
        """Return the seconds that one of the two must not exceed, who has to gain a share of the margin."""
        return self.estimate.median_seconds * math.exp(-share * self.gain)

    @property
    def slow(self) -> float:
        """Seconds above which a run is slower beyond the noise."""
        return self.estimate.median_seconds * math.exp(self.tie)

    def statistics(self, **times: float) -> dict[str, float]:
        """Return the numbers behind a decision; what is not finite is left out."""
        finite = [seconds for seconds in times.values() if math.isfinite(seconds)]
        typical = math.exp(sum(map(math.log, finite)) / len(finite)) if finite else math.inf
        numbers = {
            **times,
            "incumbent_seconds": self.estimate.median_seconds,
            "incumbent_runs": self.estimate.runs,
            "ratio": typical / rival if math.isfinite(rival := self.estimate.median_seconds) else math.inf,
            "sigma": self.sigma,
            "margin_seconds": self.fast,
        }
        return {name: value for name, value in numbers.items() if math.isfinite(value)}

    def __str__(self) -> str:
        found = self.estimate
        if math.isfinite(found.median_seconds):
            return f"the incumbent's {format_seconds(found.median_seconds)} ({found.runs} runs)"
        return f"an incumbent that reached in {found.reached} of {found.runs} runs"


def rival_of(history: History, proposal: Proposal) -> int:
    """Return the candidate that a proposal has to beat: the best one kept before it, or the baseline."""
    return max((number for number in history.kept() if number < proposal.number), default=0)


def judge_repetition(history: History, proposal: Proposal) -> Decision | None:
    """Discard without a run what was tried before and nothing has reopened; None for anything else.

    A second chance at the same margin would be a second draw for luck: who wants a replicate has what reopens it.
    """
    same = earlier_try(history, proposal)
    before = history.verdict(same.number) if same else None
    if same is None or before is None or same.role != proposal.role:  # leave-one-out is judged by another margin
        return None
    reason = f"the same change of the same parent as #{same.number} ({before.verdict}), and nothing has reopened that"
    return _decide(proposal, "discard", reason, {}, before.revisit_if or LATER)


def judge_overtaken(history: History, proposal: Proposal) -> Decision | None:
    """Discard a proposal that never ran and whose parent is not the incumbent any more; None for any other."""
    if proposal.parent == history.incumbent:
        return None
    now = f"#{history.incumbent}" if history.incumbent else "the baseline"
    reason = f"it was made for candidate {proposal.parent}, and the incumbent is {now} now"
    return _decide(proposal, "discard", reason, {}, {"keeps": 0})


def judge_screen(history: History, proposal: Proposal, run: RunRecord, noise: Noise) -> Decision | None:
    """Return a decision when the screen settles the matter, or None when it passed and must be confirmed."""
    bar = _bar(history, proposal, noise)
    seconds = _seconds(history, run, bar.clock)
    statistics = bar.statistics(screen_seconds=seconds)
    most = bar.part(SCREEN_SHARE)
    return _not_reached(proposal, run, bar, statistics) or _too_slow(proposal, run, seconds, bar, statistics, most)


def is_beyond_luck(history: History, proposal: Proposal, run: RunRecord, noise: Noise) -> bool:
    """Say whether a screen gains so much that passing was no matter of its seed.

    Then the next run is not chosen for being fast: with any seed it would be kept.
    """
    before = estimate(history, rival_of(history, proposal)).median_seconds
    is_known = noise.degrees_of_freedom >= TRUSTED_DEGREES_OF_FREEDOM
    sigmas = BEYOND_LUCK_SIGMAS if is_known else BEYOND_LUCK_OF_FEW_RUNS
    bound = before * math.exp(-sigmas * noise.sigma)
    return math.isfinite(before) and noise.degrees_of_freedom > 0 and _seconds(history, run, history.clock) < bound


def judge_confirm(
    history: History, proposal: Proposal, screen: RunRecord, confirm: RunRecord, noise: Noise, allow_trade: bool = False
) -> Decision:
    """Return the decision after the confirming run of a screen that passed."""
    bar = _bar(history, proposal, noise)
    times = [_seconds(history, run, bar.clock) for run in (screen, confirm)]
    statistics = bar.statistics(screen_seconds=times[0], confirm_seconds=times[1])
    failed = (
        _not_reached(proposal, confirm, bar, statistics)
        or _too_slow(proposal, confirm, times[1], bar, statistics, min(bar.part(CONFIRM_SHARE), bar.fast**2 / times[0]))
        or _trade(history, proposal, (screen, confirm), noise, allow_trade, statistics)
    )
    if failed is not None:
        return failed
    readings = " and ".join(format_seconds(seconds) for seconds in times)
    if "ratio" not in statistics:
        return _decide(proposal, "keep", f"screen and confirmation reached in {readings} against {bar}", statistics)
    margin = 1 - math.exp(-bar.gain)
    return _decide(
        proposal,
        "keep",
        f"screen and confirmation took {readings} against {bar}: {1 - statistics['ratio']:.1%} less, "
        f"more than the margin of {margin:.1%}",
        statistics,
    )


def judge_fresh(history: History, proposal: Proposal, noise: Noise) -> Decision | None:
    """Withdraw a keep when its first two fresh runs are not faster than the incumbent before it.

    Returns None when the keep stands (or while the fresh runs are not there yet). A keep for the step time alone was
    measured far more finely than two times to target can tell: only a miss withdraws it. A removal stands while all
    its runs together are as fast as the incumbent before it.
    """
    runs = comparable_runs(history, proposal.number, "incumbent")[:FRESH_RUNS]
    if len(runs) < FRESH_RUNS:
        return None
    bar = _bar(history, proposal, noise)
    times = [_seconds(history, run, bar.clock) for run in runs]
    seconds = median(times)
    is_timed = step_time_ratio(history, proposal.number) is not None and math.isfinite(seconds)
    is_tie = proposal.role == "ablation" and _is_tie(history, proposal, bar, noise)
    if seconds < bar.estimate.median_seconds or is_timed or is_tie:
        return None
    statistics = bar.statistics(fresh_seconds=seconds)
    if not math.isfinite(seconds):
        reached = sum(map(math.isfinite, times))
        reason = f"withdrawn: only {reached} of {len(times)} fresh runs reached the targets, against {bar}"
        return _decide(proposal, "discard", reason, statistics)
    verdict: Verdict = "discard" if seconds > bar.slow else "inconclusive"
    what = "without it had a median of" if proposal.role == "ablation" else "had a median of"
    how = "slower than" if proposal.role == "ablation" else "not faster than"
    reason = f"withdrawn: two fresh runs {what} {format_seconds(seconds)}, {how} {bar}"
    return _decide(proposal, verdict, reason, statistics)


def is_in_doubt(history: History, proposal: Proposal, runs: Sequence[RunRecord]) -> bool:
    """Say whether the fresh runs of a kept change, so far, leave open whether it is faster.

    A removal is measured twice: a tie is sooner a matter of luck than a gain.
    """
    before = estimate(history, rival_of(history, proposal)).median_seconds
    is_slow = any(not run.clock_to_target(history.clock) < before for run in runs)
    return is_slow or not runs or proposal.role == "ablation"


def _is_tie(history: History, proposal: Proposal, bar: _Bar, noise: Noise) -> bool:
    """Say whether the runs that chose a removal and the fresh ones after it are, together, not slower."""
    runs = comparable_runs(history, proposal.number, "ablation", "incumbent")
    return median(_seconds(history, run, bar.clock) for run in runs) <= _tie_seconds(bar, noise)


def _tie_seconds(bar: _Bar, noise: Noise) -> float:
    return bar.estimate.median_seconds * math.exp(required_log_gain(noise, simplifies=True))


def judge_ablation(
    history: History, proposal: Proposal, runs: Sequence[RunRecord], noise: Noise, allow_trade: bool = False
) -> Decision:
    """Decide a leave-one-out change from its runs: two or more, or one that already failed.

    The rule: `keep` (the change that was left out is removed for good) when every run reached and their median is
    not slower than the incumbent's by more than 0.5 sigma; so the simpler config wins a tie. Slower by more than the
    full margin, or a run that missed, is `discard`: the change earns its place. What lies between is
    `inconclusive`, and the change stays, too.
    """
    bar = _bar(history, proposal, noise)
    times = [_seconds(history, run, bar.clock) for run in runs]
    seconds = median(times)
    statistics = bar.statistics(ablation_seconds=seconds)
    for run in runs:
        if failed := _not_reached(proposal, run, bar, statistics):
            return failed
    found = f"without it the median of {len(times)} runs is {format_seconds(seconds)} against {bar}"
    if seconds > bar.slow:
        return _decide(proposal, "discard", f"{found}: slower beyond the noise, so it stays", statistics)
    if seconds > _tie_seconds(bar, noise):
        return _decide(proposal, "inconclusive", f"{found}: a little slower, within the noise, so it stays", statistics)
    if trade := _trade(history, proposal, runs, noise, allow_trade, statistics):
        return trade
    return _decide(proposal, "keep", f"{found}: not slower, so the simpler config wins", statistics)


def _seconds(history: History, run: RunRecord, clock: ClockName) -> float:
    """Return a run's time in seconds of the machine as it is now, as those that it is held against are."""
    return equivalent_factor(history, run) * run.clock_to_target(clock)


def _bar(history: History, proposal: Proposal, noise: Noise) -> _Bar:
    found = min((estimate(history, rival) for rival in _rivals(history, proposal)), key=lambda one: one.median_seconds)
    gain = required_log_gain(noise, simplifies=proposal.simplifies)
    tie = required_log_gain(noise)
    return _Bar(history.clock, found, gain, tie, noise.sigma, noise.resolution)


def _rivals(history: History, proposal: Proposal) -> Iterator[int]:
    """Yield what a proposal is held against: the incumbent before it, and for a removal also what that one came from
    by removals alone, so that ties do not add up to a loss."""
    rival = rival_of(history, proposal)
    yield rival
    while proposal.role == "ablation" and rival and history.proposal(rival).role == "ablation":
        rival = history.proposal(rival).parent
        yield rival


def _decide(
    proposal: Proposal,
    verdict: Verdict,
    reason: str,
    statistics: Mapping[str, float],
    revisit_if: Mapping[str, float] = LATER,
) -> Decision:
    """Return a decision; if nothing else is said, what is not kept is open again on a rather different incumbent."""
    reopens = {} if verdict == "keep" else revisit_if
    return Decision(proposal=proposal.number, verdict=verdict, reason=reason, statistics=statistics, revisit_if=reopens)


def _not_reached(proposal: Proposal, run: RunRecord, bar: _Bar, statistics: Mapping[str, float]) -> Decision | None:
    """Decide a run that has no time to target; its last reading is where it was stopped, never a time."""
    if math.isfinite(run.clock_to_target(bar.clock)):
        return None
    at = format_seconds(run.reading(bar.clock))
    why = f": {run.reason}" if run.reason else ""
    if run.outcome in ("crashed", "out_of_memory"):
        what = "crashed" if run.outcome == "crashed" else "ran out of memory"
        return _decide(proposal, "crash", f"the {run.role} run {what} at {at}{why}", statistics)
    if run.outcome in ("diverged", "invalid"):
        what = "diverged" if run.outcome == "diverged" else "is invalid,"
        return _decide(proposal, "discard", f"the {run.role} run {what} at {at}{why}", statistics)
    if run.outcome == "reached":
        return _decide(proposal, "discard", f"the {run.role} run has no usable {bar.clock} time to target", statistics)
    how = "ended" if run.outcome == "missed" else "was stopped"
    reason = f"the {run.role} run {how} at {at} without reaching the targets, against {bar}{why}"
    if run.outcome == "raced" and run.reason:  # which tells what it was held against
        reason = f"the {run.role} run was stopped at {at} without reaching the targets: {run.reason}"
    rival_misses = not math.isfinite(bar.estimate.median_seconds)  # then a miss says little, until somebody reaches
    return _decide(proposal, "discard", reason, statistics, {"keeps": 1} if rival_misses else LATER)


def _too_slow(
    proposal: Proposal, run: RunRecord, seconds: float, bar: _Bar, statistics: Mapping[str, float], most: float
) -> Decision | None:
    """Decide a run that reached, in so many `seconds`, but took longer than the `most` that pass."""
    if seconds <= most or not math.isfinite(bar.estimate.median_seconds):
        return None
    found = f"the {run.role} run took {format_seconds(seconds)} against {bar}"
    if seconds > bar.slow:
        return _decide(proposal, "discard", f"{found}: slower beyond the noise", statistics)
    reason = f"{found}: cannot be told apart, {format_seconds(most)} or less would pass"
    return _decide(proposal, "inconclusive", reason, statistics, _if_seen_better(proposal, bar, seconds))


def _if_seen_better(proposal: Proposal, bar: _Bar, seconds: float) -> Mapping[str, float]:
    """Return at which noise a gain such as the one that was seen would pass, where there was one."""
    gain = math.log(bar.estimate.median_seconds / seconds)
    sigma = gain / (SIMPLER_MARGIN_SIGMAS if proposal.simplifies else MARGIN_SIGMAS)
    return {**LATER, "sigma_below": sigma} if sigma > bar.resolution else LATER


def _trade(
    history: History,
    proposal: Proposal,
    runs: Sequence[RunRecord],
    noise: Noise,
    allow_trade: bool,
    statistics: dict[str, float],
) -> Decision | None:
    """Discard a change that loses on the other clock; both clocks are compared as times to target."""
    other: ClockName = "wall" if history.clock == "train" else "train"
    before = estimate(history, rival_of(history, proposal), other).median_seconds
    times = [_seconds(history, run, other) for run in runs]
    if not math.isfinite(before) or not all(map(math.isfinite, times)):
        return None  # a foreign command may report one clock only
    after = math.exp(sum(map(math.log, times)) / len(times))
    statistics["other_clock_ratio"] = after / before
    if allow_trade or math.log(after / before) <= max(required_log_gain(noise), math.log(TRADE_RATIO)):
        return None
    reason = (
        f"a trade: {other} time to target went from {format_seconds(before)} to {format_seconds(after)}; "
        "it would be kept only with allow_trade: true"
    )
    return _decide(proposal, "discard", reason, statistics)
