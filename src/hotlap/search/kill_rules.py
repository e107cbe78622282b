"""The rules that stop a running screen, cheap to dear; the first that fires gives its reason and its numbers.

broken → throughput → cap → envelope → behind → extrapolation → rung

A stopped run is a discard, so every rule errs towards letting a run go on.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from hotlap.core.durations import format_seconds
from hotlap.core.records import Kill
from hotlap.core.targets import all_hold
from hotlap.search.cost import LIMIT_RATIO
from hotlap.search.curves import Curve, CurveBuilder, Plan, Point, Scale, interpolate
from hotlap.search.extrapolation import LEAST_EVALUATIONS, extrapolate
from hotlap.search.laps import Allowance, Lap, RaceContext, Rung

BROKEN_LOSS_RATIO: Final = 1.1
BROKEN_FROM_FRACTION: Final = 0.2
"""Share of the incumbent's time that warm-up may take before a loss above the initial one counts as broken."""
HOPELESS_LOSS_RATIO: Final = 3.0
"""A loss so far above the initial one counts as broken at once."""
THROUGHPUT_FROM_STEPS: Final = 20
SAMPLE_EFFICIENCY_LIMIT: Final = 0.5
"""A change is believed to halve the tokens that the best run needed, not more."""
ENVELOPE_FROM_SHARE: Final = 0.3
ENVELOPE_MARGIN: Final = 0.15
"""Gap by which a run is outside what runs that reached had at the same share of their schedules.

While its rate is high, a larger peak makes a curve worse that wins at the end. In 14 simulated studies with such curves
a margin of 0.1 stopped one run of 16 wrongly, 0.15 none of 6.
"""
BEHIND_MARGIN: Final = 0.01
"""Gap by which a run's place on the incumbent's curve is taken to be better than it is."""
LEAST_LOSS_MARGIN: Final = 0.03
"""Nats of eval_loss that a margin comes to at least, so that a flat stretch is not decided by its ripples."""
CHECK_FRACTIONS: Final = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Shares of the incumbent's time at which a curve is extrapolated."""
RUNG_LEAST_RUNS: Final = 6
RUNG_KEEPS: Final = 3
"""One run in so many goes on from a rung."""
RUNG_LEAST_EVALUATIONS: Final = 3
RUNG_MARGIN: Final = 0.02
RUNG_SHARE_TOLERANCE: Final = 0.15
"""How far apart, relatively, two schedules may be at the same reading and still be compared there."""


Finding = tuple[str, dict[str, float]]
"""The sentence and the numbers of a rule that fires."""
KillRule = Callable[[Lap], Finding | None]


def _broken(lap: Lap) -> Finding | None:
    if lap.not_finite:
        return f"broken: {lap.not_finite}", {}
    context, seconds = lap.context, lap.reading
    late = seconds > BROKEN_FROM_FRACTION * context.reference_seconds
    for name, loss in lap.last_losses.items():
        initial = max(context.initial_loss, lap.first_losses[name])  # its own start too: a slow starter is not broken
        ratio = BROKEN_LOSS_RATIO if late and name == "eval_loss" else HOPELESS_LOSS_RATIO
        if loss > ratio * initial:
            reason = f"broken: {name} {loss:.3f} at {format_seconds(seconds)}, above {ratio:g} x the initial"
            return f"{reason} {initial:.3f}", {name: loss, "initial_loss": initial}
    return None


def _throughput(lap: Lap) -> Finding | None:
    """Stop when even half the tokens of the thriftiest run would take longer than the incumbent."""
    context, first, last = lap.context, lap.first, lap.last
    seconds = lap.reading - float(first.get(f"{context.clock}_seconds", 0.0))  # leaves out the slow first steps
    tokens = last.get("tokens", 0) - first.get("tokens", 0)
    steps = last.get("step", 0) - first.get("step", 0)
    if steps < THROUGHPUT_FROM_STEPS or not seconds > 0 or not tokens > 0 or lap.is_exempt:
        return None
    needed = SAMPLE_EFFICIENCY_LIMIT * context.minimum_tokens * seconds / tokens
    if not needed > context.incumbent_seconds:
        return None
    reason = (
        f"too slow to ever pass: at {tokens / seconds:,.0f} tokens/s even half the {context.minimum_tokens:,.0f} "
        f"tokens of the thriftiest run would take {format_seconds(needed)}, the incumbent needs "
        f"{format_seconds(context.incumbent_seconds)}"
    )
    numbers = {"tokens_per_second": tokens / seconds, "minimum_tokens": context.minimum_tokens}
    return reason, {**numbers, "needed_seconds": needed, "incumbent_seconds": context.incumbent_seconds}


def _cap(lap: Lap) -> Finding | None:
    context, seconds = lap.context, lap.reading
    if not seconds > context.cap_seconds:
        return None
    reason = (
        f"at {format_seconds(seconds)} it can no longer beat the incumbent's "
        f"{format_seconds(context.incumbent_seconds)} by the margin{_shown(lap)}"
    )
    return reason, {"cap_seconds": context.cap_seconds, "incumbent_seconds": context.incumbent_seconds}


def _envelope(lap: Lap) -> Finding | None:
    """Stop when two evaluations in a row are outside what successful runs had at the same share of their schedules."""
    shares, worst = lap.context.envelope
    if not shares or lap.is_exempt:
        return None
    margin = margin_of(lap.context.scale, ENVELOPE_MARGIN)
    last_two = list(zip(lap.curve.shares[-2:], lap.curve.gaps[-2:], strict=True))
    inside = [
        not shares[0] <= share <= shares[-1] or not gap > interpolate(shares, worst, share) + margin
        for share, gap in last_two
    ]
    if len(last_two) < 2 or any(inside):
        return None
    share, gap = last_two[-1]
    bound = interpolate(shares, worst, share)
    reason = (
        f"outside the envelope: at {share:.0%} of its schedule a gap of {gap:.2f} to the targets, where no run that "
        f"reached had more than {bound:.2f} (margin {margin:.2f}){_shown(lap)}"
    )
    return reason, {"share": share, "bound": bound, "margin": margin}


def _behind(lap: Lap) -> Finding | None:
    """Stop when two checks in a row say that more is to be made up than any run is believed to."""
    context = lap.context
    exempt = context.exempt_until * context.incumbent_seconds
    passed = [check for check in context.allowances if exempt <= check.seconds <= lap.reading][-2:]
    if len(passed) < 2 or not all(_lag(lap, check) > check.log_ratio + context.sigma for check in passed):
        return None
    check = passed[-1]
    needed, believed = math.expm1(_lag(lap, check)), math.expm1(check.log_ratio)
    place = lap.curve.place_in(context.incumbent_curve, check.seconds, margin_of(context.scale, BEHIND_MARGIN))
    grounds = f"more than {believed:.0%} is not believed of any run"
    if not math.isnan(check.seen):
        grounds = f"none of {check.runs} runs that reached made up more than {max(0.0, math.expm1(check.seen)):.0%}"
    reason = (
        f"too far behind: at {format_seconds(check.seconds)} it is where the incumbent was at {format_seconds(place)}; "
        f"it would have to make up {needed:.0%} from there on, and {grounds}{_shown(lap)}"
    )
    numbers = {"incumbent_at_seconds": place, "needed": needed, "believed": believed}
    return reason, {**numbers, "most_seen": math.expm1(check.seen), "runs": check.runs}


def _lag(lap: Lap, check: Allowance) -> float:
    if check.seconds not in lap.lags:
        context = lap.context
        lap.lags[check.seconds] = lag_behind(
            lap.curve, context.incumbent_curve, check.seconds, context.cap_seconds, context.scale
        )
    return lap.lags[check.seconds]


def lag_behind(curve: Curve, incumbent: Curve, seconds: float, end: float, scale: Scale) -> float:
    """Return what a run has to make up after a reading to be at the targets at `end`: a log ratio, below 0 for a lead.

    From the same place the incumbent's time grew by some factor until it reached. A run that is to reach at `end` may
    only take `end / seconds`. Minus infinity where no evaluation tells.
    """
    place = curve.place_in(incumbent, seconds, margin_of(scale, BEHIND_MARGIN))
    return math.log(incumbent.seconds[-1] / place) - math.log(end / seconds) if place > 0 else -math.inf


def _extrapolation(lap: Lap) -> Finding | None:
    """Stop when two checks in a row say that even the earliest crossing comes later than the incumbent's."""
    context = lap.context
    if not context.trusts_extrapolation or not math.isfinite(context.incumbent_seconds) or lap.is_exempt:
        return None
    passed = [fraction for fraction in CHECK_FRACTIONS if fraction * context.incumbent_seconds <= lap.reading][-2:]
    crossings = [_crossing(lap, fraction) for fraction in passed]
    if len(crossings) < 2 or not min(crossings) > context.incumbent_seconds:
        return None
    earliest = min(crossings)
    when = f"in {format_seconds(earliest)}" if math.isfinite(earliest) else "never"
    reason = (
        f"extrapolated: on its way since the last checks it reaches the targets {when} at the earliest, the incumbent "
        f"needs {format_seconds(context.incumbent_seconds)}{_shown(lap)}"
    )
    return reason, {"earliest_seconds": earliest, "incumbent_seconds": context.incumbent_seconds}


def _crossing(lap: Lap, fraction: float) -> float:
    if fraction not in lap.crossings:
        reading = fraction * lap.context.incumbent_seconds
        lap.crossings[fraction] = earliest_crossing(lap.curve, reading, lap.context.plan)
    return lap.crossings[fraction]


def earliest_crossing(curve: Curve, reading: float, plan: Plan) -> float:
    """Return the earliest crossing that the evaluations up to a reading allow; 0 where they do not tell.

    Only evaluations count whose learning rate was that of the last one.
    """
    end = curve.until(reading)
    start = curve.steady_from(end, plan)
    if end - start < LEAST_EVALUATIONS:
        return 0.0
    return extrapolate(curve.seconds[start:end], curve.gaps[start:end]).earliest


def _rung(lap: Lap) -> Finding | None:
    """Stop when a rung was passed among the worse two thirds of the runs, and behind the incumbent."""
    for rung in lap.context.rungs:
        if rung.seconds in lap.passed_rungs:
            continue
        if lap.curve.until(rung.seconds) == len(lap.curve.seconds):
            break  # the evaluation that settles it is still to come
        if found := _stopped_at(lap, rung):
            return found
        lap.passed_rungs.add(rung.seconds)
    return None


def _stopped_at(lap: Lap, rung: Rung) -> Finding | None:
    exempt = lap.context.exempt_until * lap.context.reference_seconds
    if lap.curve.until(rung.seconds) < RUNG_LEAST_EVALUATIONS or rung.seconds < exempt:
        return None
    gap, share = lap.curve.gap_at(rung.seconds), lap.curve.share_at(rung.seconds)
    others = sorted(other for other, at in rung.entries if _is_alike(share, at))
    if len(others) < RUNG_LEAST_RUNS:
        return None
    places = (len(others) + 1) // RUNG_KEEPS
    last_place = others[places - 1]
    margin = max(margin_of(lap.context.scale, RUNG_MARGIN), rung.noise)
    if not gap > max(last_place, rung.incumbent_gap) + margin:
        return None
    rank = sum(other < gap for other in others) + 1
    reason = (
        f"not among the best third at {format_seconds(rung.seconds)}: a gap of {gap:.2f} to the targets is place "
        f"{rank} of {len(others) + 1}; place {places} had {last_place:.2f}, the incumbent {rung.incumbent_gap:.2f} "
        f"(margin {margin:.2f})"
    )
    numbers = {"rung_seconds": rung.seconds, "rung_gap": gap, "last_place_gap": last_place}
    return reason, {**numbers, "incumbent_gap": rung.incumbent_gap, "rank": rank, "runs": len(others) + 1}


def _is_alike(share: float, other: float) -> bool:
    """Say whether two runs stood at like places of their schedules."""
    if math.isnan(share) or math.isnan(other):
        return math.isnan(share) and math.isnan(other)
    return abs(share - other) <= RUNG_SHARE_TOLERANCE * max(share, other)


def margin_of(scale: Scale, gap: float) -> float:
    """Return a margin of the gap, and at least that of the least difference of the loss that counts."""
    return max(gap, scale.of_loss(LEAST_LOSS_MARGIN))


def _shown(lap: Lap) -> str:
    """Say which targets were open at the last evaluation."""
    open_targets = [target for target in lap.context.targets if not target.holds(lap.evaluation)]
    shown = [f"{t.metric} {lap.evaluation[t.metric]:.4g}" for t in open_targets if t.metric in lap.evaluation]
    return f" (last evaluation: {', '.join(shown)})" if shown else ""


CHEAP_RULES: Final[Mapping[str, KillRule]] = {"broken": _broken, "throughput": _throughput, "cap": _cap}
CURVE_RULES: Final[Mapping[str, KillRule]] = {
    "envelope": _envelope,
    "behind": _behind,
    "extrapolation": _extrapolation,
    "rung": _rung,
}
RULE_NAMES: Final = (*CHEAP_RULES, *CURVE_RULES)
CERTAIN_RULES: Final = ("broken", "cap")
"""Rules that cannot stop a run that would pass; the others may come to be doubtful."""


class Racer:
    """Races one screen: takes its points as they come, each once."""

    def __init__(self, context: RaceContext) -> None:
        self._builder = CurveBuilder(context.scale, context.clock, context.plan)
        self._lap = Lap(context, self._builder.curve)
        self._cheap = [(name, rule) for name, rule in CHEAP_RULES.items() if name not in context.doubtful]
        self._all = [*self._cheap, *(pair for pair in CURVE_RULES.items() if pair[0] not in context.doubtful)]
        self._spoken: set[str] = set()

    def look(self, new: Sequence[Point]) -> Kill | None:
        """Take the points since the last look and return why the run should be stopped, or None."""
        return next(self.findings(new), None)

    def findings(self, new: Sequence[Point]) -> Iterator[Kill]:
        """Take the points since the last look and yield what each rule that fires says; each rule speaks once."""
        lap, has_evaluation = self._lap, False
        for point in new:
            lap.take(point)
            if self._builder.add(point):
                lap.evaluation, has_evaluation = point, True
        if not new or all_hold(lap.context.targets, lap.last):
            return  # a run that has just reached is about to say so
        for name, rule in self._all if has_evaluation else self._cheap:
            if name not in self._spoken and (found := rule(lap)) is not None:
                self._spoken.add(name)
                yield _kill(lap, name, *found)


def _kill(lap: Lap, rule: str, reason: str, evidence: Mapping[str, float]) -> Kill:
    """Add to a finding what every kill tells: where the run stood, when it might have reached, and what was saved."""
    curve, now = lap.curve, lap.reading
    crossing = extrapolate(curve.seconds, curve.gaps)
    common = {"gap": curve.gaps[-1] if curve.gaps else math.nan, "extrapolated_seconds": crossing.likely}
    numbers = {**common, **evidence}
    return Kill(
        rule=rule,
        reason=reason,
        at_seconds=now,
        saved_seconds=_saved(lap, now),
        evidence={name: float(value) for name, value in numbers.items() if math.isfinite(value)},
    )


def _saved(lap: Lap, now: float) -> float:
    """Return how much longer the run might have gone on: to its limit, its horizon, or twice the incumbent's time."""
    context = lap.context
    progress = context.plan.progress(lap.last)
    horizon = now / progress if progress > 0 else math.inf
    end = min(context.limit_seconds, horizon, LIMIT_RATIO * context.incumbent_seconds)
    return max(0.0, end - now) if math.isfinite(end) else 0.0
