"""Learning curves as racing sees them: how far a run is from its targets, against the judged clock.

The **gap** of an evaluation is the largest shortfall over the cheap targets, each relative to the first baseline run's
first evaluation: 1 at the start, 0 where all of them hold. So there is one curve to compare, also with several targets.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from hotlap.core.clock import ClockName
from hotlap.core.records import History, Kill, RunRecord
from hotlap.core.targets import Target

STEADY_RATIO: Final = 1.01
"""Learning rates within this ratio count as equal."""
CONSTANT_SCHEDULES: Final = ("constant", "constant_with_warmup")
LOSS_ALONE: Final = Target("eval_loss", "<", 0.0)
"""What is raced on where no cheap target tells runs apart: a gap that never gets to 0."""
_POSITIONS: Final = {"steps": "step", "tokens": "tokens"}
_HORIZONS: Final = {"steps": "training.max_steps", "tokens": "training.max_tokens", "seconds": "budget.run"}

Point = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Scale:
    """What a gap is measured in: targets, and how far off the first baseline run began."""

    targets: tuple[Target, ...] = ()
    shortfalls: tuple[float, ...] = ()

    def gap(self, metrics: Mapping[str, Any]) -> float:
        """Return the gap of an evaluation; not a number where it tells of no target."""
        gaps = [
            shortfall(target, metrics) / scale
            for target, scale in zip(self.targets, self.shortfalls, strict=True)
            if metrics.get(target.metric) is not None
        ]
        return max(gaps, default=math.nan)

    def of_loss(self, nats: float) -> float:
        """Return a difference of eval_loss as a difference of gaps; 0 where the loss is no target."""
        for target, scale in zip(self.targets, self.shortfalls, strict=True):
            if target.metric == "eval_loss":
                return nats / scale
        return 0.0


def shortfall(target: Target, metrics: Mapping[str, Any]) -> float:
    """Return by how much a metric misses its target, 0 where the target holds, infinite for what is not a number."""
    value = float(metrics[target.metric])
    if not math.isfinite(value):
        return math.inf
    missing = value - target.value if target.comparison.startswith("<") else target.value - value
    return max(0.0, missing)


def cheap_scale(first: Mapping[str, Any], targets: Sequence[Target]) -> Scale:
    """Return the scale of the cheap targets from a first evaluation.

    A target that holds from the start, or that the evaluation does not tell of, is left out.
    """
    told = [target for target in targets if target.is_cheap and first.get(target.metric) is not None]
    known = {target: missing for target in told if 0 < (missing := shortfall(target, first)) < math.inf}
    return Scale(tuple(known), tuple(known.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The learning-rate schedule of a config, as far as racing reads it."""

    schedule: str = ""
    position: str = "step"
    """What the schedule is driven by, as points name it."""
    horizon: float = math.nan
    """Where it ends; not a number when the config does not say."""

    @property
    def is_constant(self) -> bool:
        """Whether the learning rate stays where warm-up has brought it."""
        return self.schedule in CONSTANT_SCHEDULES

    def progress(self, point: Point) -> float:
        """Return the share of the horizon that is done; not a number when that is not known."""
        value = point.get(self.position)
        return float(value) / self.horizon if value is not None and self.horizon > 0 else math.nan


def plan_of(history: History, candidate: int) -> Plan:
    """Return the plan of a candidate, from the base config and the patches on it."""
    patch = history.config_of(candidate)

    def setting(key: str) -> Any:
        if key in patch:
            return patch[key]
        value: Any = history.base_config
        for name in key.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    unit = str(setting("training.schedule_by") or "steps")
    horizon = setting(_HORIZONS.get(unit, "training.max_steps"))
    is_known = isinstance(horizon, int | float) and horizon > 0  # -1: by epochs, which only the worker can count
    return Plan(
        schedule=str(setting("training.lr_scheduler_type") or ""),
        position=_POSITIONS.get(unit, f"{history.clock}_seconds"),
        horizon=float(horizon) if is_known else math.nan,
    )


class Curve(NamedTuple):
    """The evaluations of one run, in order; the four sequences are of equal length."""

    seconds: Sequence[float] = ()
    """Readings of the judged clock."""
    gaps: Sequence[float] = ()
    shares: Sequence[float] = ()
    """Shares of the planned horizon; not numbers where the learning rate is constant or the horizon unknown."""
    rates: Sequence[float] = ()
    """Learning rates in use; not numbers where the points do not tell."""

    def gap_at(self, seconds: float) -> float:
        """Return the gap at a reading, on straight lines between the evaluations and flat beyond them."""
        return interpolate(self.seconds, self.gaps, seconds)

    def share_at(self, seconds: float) -> float:
        """Return the share of the planned horizon at a reading."""
        return interpolate(self.seconds, self.shares, seconds)

    def gap_at_share(self, share: float) -> float:
        """Return the gap at a share of the planned horizon."""
        return interpolate(self.shares, self.gaps, share)

    def first_at(self, gap: float) -> float:
        """Return when the gap was first as small, on straight lines between the evaluations; the end if it never was.

        There must be an evaluation.
        """
        reached = next((n for n, found in enumerate(self.gaps) if found <= gap), None)
        if reached is None:
            return self.seconds[-1]
        if reached == 0 or math.isinf(self.gaps[reached - 1]):
            return self.seconds[reached]
        before, after = self.gaps[reached - 1 : reached + 1]
        start, end = self.seconds[reached - 1 : reached + 1]
        return start + (end - start) * (before - gap) / (before - after)

    def place_in(self, other: "Curve", seconds: float, margin: float) -> float:
        """Return when another run was first where this one is at a reading, at best, but for a margin of the gap.

        Between two evaluations a run is taken to have moved: its steps may be long. 0 where no evaluation tells.
        """
        done = self.until(seconds)
        if not done or not other.seconds:
            return 0.0
        return other.first_at(min(*self.gaps[:done], self.gap_at(seconds)) - margin)

    def until(self, seconds: float) -> int:
        """Return how many evaluations lie before a reading, or on it."""
        return bisect_right(self.seconds, seconds)

    def steady_from(self, end: int, plan: Plan) -> int:
        """Return from which evaluation on the learning rate was what it is before `end`; `end` if nobody knows."""
        if end == 0:
            return end
        rate = self.rates[end - 1]
        if not rate > 0:
            return 0 if plan.is_constant and math.isnan(rate) else end
        start = end
        while start and 1 / STEADY_RATIO <= self.rates[start - 1] / rate <= STEADY_RATIO:
            start -= 1
        return start


class CurveBuilder:
    """Makes a curve point by point; `curve` may be read at any time."""

    def __init__(self, scale: Scale, clock: ClockName, plan: Plan) -> None:
        self._scale, self._plan = scale, plan
        self._reading = f"{clock}_seconds"
        self._rate = math.nan
        self._columns: tuple[list[float], list[float], list[float], list[float]] = ([], [], [], [])
        self.curve = Curve(*self._columns)

    def add(self, point: Point) -> bool:
        """Take a point; say whether it was an evaluation."""
        rate = point.get("learning_rate")
        if rate is not None:
            self._rate = float(rate)
        gap = self._scale.gap(point)
        if math.isnan(gap):
            return False
        share = math.nan if self._plan.is_constant else self._plan.progress(point)
        row = (float(point.get(self._reading, 0.0)), gap, share, self._rate)
        for column, value in zip(self._columns, row, strict=True):
            column.append(value)
        return True


class Recordings:
    """The points of a study's finished runs; each run is reduced to its curve and replayed once."""

    def __init__(self, points_of: Callable[[str], Sequence[Point]]) -> None:
        self._points_of = points_of
        self._firsts: dict[str, Mapping[str, Any]] = {}
        self._scale = Scale()
        self._curves: dict[str, Curve] = {}
        self.overshoots: dict[str, float] = {}
        """What extrapolating a run's beginning said, relative to its true time; kept by the trust in that rule."""
        self.made_up: dict[tuple[str, str], tuple[float, ...]] = {}
        """What a run made up on a run of its rival after each check; kept by what is believed of others."""
        self.verdicts: dict[tuple[str, tuple[int, ...]], tuple[tuple[Kill, ...], bool]] = {}
        """What the rules would have said of a run on top of kept changes, and if it passed; kept by the replays."""

    def points(self, run_id: str) -> Sequence[Point]:
        """Return the points of a run."""
        return self._points_of(run_id)

    def first_evaluation(self, history: History) -> Mapping[str, Any]:
        """Return the first evaluation of the first baseline run that has one: later runs change nothing."""
        for run in history.runs_of(0, "baseline"):
            if run.run_id not in self._firsts:
                evaluations = (point for point in self._points_of(run.run_id) if point.get("eval_loss") is not None)
                self._firsts[run.run_id] = next(evaluations, {})
            if first := self._firsts[run.run_id]:
                return first
        return {}

    def scale(self, history: History, targets: Sequence[Target]) -> Scale:
        """Return the scale of a study; another one than before makes all curves anew."""
        first = self.first_evaluation(history)
        scale = cheap_scale(first, targets)
        if not scale.targets:
            scale = cheap_scale(first, [LOSS_ALONE])
        if scale != self._scale:
            self._scale = scale
            self._curves.clear()
            self.overshoots.clear()
            self.made_up.clear()
            self.verdicts.clear()
        return scale

    def curve(self, history: History, run: RunRecord) -> Curve:
        """Return the curve of a finished run, on the scale that was asked for last."""
        if run.run_id not in self._curves:
            builder = CurveBuilder(self._scale, history.clock, plan_of(history, run.candidate))
            for point in self._points_of(run.run_id):
                builder.add(point)
            self._curves[run.run_id] = builder.curve
        return self._curves[run.run_id]


def interpolate(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    """Return the value at x on straight lines through points with rising xs, flat beyond them; one point at least."""
    after = bisect_left(xs, x)
    if after == 0:
        return ys[0]
    if after == len(xs):
        return ys[-1]
    width = xs[after] - xs[after - 1]
    share = (x - xs[after - 1]) / width if width > 0 else 1.0
    return ys[after - 1] + share * (ys[after] - ys[after - 1])
