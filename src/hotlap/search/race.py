"""Racing: stop a screen that can no longer be kept, with the evidence in the reason.

Rules in order, cheap to dear: broken, throughput bound, time cap, far behind at equal clock. A stopped run is a
discard, so every rule errs towards letting a run go on. Only screens are raced.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hotlap.core.clock import GRID_RATIO, ClockName
from hotlap.core.durations import format_seconds
from hotlap.core.records import History, Proposal
from hotlap.core.targets import Target, all_hold
from hotlap.search.judge import rival_of
from hotlap.search.noise import estimate, estimate_noise, required_log_gain

BROKEN_LOSS_RATIO: Final = 1.1
BROKEN_FROM_FRACTION: Final = 0.2
"""Share of the incumbent's time that warm-up may take before a loss above the initial one counts as broken."""
THROUGHPUT_FROM_STEPS: Final = 20
SAMPLE_EFFICIENCY_LIMIT: Final = 0.5
"""A change is believed to halve the tokens that the best run needed, not more."""
BEHIND_FROM_FRACTION: Final = 0.6
BEHIND_LAG: Final = 0.5
"""Behind means worse than the incumbent was at half the time: these losses stay flat for long, then fall steeply."""
BEHIND_LOSS_SHARE: Final = 0.05
BEHIND_LEAST_LOSS: Final = 0.03

Point = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RaceContext:
    """What a running screen is held against."""

    clock: ClockName
    incumbent_seconds: float
    """Median time to target; infinite where the incumbent mostly misses."""
    cap_seconds: float
    """Reading after which a screen cannot pass any more; infinite without an incumbent time."""
    incumbent_curve: tuple[tuple[float, float], ...] = ()
    """Seconds and eval_loss of the incumbent's slowest run that reached."""
    sigma: float = 0.05
    initial_loss: float = math.inf
    """eval_loss at the baseline's first evaluation; infinite when unknown."""
    targets: tuple[Target, ...] = ()
    exempt_until: float = 0.0
    """Fraction of the incumbent's time before which a slow start is normal for this family."""
    minimum_tokens: float = 0.0
    """Fewest tokens in which any run reached; 0 when none did."""
    reference_seconds: float = math.inf
    """The incumbent's time, or how long it went on without reaching."""


def race_context(
    history: History, proposal: Proposal, points_by_run: Mapping[str, Sequence[Point]], targets: Sequence[Target]
) -> RaceContext:
    """Collect what a screen of a proposal is raced against; `points_by_run` holds the points of earlier runs.

    The time cap: a screen passes only below `incumbent * exp(-margin)`, so past that reading (and one step of the
    evaluation grid, at which it would have been noticed) it can only become `discard` or `inconclusive`.
    Running on would cost a tenth of every losing screen and change no ladder.
    """
    rival, noise = rival_of(history, proposal), estimate_noise(history)
    seconds = estimate(history, rival).median_seconds
    margin = required_log_gain(noise, simplifies=proposal.simplifies)
    runs = history.unselected_runs(rival)
    reached = [run for run in history.runs if math.isfinite(run.clock_to_target(history.clock)) and run.tokens > 0]
    return RaceContext(
        clock=history.clock,
        incumbent_seconds=seconds,
        cap_seconds=seconds * math.exp(-margin) * GRID_RATIO[history.clock],
        incumbent_curve=_slowest_curve(history, rival, points_by_run),
        sigma=noise.sigma,
        initial_loss=_initial_loss(history, points_by_run),
        targets=tuple(targets),
        exempt_until=proposal.exempt_from_race_until,
        minimum_tokens=min((run.tokens for run in reached), default=0),
        reference_seconds=seconds
        if math.isfinite(seconds)
        else max((run.reading(history.clock) for run in runs), default=math.inf),
    )


def race(points: Sequence[Point], context: RaceContext) -> str | None:
    """Return why a running screen should be stopped, or None; `points` are all of its points so far."""
    if not points or all_hold(context.targets, points[-1]):
        return None  # a run that has just reached is about to say so
    return (
        _broken(points, context)
        or _throughput_bound(points, context)
        or _over_cap(points, context)
        or _far_behind(points, context)
    )


def _broken(points: Sequence[Point], context: RaceContext) -> str | None:
    for point in points:
        for name in ("train_loss", "eval_loss", "grad_norm"):
            value = point.get(name)
            if value is not None and not math.isfinite(value):
                return f"broken: {name} is {value} at step {point.get('step', '?')}"
    curve = _curve(points, context.clock)
    if not curve:
        return None
    seconds, loss = curve[-1]
    late = seconds > BROKEN_FROM_FRACTION * context.reference_seconds
    initial = max(context.initial_loss, curve[0][1])  # its own start too: a slow starter is not broken
    if late and loss > BROKEN_LOSS_RATIO * initial:
        return f"broken: eval_loss {loss:.3f} at {format_seconds(seconds)}, above 1.1 x the initial {initial:.3f}"
    return None


def _throughput_bound(points: Sequence[Point], context: RaceContext) -> str | None:
    first, last = points[0], points[-1]
    seconds = _reading(last, context.clock) - _reading(first, context.clock)  # leaves out the slow first steps
    tokens = last.get("tokens", 0) - first.get("tokens", 0)
    steps = last.get("step", 0) - first.get("step", 0)
    if steps < THROUGHPUT_FROM_STEPS or not seconds > 0 or not tokens > 0 or _is_exempt(last, context):
        return None
    needed = SAMPLE_EFFICIENCY_LIMIT * context.minimum_tokens * seconds / tokens
    if not needed > context.incumbent_seconds:
        return None
    return (
        f"too slow to ever pass: at {tokens / seconds:,.0f} tokens/s even half the {context.minimum_tokens:,.0f} "
        f"tokens of the thriftiest run would take {format_seconds(needed)}, the incumbent needs "
        f"{format_seconds(context.incumbent_seconds)}"
    )


def _over_cap(points: Sequence[Point], context: RaceContext) -> str | None:
    seconds = _reading(points[-1], context.clock)
    if not seconds > context.cap_seconds:
        return None
    return (
        f"at {format_seconds(seconds)} it can no longer beat the incumbent's "
        f"{format_seconds(context.incumbent_seconds)} by the margin{_shortfall(points, context)}"
    )


def _far_behind(points: Sequence[Point], context: RaceContext) -> str | None:
    """Stop when two evaluations in a row are worse than the incumbent was at half the time, and by a margin.

    The lag is lengthened by three sigma, since the incumbent's curve may have been quick by luck, and the margin is a
    twentieth of how far its loss fell, so that a flat stretch is never decided by its ripples.
    """
    curve = context.incumbent_curve
    if not curve or not math.isfinite(context.incumbent_seconds):
        return None
    margin = max(BEHIND_LEAST_LOSS, BEHIND_LOSS_SHARE * (curve[0][1] - curve[-1][1]))
    lag = BEHIND_LAG * math.exp(-3 * context.sigma)
    start = max(BEHIND_FROM_FRACTION, context.exempt_until) * context.incumbent_seconds
    last_two = [(seconds, loss) for seconds, loss in _curve(points, context.clock) if seconds >= start][-2:]
    if len(last_two) < 2 or not all(loss > _loss_at(curve, seconds * lag) + margin for seconds, loss in last_two):
        return None
    seconds, loss = last_two[-1]
    return (
        f"far behind: eval_loss {loss:.3f} at {format_seconds(seconds)}, where the incumbent had "
        f"{_loss_at(curve, seconds * lag):.3f} at {format_seconds(seconds * lag)} already (margin {margin:.3f})"
    )


def _is_exempt(point: Point, context: RaceContext) -> bool:
    return _reading(point, context.clock) < context.exempt_until * context.reference_seconds


def _shortfall(points: Sequence[Point], context: RaceContext) -> str:
    """Say which targets were open at the last evaluation."""
    evaluation = next((point for point in reversed(points) if "eval_loss" in point), None)
    if evaluation is None:
        return ""
    open_targets = [target for target in context.targets if not target.holds(evaluation)]
    shown = [f"{t.metric} {evaluation[t.metric]:.4g}" for t in open_targets if t.metric in evaluation]
    return f" (last evaluation: {', '.join(shown)})" if shown else ""


def _reading(point: Point, clock: ClockName) -> float:
    return float(point.get(f"{clock}_seconds", 0.0))


def _curve(points: Sequence[Point], clock: ClockName) -> list[tuple[float, float]]:
    return [(_reading(p, clock), float(p["eval_loss"])) for p in points if p.get("eval_loss") is not None]


def _loss_at(curve: Sequence[tuple[float, float]], seconds: float) -> float:
    """Return the loss at a reading, on straight lines between the evaluations and flat beyond them."""
    before = curve[0]
    for after in curve:
        if after[0] >= seconds:
            width = after[0] - before[0]
            share = (seconds - before[0]) / width if width > 0 else 1.0
            return before[1] + share * (after[1] - before[1])
        before = after
    return before[1]


def _slowest_curve(
    history: History, candidate: int, points_by_run: Mapping[str, Sequence[Point]]
) -> tuple[tuple[float, float], ...]:
    """Return the curve of the slowest unselected run that reached: the mildest one to be held against."""
    found: list[tuple[float, tuple[tuple[float, float], ...]]] = []
    for run in history.unselected_runs(candidate):
        seconds = run.clock_to_target(history.clock)
        curve = tuple(_curve(points_by_run.get(run.run_id, ()), history.clock))
        if math.isfinite(seconds) and curve:
            found.append((seconds, curve))
    return max(found, default=(0.0, ()))[1]


def _initial_loss(history: History, points_by_run: Mapping[str, Sequence[Point]]) -> float:
    first = [
        curve[0][1]
        for run in history.runs_of(0, "baseline")
        if (curve := _curve(points_by_run.get(run.run_id, ()), history.clock)) and math.isfinite(curve[0][1])
    ]
    return max(first, default=math.inf)
