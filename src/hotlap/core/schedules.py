"""Learning-rate schedules as pure functions of numbers, with the values of Hugging Face's schedules.

learning_rate_factor("cosine", position, warmup, horizon)

Position, warm-up and horizon are in one unit: optimizer steps, tokens, or seconds of a budget. In steps the factor is
the one for the update number `position` (from 0), so with a warm-up the first update has factor 0, as in transformers
(`optimization.py`). Tokens and seconds are continuous: there every decay reaches its end exactly at the horizon.
`triangular` and `step_down` are hotlap's own, and so is a length below 1: a fraction of the horizon.
"""

import math
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any, Final, NamedTuple


class Moment(NamedTuple):
    """Where a training stands in its schedule, in the schedule's unit."""

    position: float
    warmup: float
    horizon: float
    peak: float
    """The learning rate that a factor of 1 stands for."""
    stride: float
    """What one update adds to the position where that is fixed: 1 in steps, 0 in tokens and seconds."""

    @property
    def rising(self) -> float | None:
        """Share of the warm-up that is done, None after it."""
        return self.position / self.warmup if self.position < self.warmup else None

    @property
    def span(self) -> float:
        """What follows the warm-up; 1 where nothing does, as in transformers."""
        rest = self.horizon - self.warmup
        return rest if rest > 0 else 1.0

    @property
    def progress(self) -> float:
        """Share of the span that is done: 0 at the end of the warm-up, 1 at the horizon."""
        return (self.position - self.warmup) / self.span

    def length(self, value: float) -> float:
        """Return a length in the schedule's unit; below 1 it is a fraction of the horizon."""
        return value * self.horizon if 0 < value < 1 else value


def linear(now: Moment) -> float:
    """Fall in a straight line to 0 at the horizon."""
    return max(0.0, (now.horizon - now.position) / now.span)


def cosine(now: Moment, num_cycles: float = 0.5) -> float:
    """Fall along a cosine to 0 at the horizon."""
    return _wave(now.progress, num_cycles)


def cosine_with_restarts(now: Moment, num_cycles: float = 1) -> float:
    """Fall along a cosine `num_cycles` times, jumping back to the peak in between."""
    if now.progress >= 1:
        return 0.0
    return 0.5 * (1.0 + math.cos(math.pi * ((num_cycles * now.progress) % 1.0)))


def polynomial(now: Moment, lr_end: float = 1e-7, power: float = 1.0) -> float:
    """Fall to the learning rate `lr_end` at the horizon, along a power of what is left."""
    if now.position > now.horizon:
        return lr_end / now.peak
    return ((now.peak - lr_end) * math.pow(1.0 - now.progress, power) + lr_end) / now.peak


def constant(now: Moment) -> float:
    """Stay at the peak."""
    return 1.0


def inverse_sqrt(now: Moment, timescale: float | None = None) -> float:
    """Fall with the square root of the position; the timescale is the warm-up's length, 10000 without one."""
    scale = timescale or now.warmup or 10_000.0
    return 1.0 / math.sqrt((now.position + scale - now.warmup) / scale)


def cosine_with_min_lr(
    now: Moment, num_cycles: float = 0.5, min_lr: float | None = None, min_lr_rate: float | None = None
) -> float:
    """Fall along a cosine to a floor: the learning rate `min_lr`, or the share `min_lr_rate` of the peak."""
    return _above(_floor(now, min_lr, min_lr_rate), _wave(now.progress, num_cycles))


def cosine_warmup_with_min_lr(
    now: Moment,
    num_cycles: float = 0.5,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
    warmup_lr_rate: float | None = None,
) -> float:
    """Like `cosine_with_min_lr`, one step ahead: the first update is no longer 0, or is the share `warmup_lr_rate`."""
    floor = _floor(now, min_lr, min_lr_rate)
    if now.position >= now.warmup:
        return _above(floor, _wave((now.position - now.warmup + now.stride) / now.span, num_cycles))
    if warmup_lr_rate is None:
        return (now.position + now.stride) / now.warmup
    return _above(warmup_lr_rate, now.position / max(now.stride, now.warmup - now.stride))


def warmup_stable_decay(
    now: Moment,
    num_decay_steps: float,
    num_stable_steps: float | None = None,
    warmup_type: str = "linear",
    decay_type: str = "cosine",
    min_lr_ratio: float = 0.0,
    num_cycles: float = 0.5,
) -> float:
    """Rise from the floor, stay at the peak, then decay to the floor (linear, cosine or 1-sqrt).

    The decay ends at the horizon; with `num_stable_steps` it begins that long after the warm-up.
    """
    if now.rising is not None:
        return _above(min_lr_ratio, _RISES[warmup_type](now.rising))
    decay = now.length(num_decay_steps)
    end = now.horizon if num_stable_steps is None else now.warmup + now.length(num_stable_steps) + decay
    if now.position < end - decay:
        return 1.0
    if now.position >= end:
        return min_lr_ratio
    return _above(min_lr_ratio, _FALLS[decay_type]((now.position - end + decay) / decay, num_cycles))


def triangular(now: Moment, num_cycles: float = 1, min_lr_ratio: float = 0.0) -> float:
    """Rise to the peak and fall back to the floor `num_cycles` times; the rise is the warm-up."""
    phase = num_cycles * min(1.0, now.position / now.horizon) % 1.0
    return _above(min_lr_ratio, 1.0 - abs(2.0 * phase - 1.0))


def step_down(now: Moment, at: float, to: float = 0.1, smooth: float = 0.0) -> float:
    """Stay at the peak until `at`, then drop to the share `to` of it: at once, or along a cosine of length `smooth`."""
    passed, fall = now.position - now.length(at), now.length(smooth)
    if passed < 0:
        return 1.0
    return to if passed >= fall else _above(to, _wave(passed / fall, 0.5))


def _wave(progress: float, num_cycles: float) -> float:
    """Return a cosine from 1 that makes `num_cycles` turns while the progress goes from 0 to 1."""
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * num_cycles * 2.0 * progress)))


def _above(floor: float, factor: float) -> float:
    """Press a factor from 0 to 1 into the range from the floor to 1."""
    return factor * (1.0 - floor) + floor


def _floor(now: Moment, min_lr: float | None, min_lr_rate: float | None) -> float:
    if (min_lr is None) == (min_lr_rate is None):
        raise TypeError("the schedule needs either min_lr or min_lr_rate")
    return min_lr / now.peak if min_lr is not None else min_lr_rate or 0.0


_RISES: Final[Mapping[str, Callable[[float], float]]] = {
    "linear": lambda done: done,
    "cosine": lambda done: 0.5 * (1.0 - math.cos(math.pi * done)),
    "1-sqrt": lambda done: 1.0 - math.sqrt(max(0.0, 1.0 - done)),
}
_FALLS: Final[Mapping[str, Callable[[float, float], float]]] = {
    "linear": lambda done, num_cycles: 1.0 - done,
    "cosine": _wave,
    "1-sqrt": lambda done, num_cycles: 1.0 - math.sqrt(max(0.0, done)),
}

SCHEDULES: Final[Mapping[str, Callable[..., float]]] = {
    "linear": linear,
    "cosine": cosine,
    "cosine_with_restarts": cosine_with_restarts,
    "polynomial": polynomial,
    "constant": constant,
    "constant_with_warmup": constant,
    "inverse_sqrt": inverse_sqrt,
    "cosine_with_min_lr": cosine_with_min_lr,
    "cosine_warmup_with_min_lr": cosine_warmup_with_min_lr,
    "warmup_stable_decay": warmup_stable_decay,
    "triangular": triangular,
    "step_down": step_down,
}
"""Each follows a linear warm-up from 0, but for those in `_OWN_START`, which are the whole curve."""

_OWN_START: Final = frozenset({"constant", "cosine_warmup_with_min_lr", "warmup_stable_decay", "triangular"})

SCHEDULE_ARGUMENTS: Final[Mapping[str, tuple[str, ...]]] = {
    name: tuple(signature(function).parameters)[1:] for name, function in SCHEDULES.items()
}
"""The names that `lr_scheduler_kwargs` may have, by schedule."""


def learning_rate_factor(
    name: str,
    position: float,
    warmup: float,
    horizon: float,
    kwargs: Mapping[str, Any] | None = None,
    peak: float = 1.0,
    *,
    stride: float = 1.0,
) -> float:
    """Return the factor for the peak learning rate at a position of the schedule `name`.

    `peak` is the learning rate that the arguments `min_lr` and `lr_end` are compared with. `stride` is 1 where the
    position counts steps and 0 for tokens and seconds, which end at the horizon even when a last step overruns it.
    Raises KeyError for an unknown name and TypeError for arguments that the schedule does not take.
    """
    follow = SCHEDULES[name]
    now = Moment(position if stride else min(position, horizon), warmup, horizon, peak, stride)
    if now.rising is not None and name not in _OWN_START:
        return now.rising
    return follow(now, **(kwargs or {}))
