"""The systems lane: a change that leaves the loss as it is needs no test of the loss, only of the time.

Same seed, same data, same arithmetic: the loss trace is equal, so the run needs the same steps, and what is left is the
time of a step. Its noise is ten times smaller than that of the time to target, so short runs of both sides in turn (new
old old new new old) show a gain of a percent that screening would call inconclusive. The first two runs tell by their
traces whether the change is of this kind; if not, it goes the ordinary way.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, Final

from hotlap.core.durations import format_seconds
from hotlap.core.records import Decision, History, Proposal, RunRecord, Verdict
from hotlap.core.traces import trace_difference
from hotlap.search.drift import ClockNoise, clock_noise
from hotlap.search.judge import TRADE_RATIO, rival_of
from hotlap.search.noise import STEP_TIME_RATIO, estimate, estimate_noise, required_log_gain
from hotlap.search.revisit import LATER

TIMING_RUNS: Final = 3
"""Timing runs of each side."""
TIMING_SHARE: Final = 0.5
"""Length of a timing run, relative to the incumbent's time to target."""
TRACE_TOLERANCE: Final = 1e-3
"""Relative difference of training losses that another order of the same sums may make; other seeds differ by 1e-2."""
ACCEPT_SIGMAS: Final = 3.0
SIMPLER_SIGMAS: Final = 0.5

_ANY: Final[frozenset[Any]] = frozenset()
SYSTEMS_KEYS: Final[Mapping[str, frozenset[Any]]] = {
    "training.torch_compile": _ANY,
    "training.torch_compile_backend": _ANY,
    "training.torch_compile_mode": _ANY,
    "training.gradient_checkpointing": _ANY,
    "training.dataloader_num_workers": _ANY,
    "training.dataloader_prefetch_factor": _ANY,
    "training.dataloader_pin_memory": _ANY,
    "training.dataloader_persistent_workers": _ANY,
    "training.ddp_bucket_cap_mb": _ANY,
    "training.padding": frozenset({"longest", "max_length"}),
    "training.optim": frozenset({"adamw_torch", "adamw_torch_fused"}),
}
"""Keys that may leave every step's result as it is, and the values for which they do (none given: all). Only what acts
alike on all steps: the trace covers the first ones, so a schedule must never come here."""


@dataclass(frozen=True, slots=True)
class Lane:
    """The timing runs of one proposal so far."""

    proposal: Proposal
    rival: int
    new: tuple[RunRecord, ...]
    old: tuple[RunRecord, ...]

    @property
    def seed(self) -> int | None:
        """The seed that all of its runs share; None before the first."""
        return self.new[0].seed if self.new else None

    @property
    def next_candidate(self) -> int:
        """Whose turn it is: new old old new new old, so that a drifting machine favours neither."""
        turn = len(self.new) + len(self.old)
        return self.proposal.number if turn % 4 in (0, 3) else self.rival

    @property
    def is_complete(self) -> bool:
        """Whether both sides have their runs."""
        return min(len(self.new), len(self.old)) >= TIMING_RUNS

    @property
    def difference(self) -> float:
        """Largest relative difference between the traces of the first two runs; not a number without a common step."""
        return trace_difference(self.new[0].trace, self.old[0].trace) if self.new and self.old else math.nan

    @property
    def is_left(self) -> bool:
        """Whether the traces differ or cannot be compared, so that the change has to be screened."""
        return bool(self.new and self.old) and not self.difference <= TRACE_TOLERANCE


def is_systems_change(patch: Mapping[str, Any]) -> bool:
    """Say whether a patch names only keys that may leave the results of all steps as they are."""
    return bool(patch) and all(
        key in SYSTEMS_KEYS and (not SYSTEMS_KEYS[key] or value in SYSTEMS_KEYS[key]) for key, value in patch.items()
    )


def systems_lane(history: History, proposal: Proposal) -> Lane | None:
    """Return the lane of a proposal with its runs so far, None when it takes the ordinary way.

    That is so for other keys, on the wall clock (where start-up and compiling count), and while the incumbent has no
    time to target.
    """
    rival = rival_of(history, proposal)
    has_time = math.isfinite(estimate(history, rival).median_seconds)
    may_enter = is_systems_change(proposal.patch) and history.clock == "train" and has_time
    if not may_enter or _was_screened(history, proposal):
        return None
    new = history.runs_of(proposal.number, "timing")
    seed = new[0].seed if new else None
    old = tuple(run for run in history.runs_of(rival, "timing") if run.seed == seed)
    return Lane(proposal, rival, new, old)


def timing_limit(history: History, lane: Lane, run_seconds: float) -> float:
    """Return the seconds after which a timing run is stopped."""
    return min(run_seconds, TIMING_SHARE * estimate(history, lane.rival).median_seconds)


def judge_timing(history: History, lane: Lane, allow_trade: bool = False) -> Decision | None:
    """Return the decision on a lane, None while it needs more runs (or is left for the ordinary way).

    Kept is what makes a step shorter by more than three sigma of the clock, over three runs of each side in turn.
    After one run of each side a step that is longer by as much, allowing for the fewer runs, ends the lane.
    """
    if broken := _broken(lane):
        return broken
    if not lane.old or lane.is_left:
        return None
    noise = clock_noise(history)
    gain = _log_step_time(lane.old) - _log_step_time(lane.new)
    margin = ACCEPT_SIGMAS * noise.sigma
    if not lane.is_complete:
        is_hopeless = gain < -margin * math.sqrt(TIMING_RUNS)
        return _decide(lane, "discard", gain, noise, "slower beyond the noise of the clock") if is_hopeless else None
    if trade := _trade(history, lane, gain, noise, allow_trade):
        return trade
    if gain > margin:
        return _decide(lane, "keep", gain, noise, f"more than three sigma of the clock ({_percent(margin)})")
    if lane.proposal.simplifies and gain >= -SIMPLER_SIGMAS * noise.sigma:
        return _decide(lane, "keep", gain, noise, "not slower, so the simpler config wins")
    if gain < -margin:
        return _decide(lane, "discard", gain, noise, "slower beyond the noise of the clock")
    return _decide(lane, "inconclusive", gain, noise, f"within three sigma of the clock ({_percent(margin)})")


def smallest_visible_timing(history: History) -> float:
    """Return the largest ratio of step times (below 1) that the lane sees in four of five cases."""
    error = math.sqrt(2 / TIMING_RUNS) * 0.84  # the normal quantile of 80 %
    return math.exp(-(ACCEPT_SIGMAS + error) * clock_noise(history).sigma)


def _was_screened(history: History, proposal: Proposal) -> bool:
    """Say whether a proposal has gone the ordinary way already, in a study begun before there was a lane."""
    return bool(history.runs_of(proposal.number, "screen")) and not history.runs_of(proposal.number, "timing")


def _broken(lane: Lane) -> Decision | None:
    for run in lane.new:
        if run.outcome in ("crashed", "out_of_memory", "diverged", "invalid"):
            verdict: Verdict = "crash" if run.outcome in ("crashed", "out_of_memory") else "discard"
            why = f": {run.reason}" if run.reason else ""
            what = run.outcome.replace("_", " ")
            reason = f"a timing run ended as {what} at {format_seconds(run.train_seconds)}{why}"
            return Decision(proposal=lane.proposal.number, verdict=verdict, reason=reason, revisit_if=LATER)
    return None


def _log_step_time(runs: tuple[RunRecord, ...]) -> float:
    return fmean(math.log(run.seconds_per_step) for run in runs)


def _trade(history: History, lane: Lane, gain: float, noise: ClockNoise, allow_trade: bool) -> Decision | None:
    """Discard what wins less on the train clock than it costs beside it, beyond what counts as a trade."""
    train, wall = (estimate(history, lane.rival, clock).median_seconds for clock in ("train", "wall"))
    if allow_trade or gain <= 0 or not math.isfinite(wall):
        return None
    beside = median(run.wall_seconds - run.train_seconds for run in lane.new)
    beside -= median(run.wall_seconds - run.train_seconds for run in lane.old)
    after = wall - train * (1 - math.exp(-gain)) + beside
    if after <= 0 or math.log(after / wall) <= max(math.log(TRADE_RATIO), required_log_gain(estimate_noise(history))):
        return None
    why = (
        f"a trade: wall time to target would go from {format_seconds(wall)} to {format_seconds(after)}; "
        "it would be kept only with allow_trade: true"
    )
    return _decide(lane, "discard", gain, noise, why)


def _decide(
    lane: Lane,
    verdict: Verdict,
    gain: float,
    noise: ClockNoise,
    why: str,
    revisit_if: Mapping[str, float] = LATER,
) -> Decision:
    new, old = (1e3 * math.exp(_log_step_time(runs)) for runs in (lane.new, lane.old))
    change = f"{_percent(abs(1 - math.exp(-gain)))} {'less' if gain >= 0 else 'more'}"
    reason = (
        f"the loss trace is the parent's (largest difference {lane.difference:.1g}), so only time counts: "
        f"a step takes {new:.4g} ms against {old:.4g} ms in {len(lane.new)} + {len(lane.old)} runs in turn, "
        f"{change}: {why}"
    )
    statistics = {
        STEP_TIME_RATIO: math.exp(-gain),
        "clock_sigma": noise.sigma,
        "trace_difference": lane.difference,
        "timing_runs": float(len(lane.new)),
    }
    reopens = {} if verdict == "keep" else revisit_if
    return Decision(
        proposal=lane.proposal.number, verdict=verdict, reason=reason, statistics=statistics, revisit_if=reopens
    )


def _percent(log_gain: float) -> str:
    return f"{100 * log_gain:.2g} %"
