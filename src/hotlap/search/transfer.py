"""Which gains of a ladder transfer: a study's rungs against the same rungs measured again, perhaps elsewhere.

    rows = transfers(study_history, replay_history, (0, 1, 4, 7))

Times of two machines are not compared, only how many times faster each rung is than the one before it on its machine.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Final, Literal

from hotlap.core.records import History, RecordClaim
from hotlap.search.goal import least_seconds
from hotlap.search.noise import TRUSTED_DEGREES_OF_FREEDOM, Estimate, estimate, estimate_noise, median_error

COVERAGE: Final = 0.90
"""Of the intervals."""
STEPS_TOLERANCE: Final = 0.15
"""Share by which the steps to target may differ and count as the same."""
_WIDTH: Final = NormalDist().inv_cdf((1 + COVERAGE) / 2)

Answer = Literal["yes", "no", "unclear"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """How many times faster something is than what it is measured against; not a number where that is unknown."""

    ratio: float
    low: float
    high: float
    """Ends of the 90 % interval; an end that the runs do not bound is 0 or infinite."""
    is_lower_bound: bool = False
    """Whether the slow side did not reach the targets, so that the ratio is at least this."""

    @property
    def has_interval(self) -> bool:
        """Whether the runs bound the ratio on one side at least."""
        return self.low > 0 or self.high < math.inf

    def holds(self, other: "Gain") -> bool | None:
        """Say whether another ratio lies inside the interval; None where that is open.

        A lower bound stands for every ratio from it on.
        """
        highest = math.inf if other.is_lower_bound else other.ratio
        if not self.has_interval or math.isnan(other.ratio):
            return None
        if self.low <= other.ratio and highest <= self.high:
            return True
        return False if other.ratio > self.high or highest < self.low else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One rung, there (in the study) and here (in the replay)."""

    number: int
    title: str
    there: Estimate
    here: Estimate
    gain_there: Gain | None
    """Against the rung before; None for the first one."""
    gain_here: Gain | None
    answer: Answer | None
    """Whether the gain transfers: yes and no are beyond the noise; None while a side has not run."""

    @property
    def steps_ratio(self) -> float:
        """Steps to target here, relative to there; not a number where a side never reached."""
        return self.here.steps / self.there.steps

    @property
    def is_as_claimed(self) -> bool | None:
        """Whether the ratio found here lies inside the interval from there; None where that is open."""
        there, here = self.gain_there, self.gain_here
        return there.holds(here) if there is not None and here is not None else None


def transfers(study: History, replay: History, rungs: Sequence[int]) -> tuple[Transfer, ...]:
    """Return a row for each rung, from the baseline (0) on."""
    return tuple(_rows(study, replay, rungs))


def whole_transfer(study: History, replay: History, rungs: Sequence[int]) -> Transfer:
    """Return the last rung against the first: the claim as a whole, from the study's record where there is one."""
    first, last = rungs[0], rungs[-1]
    row = _row(study, replay, first, last)
    claim = next((claim for claim in reversed(study.claims) if claim.confirmed and claim.candidate == last), None)
    there = _claimed(claim) if claim else None
    return row if there is None else replace(row, gain_there=there)


def gain(history: History, before: int, after: int, sigma: float | None = None) -> Gain:
    """Return how many times faster one candidate is than another, with its interval.

    `sigma` is the noise of log time to target; by default that of this history.
    """
    old, new = estimate(history, before), estimate(history, after)
    sigma = estimate_noise(history).sigma if sigma is None else sigma
    if not old.runs or not math.isfinite(new.median_seconds):
        return Gain(ratio=math.nan, low=math.nan, high=math.nan)
    if not math.isfinite(old.median_seconds):
        ratio = least_seconds(history, before) / new.median_seconds
        low = ratio * math.exp(-_WIDTH * sigma * median_error(new.runs))
        return Gain(ratio=ratio, low=low, high=math.inf, is_lower_bound=True)
    ratio = old.median_seconds / new.median_seconds
    width = _WIDTH * sigma * math.hypot(median_error(old.runs), median_error(new.runs))
    return Gain(ratio=ratio, low=ratio * math.exp(-width), high=ratio * math.exp(width))


def replay_sigma(study: History, replay: History) -> float:
    """Return the noise that a replay's gains are held against; its few runs may agree by luck, the study's are more."""
    own = estimate_noise(replay)
    is_trusted = own.degrees_of_freedom >= TRUSTED_DEGREES_OF_FREEDOM
    return own.sigma if is_trusted else max(own.sigma, estimate_noise(study).sigma)


def _rows(study: History, replay: History, rungs: Sequence[int]) -> Iterator[Transfer]:
    for before, number in zip((None, *rungs), rungs, strict=False):
        if before is not None:
            yield _row(study, replay, before, number)
            continue
        yield Transfer(
            number=number,
            title="baseline",
            there=estimate(study, number),
            here=estimate(replay, number),
            gain_there=None,
            gain_here=None,
            answer=None,
        )


def _row(study: History, replay: History, before: int, number: int) -> Transfer:
    here = gain(replay, before, number, replay_sigma(study, replay))
    proposal = study.proposal(number)
    is_for_simplicity = proposal.simplifies or proposal.role == "ablation"
    return Transfer(
        number=number,
        title=proposal.title,
        there=estimate(study, number),
        here=estimate(replay, number),
        gain_there=gain(study, before, number),
        gain_here=here,
        answer=_answer(replay, before, number, here, is_for_simplicity=is_for_simplicity),
    )


def _answer(replay: History, before: int, number: int, here: Gain, *, is_for_simplicity: bool) -> Answer | None:
    """Say whether a gain is found here; a change that only removes something need not gain, but may not lose."""
    old, new = estimate(replay, before), estimate(replay, number)
    if not old.runs or not new.runs:
        return None
    if not math.isfinite(new.median_seconds) or here.high < 1:
        return "no"
    return "yes" if here.low > 1 or is_for_simplicity else "unclear"


def _claimed(claim: RecordClaim) -> Gain | None:
    """Return a record's speedup with its interval, which older claims do not have."""
    if claim.speedup is None:
        return None
    low, high = claim.speedup_interval or (0.0, math.inf)
    return Gain(ratio=claim.speedup, low=low, high=high)
