"""A simulated training as it would go if nobody stopped it, and what becomes of it when somebody does."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotlap.core.clock import GRID_RATIO, GRID_START_SECONDS, ClockName
from hotlap.core.durations import format_seconds
from hotlap.core.records import Outcome
from hotlap.core.targets import Target, all_hold

Floats = NDArray[np.float64]
Point = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """The evaluations of one training."""

    setup_seconds: float
    """Wall seconds before the first step."""
    evaluation_seconds: float
    """Wall seconds of an evaluation; the training clock stands still."""
    steps: Floats
    """Steps taken at each evaluation, shape (N,)."""
    train_seconds: Floats
    """Reading of the training clock at each, shape (N,)."""
    tokens_per_step: float
    values: Mapping[str, Floats]
    """Metrics at each, shape (N,); `eval_loss` is among them."""
    ending: Outcome = "missed"
    """How it ends by itself after the last evaluation."""
    reason: str = "the schedule ended and the targets did not hold"

    def points(self) -> Iterator[Point]:
        """Yield the evaluations as a run folder's lines."""
        names = ("step", "train_seconds", "wall_seconds", "tokens", "perplexity", *self.values)
        walls = self.setup_seconds + self.train_seconds + self.evaluation_seconds * np.arange(1, len(self.steps) + 1)
        columns = (
            self.steps.astype(int),
            self.train_seconds,
            walls,
            np.rint(self.steps * self.tokens_per_step).astype(int),
            np.exp(np.minimum(50.0, self.values["eval_loss"])),
            *self.values.values(),
        )
        for row in zip(*(column.tolist() for column in columns), strict=True):
            yield dict(zip(names, row, strict=True))


@dataclass(frozen=True, slots=True)
class Played:
    """What a training came to."""

    outcome: Outcome
    reason: str
    points: Sequence[Point]
    wall_seconds: float
    """When it ended."""
    train_seconds: float
    stopped_by: Any = None
    """What `stop` returned."""


def play(
    trace: Trace,
    *,
    targets: Sequence[Target],
    limit_seconds: float,
    clock: ClockName = "train",
    wall_left: float = math.inf,
    stop: Callable[[Point], Any] = lambda point: None,
    ends_at_target: bool = True,
) -> Played:
    """Let a training go on until its targets hold, a limit of its clock or of the study comes, or `stop` says why.

    `stop` is asked after each evaluation with the newest point, as a driver asks the race.
    """
    points: list[Point] = []
    if not len(trace.steps):
        return Played(trace.ending, trace.reason, points, trace.setup_seconds, 0.0)
    for point in trace.points():
        over = point[f"{clock}_seconds"] - limit_seconds
        if over > 0:
            points.append(_point_before(point, over, points[-1] if points else None))
            return _ended("out_of_budget", f"{limit_seconds:.1f} s on the {clock} clock is the limit", points)
        if point["wall_seconds"] > wall_left:
            train = points[-1]["train_seconds"] if points else 0.0
            return Played("interrupted", "the study's budget was used up", points, wall_left, train)
        points.append(point)
        if not math.isfinite(point["eval_loss"]):
            return _ended("diverged", f"eval_loss is {point['eval_loss']} at step {point['step']}", points)
        if ends_at_target and all_hold(targets, point):
            return _ended("reached", f"all targets held at step {point['step']}", points)
        if (stopped_by := stop(point)) is not None:
            return _ended("raced", str(getattr(stopped_by, "reason", stopped_by)), points, stopped_by)
    return _ended(trace.ending, f"{trace.reason} ({format_seconds(points[-1]['train_seconds'])})", points)


def _ended(outcome: Outcome, reason: str, points: Sequence[Point], stopped_by: Any = None) -> Played:
    last = points[-1]
    return Played(outcome, reason, points, last["wall_seconds"], last["train_seconds"], stopped_by)


def _point_before(point: Point, seconds: float, before: Point | None) -> Point:
    """Return the last evaluation of a run whose limit comes so many seconds before a point; it is off the grid."""
    step_seconds = point["train_seconds"] / point["step"]
    least = before["step"] if before else 0
    step = max(least, point["step"] - math.ceil(seconds / step_seconds))
    share = (step - least) / (point["step"] - least)
    known = before or {**point, "step": 0, "train_seconds": 0.0, "tokens": 0}
    mixed = {name: known[name] + share * (value - known[name]) for name, value in point.items()}
    shift = (point["step"] - step) * step_seconds
    clocks = {name: point[name] - shift for name in ("train_seconds", "wall_seconds")}
    return {**mixed, **clocks, "step": step, "tokens": round(mixed["tokens"])}


def evaluated_steps(seconds_per_step: float, last_step: float, limit_seconds: float, clock: ClockName) -> Floats:
    """Return the steps at which the grid asks for an evaluation, and the last one, shape (N,).

    The first step end at or after each reading of the grid, up to the first one behind the limit.
    """
    ratio = GRID_RATIO[clock]
    num_readings = max(1, math.ceil(math.log(max(limit_seconds / GRID_START_SECONDS, 1.0)) / math.log(ratio)) + 1)
    readings = np.cumprod(np.append(GRID_START_SECONDS, np.full(num_readings - 1, ratio)))
    steps = np.ceil(readings / seconds_per_step)
    steps -= (steps - 1) * seconds_per_step >= readings  # the division may be off by a rounding
    steps += steps * seconds_per_step < readings
    steps = np.unique(np.maximum(1.0, steps))
    return steps if steps[-1] < last_step else np.append(steps[steps < last_step], last_step)
