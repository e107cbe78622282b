"""Collect what a screen is raced against: the incumbent, the runs that reached, and everything screened before."""

import math
import re
from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import Final

from hotlap.core.clock import GRID_RATIO
from hotlap.core.records import History, Proposal, RunRecord
from hotlap.core.targets import Target
from hotlap.search.curves import Curve, Recordings, Scale, plan_of
from hotlap.search.drift import is_comparable
from hotlap.search.judge import rival_of
from hotlap.search.kill_rules import CHECK_FRACTIONS, ENVELOPE_FROM_SHARE, earliest_crossing, lag_behind
from hotlap.search.laps import Allowance, RaceContext, Rung
from hotlap.search.noise import counted_runs, estimate, estimate_noise, screen_log_gain

MOST_RUNS: Final = 24
"""Of the runs that tell a rule something the latest are looked at, so many of them."""
ENVELOPE_LEAST_RUNS: Final = 3
TIED_FROM_SHARE: Final = 0.6
"""A run that reached before this share of its schedule was not brought there by the schedule's end."""
ENVELOPE_STRIDE: Final = 0.02
BEHIND_CHECKS: Final = tuple(n / 20 for n in range(4, 20))
"""Shares of the incumbent's time at which a run must not be too far behind."""
MOST_MADE_UP: Final = 2.0
"""Log ratio that any run is believed to make up at most, in proportion to what is left of the incumbent's time.

Of 57 recorded real runs of random recipes, 786 pairs in which one was a tenth or more ahead of the other at a target:
0.1 % of these were stopped with 2, 0.3 % with 1.5 and 0.9 % with 1. With times set so that each was ahead by just 15 %:
0.6, 1.9 and 7.8 % of 1748. What was seen of five other runs makes it 0.8 % and 4.8 %, of ten 0.9 % and 2.0 %.
"""
SEEN_LEAST_CANDIDATES: Final = 5
SEEN_RATIO: Final = 1.5
SEEN_MARGIN: Final = 0.05
"""What runs that reached made up is believed once so many candidates tell: half as much again, and 5 %."""
TRUST_LEAST_RUNS: Final = 2
TRUSTED_OVERSHOOT: Final = 1.05
"""An extrapolation may promise so many times the true time (the grid alone makes 1.03) and still be trusted."""
RUNG_FRACTIONS: Final = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""Rungs, as shares of the incumbent's time (asynchronous successive halving: Li et al. 2018)."""
SAMPLED: Final = ("sampler", "mutation", "prior")
"""Proposers that try much, several settings at once, and mostly fail: only their screens are held against rungs."""
SLOW_START: Final = 0.6
"""Share of the incumbent's time during which a slow start says nothing of the changes below."""
SLOW_START_KEYS: Final = (
    "training.lr_scheduler_type",
    "training.lr_scheduler_kwargs",
    "training.schedule_by",
    "training.max_steps",
    "training.max_tokens",
    "training.warmup_steps",
    "training.warmup_ratio",
    "training.per_device_train_batch_size",
    "training.gradient_accumulation_steps",
    "training.total_batch_size",
    "training.total_batch_tokens",
    "training.weight_decay",
    "training.label_smoothing_factor",
)
"""Changes of the schedule, the batch, the decay or the loss: their curves start worse and may win at the end."""
_SLOW_KNOBS: Final = re.compile(r"params\.\w*(schedul|warm|batch|accum|decay|smooth|steps|iters|epochs)")
"""Knobs of somebody else's command that are such settings, by their names."""


def _starts_slowly(key: str) -> bool:
    return key in SLOW_START_KEYS or _SLOW_KNOBS.match(key) is not None


def gather_opponents(
    history: History,
    proposal: Proposal,
    recordings: Recordings,
    targets: Sequence[Target],
    limit_seconds: float = math.inf,
) -> RaceContext:
    """Return what a screen of a proposal is raced against, with every rule trusted that has its grounds.

    The time cap: a screen passes only below `incumbent * exp(-margin)`, so past that reading (and one step of the
    evaluation grid, at which it would have been noticed) it can only become `discard` or `inconclusive`.
    Running on would cost a tenth of every losing screen and change no ladder.
    """
    rival, noise = rival_of(history, proposal), estimate_noise(history)
    seconds = estimate(history, rival).median_seconds
    passing = seconds * math.exp(-screen_log_gain(noise, simplifies=proposal.simplifies))
    scale = recordings.scale(history, targets)
    runs = counted_runs(history, rival)
    reached = [run for run in history.runs if math.isfinite(run.clock_to_target(history.clock)) and run.tokens > 0]
    successes = [run for run in reached if is_comparable(history, run)]
    reference = seconds if math.isfinite(seconds) else max((r.reading(history.clock) for r in runs), default=math.inf)
    return RaceContext(
        clock=history.clock,
        incumbent_seconds=seconds,
        pass_seconds=passing,
        cap_seconds=passing * GRID_RATIO[history.clock],
        incumbent_curve=_slowest(history, rival, recordings)[1],
        sigma=noise.sigma,
        initial_loss=_initial_loss(history, recordings),
        targets=tuple(targets),
        exempt_until=exempt_until(proposal),
        minimum_tokens=min((run.tokens for run in reached), default=0),  # the same on any machine
        reference_seconds=reference,
        limit_seconds=limit_seconds,
        scale=scale,
        plan=plan_of(history, proposal.number),
        envelope=_envelope(history, successes, recordings),
        allowances=tuple(_allowances(history, seconds, successes, recordings, scale)),
        trusts_extrapolation=_trusts_extrapolation(history, proposal, successes, recordings),
        rungs=tuple(_rungs(history, proposal, runs, recordings, reference)),
    )


def exempt_until(proposal: Proposal) -> float:
    """Return the fraction of the incumbent's time before which a slow start of this change is normal.

    A sampler changes such keys in nearly every draw; of its proposals only what they say themselves counts.
    """
    starts_slowly = proposal.proposer not in SAMPLED and any(map(_starts_slowly, proposal.patch))
    return max(proposal.exempt_from_race_until, SLOW_START if starts_slowly else 0.0)


def _slowest(history: History, candidate: int, recordings: Recordings) -> tuple[str, Curve]:
    """Return a candidate's slowest run that reached, and its curve: the mildest one to be held against."""
    runs = counted_runs(history, candidate)
    reached = [(seconds, run) for run in runs if math.isfinite(seconds := run.clock_to_target(history.clock))]
    curves = [(sec, run.run_id, curve) for sec, run in reached if (curve := recordings.curve(history, run)).seconds]
    _, run_id, curve = max(curves, key=lambda found: found[0], default=(0.0, "", Curve()))
    return run_id, curve


def _initial_loss(history: History, recordings: Recordings) -> float:
    loss = float(recordings.first_evaluation(history).get("eval_loss", math.inf))
    return math.inf if math.isnan(loss) else loss


def _envelope(
    history: History, successes: Sequence[RunRecord], recordings: Recordings
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the worst gap at shares of the schedule, over the runs that reached late in theirs.

    It goes as far as at least three of them were still on their way: how a run stands behind the place where others
    had reached already says nothing against it.
    """
    curves = (recordings.curve(history, run) for run in reversed(successes))
    late = (curve for curve in curves if curve.shares and curve.shares[-1] >= TIED_FROM_SHARE)  # false without a share
    tied = list(islice(late, MOST_RUNS))
    shares: list[float] = []
    worst: list[float] = []
    for step in count():
        share = ENVELOPE_FROM_SHARE + step * ENVELOPE_STRIDE
        under_way = [curve.gap_at_share(share) for curve in tied if curve.shares[0] <= share <= curve.shares[-1]]
        if len(under_way) < ENVELOPE_LEAST_RUNS:
            return tuple(shares), tuple(worst)
        shares.append(share)
        worst.append(max(under_way))
    raise AssertionError("shares of a schedule end")


def _allowances(
    history: History, incumbent_seconds: float, successes: Sequence[RunRecord], recordings: Recordings, scale: Scale
) -> Iterator[Allowance]:
    """Yield what is believed to be made up from each check on: by anyone, or by what was seen of others."""
    if not math.isfinite(incumbent_seconds):
        return
    tried = [run for run in successes if run.candidate][-MOST_RUNS:]
    made_up = [(run.candidate, _made_up(history, run, recordings, scale)) for run in tried]
    for index, fraction in enumerate(BEHIND_CHECKS):
        most, seconds = MOST_MADE_UP * (1 - fraction), fraction * incumbent_seconds
        seen = [(candidate, ratios[index]) for candidate, ratios in made_up if math.isfinite(ratios[index])]
        highest = max((ratio for _, ratio in seen), default=0.0)
        learned = SEEN_MARGIN + SEEN_RATIO * max(0.0, highest)
        if len({candidate for candidate, _ in seen}) < SEEN_LEAST_CANDIDATES or not learned < most:
            yield Allowance(seconds, most)
        else:
            yield Allowance(seconds, learned, highest, len(seen))


def _made_up(history: History, run: RunRecord, recordings: Recordings, scale: Scale) -> tuple[float, ...]:
    """Return what a run that reached made up on its rival after each check; not a number where that is not known."""
    name, rival = _slowest(history, rival_of(history, history.proposal(run.candidate)), recordings)
    if (run.run_id, name) not in recordings.made_up:
        curve, end = recordings.curve(history, run), run.clock_to_target(history.clock)
        readings = [fraction * rival.seconds[-1] for fraction in BEHIND_CHECKS] if rival.seconds else []
        found = [lag_behind(curve, rival, at, end, scale) if at < end else math.nan for at in readings]
        recordings.made_up[run.run_id, name] = tuple(found) or (math.nan,) * len(BEHIND_CHECKS)
    return recordings.made_up[run.run_id, name]


def _trusts_extrapolation(
    history: History, proposal: Proposal, successes: Sequence[RunRecord], recordings: Recordings
) -> bool:
    """Say whether extrapolating the runs that reached under such a schedule never promised more than they took."""
    schedule = plan_of(history, proposal.number).schedule
    alike = (run for run in reversed(successes) if plan_of(history, run.candidate).schedule == schedule)
    told = (ratio for run in alike if (ratio := _overshoot(history, run, recordings)) > 0)
    overshoots = list(islice(told, MOST_RUNS))
    return len(overshoots) >= TRUST_LEAST_RUNS and max(overshoots) <= TRUSTED_OVERSHOOT


def _overshoot(history: History, run: RunRecord, recordings: Recordings) -> float:
    """Return the largest extrapolated time of a run that reached, relative to its true one; 0 where none was made."""
    if run.run_id not in recordings.overshoots:
        curve, plan = recordings.curve(history, run), plan_of(history, run.candidate)
        seconds = run.clock_to_target(history.clock)
        found = [earliest_crossing(curve, fraction * seconds, plan) / seconds for fraction in CHECK_FRACTIONS]
        recordings.overshoots[run.run_id] = max(found)
    return recordings.overshoots[run.run_id]


def _rungs(
    history: History, proposal: Proposal, rivals: Sequence[RunRecord], recordings: Recordings, reference: float
) -> Iterator[Rung]:
    """Yield the rungs of a sampled screen: how every earlier candidate stood there, one run of each."""
    if proposal.proposer not in SAMPLED or not math.isfinite(reference):
        return
    firsts: dict[int, RunRecord] = {}
    for run in history.runs:
        if run.role in ("screen", "baseline", "incumbent") and is_comparable(history, run):
            firsts.setdefault(run.candidate, run)
    others = [run for candidate, run in firsts.items() if candidate != proposal.number]
    curves = [recordings.curve(history, run) for run in others[-MOST_RUNS:]]
    own = [recordings.curve(history, run) for run in rivals]
    for fraction in RUNG_FRACTIONS:
        seconds = fraction * reference
        there = [curve.gap_at(seconds) for curve in own if _got_to(curve, seconds)]
        yield Rung(
            seconds=seconds,
            entries=tuple((c.gap_at(seconds), c.share_at(seconds)) for c in curves if _got_to(c, seconds)),
            incumbent_gap=max(there, default=-math.inf),
            noise=max(there, default=0.0) - min(there, default=0.0),
        )


def _got_to(curve: Curve, seconds: float) -> bool:
    return bool(curve.seconds) and curve.seconds[0] <= seconds <= curve.seconds[-1]
