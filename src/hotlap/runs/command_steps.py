"""Step times from what a command of the user's own told: the lines that name a step, and when they came.

Between two lines that name different steps the steps between them were taken. A line that evaluates stands for a pause:
the time up to it is not the steps'.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from hotlap.core.bench_records import median

Point = Mapping[str, Any]
WARMUP_STEPS: Final = 3
"""First steps that are left out: they are slow for reasons of their own."""
OWN_RATES: Final = ("train_steps_per_second", "steps_per_second", "it_per_second")
"""What commands call the steps of a second."""


@dataclass(frozen=True, slots=True)
class CommandSteps:
    """What the lines of a command say of its steps."""

    step_seconds: tuple[float, ...]
    """Mean seconds of the steps between two lines, for each such pair after the warm-up."""
    num_steps: int = 0
    """Steps that those stand for."""
    seconds: float = 0.0
    """Seconds that those stand for."""
    startup_seconds: float = 0.0
    """Until the first line that names a step."""
    warmup_seconds: float = 0.0
    tokens_per_step: float = 0.0


def steps_of(points: Sequence[Point], warmup_steps: int, *, has_own_clock: bool) -> CommandSteps:
    """Return what the points of a run tell of its steps, those of the warm-up left out.

    The command's own clock is used where it has one, else the arrival of its lines. A step that was counted for want of
    a told one says how many lines came, not how many steps were taken: such points are left out.
    """
    clock = "train_seconds" if has_own_clock else "wall_seconds"
    by_step: dict[int, list[Point]] = {}
    for point in points:
        if not point.get("is_step_counted"):
            by_step.setdefault(int(point["step"]), []).append(point)
    steps = sorted(by_step)
    if not steps:
        return CommandSteps(())
    warm = [step for step in steps if step >= warmup_steps]
    first = float(by_step[steps[0]][0]["wall_seconds"])
    begun = by_step[warm[0]] if warm else by_step[steps[-1]]
    taken, num_steps, seconds = [], 0, 0.0
    for before, after in pairwise(warm):
        elapsed = float(by_step[after][0][clock]) - float(by_step[before][-1][clock])
        if elapsed > 0:
            taken.append(elapsed / (after - before))
            num_steps, seconds = num_steps + after - before, seconds + elapsed
    told = [(int(each[0]["step"]), float(each[0].get("tokens") or 0)) for each in map(by_step.__getitem__, warm)]
    span = told[-1][0] - told[0][0] if told else 0
    return CommandSteps(
        step_seconds=tuple(taken),
        num_steps=num_steps,
        seconds=seconds,
        startup_seconds=first,
        warmup_seconds=float(begun[-1]["wall_seconds"]) - first,
        tokens_per_step=max(0.0, (told[-1][1] - told[0][1]) / span) if span else 0.0,
    )


def step_seconds_of(points: Sequence[Point], capture: Mapping[str, Any], metrics: Mapping[str, float]) -> float | None:
    """Return the median seconds of a step of a run, without its start-up; None where it did not tell.

    `capture` is what result.json says of how the points were read.
    """
    has_own_clock = capture.get("clock") == "own"
    keys = ("step", "wall_seconds", "train_seconds")
    whole = [point for point in points if all(isinstance(point.get(key), int | float) for key in keys)]
    told = steps_of(whole, WARMUP_STEPS, has_own_clock=has_own_clock).step_seconds
    if told and (has_own_clock or not capture.get("is_buffered")):
        return median(told)
    return told_rate(metrics)


def has_told_steps(points: Sequence[Point]) -> bool:
    """Say whether the lines of a run named its steps: else what it counted are lines."""
    return any("step" in point and not point.get("is_step_counted") for point in points)


def told_rate(metrics: Mapping[str, float]) -> float | None:
    """Return the seconds of a step by a rate that the command told at its end, None where it told none."""
    rate = first_of(metrics, OWN_RATES)
    return 1 / rate if rate else None


def first_of(metrics: Mapping[str, float], names: Sequence[str]) -> float | None:
    """Return the first of some metrics that is there and not 0."""
    return next((float(metrics[name]) for name in names if metrics.get(name)), None)
