"""Learning-rate schedules as pure functions of numbers, with the values of Hugging Face's schedules.

Each returns the factor for the peak learning rate before the update number `step` (from 0), so with warm-up the
first update has factor 0, as in transformers.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final


def warmup_factor(step: int, warmup_steps: int) -> float | None:
    """Return the rising factor during warm-up, None afterwards."""
    return step / max(1, warmup_steps) if step < warmup_steps else None


def linear(step: int, warmup_steps: int, max_steps: int) -> float:
    """Fall in a straight line to 0 at `max_steps`."""
    return max(0.0, (max_steps - step) / max(1, max_steps - warmup_steps))


def cosine(step: int, warmup_steps: int, max_steps: int, num_cycles: float = 0.5) -> float:
    """Fall along a cosine to 0 at `max_steps`."""
    progress = (step - warmup_steps) / max(1, max_steps - warmup_steps)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * num_cycles * 2.0 * progress)))


def constant(step: int, warmup_steps: int, max_steps: int) -> float:
    """Stay at the peak."""
    return 1.0


def warmup_stable_decay(
    step: int,
    warmup_steps: int,
    max_steps: int,
    num_decay_steps: int,
    decay_type: str = "cosine",
    min_lr_ratio: float = 0.0,
    num_cycles: float = 0.5,
) -> float:
    """Stay at the peak, then decay over the last `num_decay_steps` (linear, cosine or 1-sqrt)."""
    decay_start = max_steps - num_decay_steps
    if step < decay_start:
        return 1.0
    if step >= max_steps:
        return min_lr_ratio
    progress = (step - decay_start) / max(1, num_decay_steps)
    shapes = {
        "linear": 1.0 - progress,
        "cosine": max(0.0, 0.5 * (1.0 + math.cos(math.pi * num_cycles * 2.0 * progress))),
        "1-sqrt": 1.0 - math.sqrt(progress),
    }
    return shapes[decay_type] * (1.0 - min_lr_ratio) + min_lr_ratio


SCHEDULES: Final[Mapping[str, Callable[..., float]]] = {
    "linear": linear,
    "cosine": cosine,
    "constant": constant,
    "constant_with_warmup": constant,
    "warmup_stable_decay": warmup_stable_decay,
}


def learning_rate_factor(
    name: str, step: int, warmup_steps: int, max_steps: int, kwargs: Mapping[str, Any] | None = None
) -> float:
    """Return the factor for the peak learning rate at update `step` of the schedule `name`."""
    arguments = dict(kwargs or {})
    if name != "constant":
        rising = warmup_factor(step, warmup_steps)
        if rising is not None:
            floor = float(arguments.get("min_lr_ratio", 0.0))  # transformers scales this warm-up by the floor too
            return rising * (1.0 - floor) + floor
    return SCHEDULES[name](step, warmup_steps, max_steps, **arguments)
