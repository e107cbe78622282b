"""The arguments of the learning-rate schedules and their bounds, checked before a training starts.

schedule_problems("step_down", {"at": 500, "to": 2}, learning_rate=3e-4)
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hotlap.core.errors import unknown_name


@dataclass(frozen=True, slots=True)
class Argument:
    """What an argument may be: a finite number within bounds, or one of a few names."""

    low: float = 0.0
    high: float = math.inf
    is_above_low: bool = False
    """Whether the lower bound itself is too low."""
    names: tuple[str, ...] = ()

    def allows(self, value: Any) -> bool:
        """Say whether a value can be used."""
        if self.names:
            return value in self.names
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        return (self.low < value if self.is_above_low else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        if self.names:
            *most, last = self.names
            return f"{', '.join(most)} or {last}"
        start = f"a number {'above' if self.is_above_low else 'from'} {self.low:g}"
        if math.isfinite(self.high):
            return f"{start} to {self.high:g}"
        return start if self.is_above_low else f"{start} up"


_LENGTH = Argument()
_CYCLES = Argument()
_POSITIVE = Argument(is_above_low=True)
_RATIO = Argument(high=1.0)
_SHAPE = Argument(names=("linear", "cosine", "1-sqrt"))
_FLOOR: Final[Mapping[str, Argument]] = {"num_cycles": _CYCLES, "min_lr": Argument(), "min_lr_rate": _RATIO}

SCHEDULE_BOUNDS: Final[Mapping[str, Mapping[str, Argument]]] = {
    "linear": {},
    "cosine": {"num_cycles": _CYCLES},
    "cosine_with_restarts": {"num_cycles": Argument(low=1.0)},
    "polynomial": {"lr_end": Argument(), "power": Argument()},
    "constant": {},
    "constant_with_warmup": {},
    "inverse_sqrt": {"timescale": Argument(low=1.0)},
    "cosine_with_min_lr": _FLOOR,
    "cosine_warmup_with_min_lr": {**_FLOOR, "warmup_lr_rate": _RATIO},
    "warmup_stable_decay": {
        "num_decay_steps": _LENGTH,
        "num_stable_steps": _LENGTH,
        "warmup_type": _SHAPE,
        "decay_type": _SHAPE,
        "min_lr_ratio": _RATIO,
        "num_cycles": _CYCLES,
    },
    "triangular": {"num_cycles": _POSITIVE, "min_lr_ratio": _RATIO},
    "step_down": {"at": _POSITIVE, "to": _RATIO, "smooth": _LENGTH},
}
"""What `lr_scheduler_kwargs` may hold, by schedule; the names and their meanings stand in `core/schedules.py`."""

REFUSED_SCHEDULES: Final[Mapping[str, str]] = {
    "reduce_lr_on_plateau": "it lowers the rate when an evaluation does not improve",
    "greedy": "it moves the rate with what the evaluations say",
}
"""Schedules of Hugging Face's that hotlap does not have, and what they do."""

_REQUIRED: Final[Mapping[str, str]] = {"warmup_stable_decay": "num_decay_steps", "step_down": "at"}


def check_schedule_name(name: Any) -> Any:
    """Return a schedule's name unchanged.

    Raises ValueError for one that depends on evaluations, and for one that nobody knows.
    """
    if not isinstance(name, str) or ":" in name or name in SCHEDULE_BOUNDS:
        return name
    does = REFUSED_SCHEDULES.get(name)
    if does is not None:
        raise ValueError(f"{name} is not supported: {does}, so runs could not be compared on a clock")
    raise ValueError(f"{unknown_name('schedule', name, SCHEDULE_BOUNDS)} Code of your own: module:function")


def schedule_problems(name: str, arguments: Mapping[str, Any], learning_rate: float) -> Iterator[str]:
    """Yield what is wrong with the arguments of a schedule; a project's own schedule checks its own."""
    bounds = SCHEDULE_BOUNDS.get(name)
    if bounds is None:
        return
    for key, value in arguments.items():
        if key not in bounds:
            yield f"lr_scheduler_kwargs: {name} takes {', '.join(bounds) or 'none'}, not {key}"
        elif not bounds[key].allows(value):
            yield f"lr_scheduler_kwargs: {key} is {bounds[key]}, got {value!r}"
    required = _REQUIRED.get(name)
    if required is not None and required not in arguments:
        yield f"{name} needs lr_scheduler_kwargs: {{{required}: N}}"
    if "min_lr_rate" in bounds and ("min_lr" in arguments) == ("min_lr_rate" in arguments):
        yield f"{name} needs exactly one of min_lr and min_lr_rate in lr_scheduler_kwargs"
    for key, default in (("min_lr", 0.0), ("lr_end", 1e-7)):
        floor = arguments.get(key, default)
        if key in bounds and isinstance(floor, int | float) and floor > learning_rate:
            yield f"lr_scheduler_kwargs: {key} {floor:g} is above learning_rate {learning_rate:g}"
