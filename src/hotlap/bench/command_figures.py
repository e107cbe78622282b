"""Step times from what a command of the user's own told: the lines that name a step, and when they came.

Between two lines that name different steps the steps between them were taken. A line that evaluates stands for a pause:
the time up to it is not the steps'.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from hotlap.config.knob_ranges import role_of

Point = Mapping[str, Any]
_OWN_RATE: Final = ("train_steps_per_second", "steps_per_second", "it_per_second")
_SAMPLE_RATE: Final = ("train_samples_per_second", "samples_per_second", "examples_per_second")
_TOKEN_RATE: Final = ("train_tokens_per_second", "tokens_per_second", "tok_per_sec", "tokens_per_sec")
_USED: Final = 1.2
"""A GPU of which so many times as much is held as at the start is one that the command uses."""
_BATCH: Final = "per_device_train_batch_size"
_ACCUMULATION: Final = "gradient_accumulation_steps"


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


def told_rate(metrics: Mapping[str, float]) -> float | None:
    """Return the seconds of a step by a rate that the command told at its end, None where it told none."""
    rate = _first(metrics, _OWN_RATE)
    return 1 / rate if rate else None


def samples_of(metrics: Mapping[str, float], params: Mapping[str, Any], devices: int, step_seconds: float) -> float:
    """Return the examples of a step: by the rates that the command tells, else by its knobs; 0 where nobody knows."""
    samples, steps = _first(metrics, _SAMPLE_RATE), _first(metrics, _OWN_RATE)
    if samples and steps:
        return samples / steps
    roles = {role_of(name): value for name, value in params.items()}
    rows = roles.get(_BATCH)
    if isinstance(rows, int) and not isinstance(rows, bool):
        passes = roles.get(_ACCUMULATION)
        return float(rows * (passes if isinstance(passes, int) and passes > 0 else 1) * devices)
    return samples * step_seconds if samples else 0.0


def tokens_of(metrics: Mapping[str, float], told: CommandSteps, step_seconds: float) -> float:
    """Return the tokens of a step: those that it counts, else by a rate that it tells; 0 where nobody knows."""
    if told.tokens_per_step:
        return told.tokens_per_step
    rate = _first(metrics, _TOKEN_RATE)
    return rate * step_seconds if rate else 0.0


def peak_memory(samples: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the most memory in the samples of a run: of a GPU where one is used, else of its processes."""
    gpus = [max(sample["gpu_memory_bytes"]) for sample in samples if sample.get("gpu_memory_bytes")]
    if gpus and max(gpus) > _USED * gpus[0]:  # the first sample is from before it has put anything there
        return int(max(gpus))
    held = [sample["memory_bytes"] for sample in samples if sample.get("memory_bytes")]
    return int(max(held)) if held else None


def _first(metrics: Mapping[str, float], names: Sequence[str]) -> float | None:
    return next((float(metrics[name]) for name in names if metrics.get(name)), None)
