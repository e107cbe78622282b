"""What a step of a command of the user's own is made of, by what it told and by its knobs: examples, tokens, memory."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from hotlap.bench.setting_names import Role, role_of
from hotlap.config.knob_ranges import is_total_batch, plain_name
from hotlap.config.knob_ranges import role_of as hugging_face_name
from hotlap.runs.command_steps import OWN_RATES, CommandSteps, first_of

_SAMPLE_RATE: Final = ("train_samples_per_second", "samples_per_second", "examples_per_second")
_TOKEN_RATE: Final = ("train_tokens_per_second", "tokens_per_second", "tok_per_sec", "tokens_per_sec")
_USED: Final = 1.2
"""A GPU of which so many times as much is held as at the start is one that the command uses."""
_ACCUMULATION: Final = "gradient_accumulation_steps"
_MOST_PASSES: Final = 256
"""Passes of a step beyond which a total batch counts tokens, not rows."""


class Samples(NamedTuple):
    """The examples of a step."""

    per_step: float
    """On all devices together; 0 where nobody knows."""
    how: str
    """How they were counted, or why they were not; empty where there is nothing to count by."""


def samples_of(metrics: Mapping[str, float], params: Mapping[str, Any], devices: int, step_seconds: float) -> Samples:
    """Return the examples of a step: by the rates that the command tells, else by its knobs.

    A knob for the batch of a whole step counts before rows per device: those only say in how many passes it is taken.
    """
    samples, steps = first_of(metrics, _SAMPLE_RATE), first_of(metrics, OWN_RATES)
    if samples and steps:
        return Samples(samples / steps, "the samples and steps per second that the command tells")
    if total := next((name for name in params if is_total_batch(name) and _count(params[name])), None):
        return _of_total(total, params, devices)
    rows = _knob(params, "batch")
    if rows is not None:
        passes = [name for name in params if hugging_face_name(name) == _ACCUMULATION and _count(params[name])][:1]
        named = [rows, *passes]
        return Samples(
            float(math.prod(_count(params[name]) for name in named) * devices),
            f"the knob{'s' if passes else ''} {' × '.join(named)}, × devices",
        )
    if samples:
        return Samples(samples * step_seconds, "the samples per second that the command tells")
    return Samples(0.0, "")


def _of_total(total: str, params: Mapping[str, Any], devices: int) -> Samples:
    """Return the examples of a step whose batch is one knob, which may count rows or tokens."""
    value, length, rows = _count(params[total]), _number(params, "length"), _number(params, "batch")
    whole = f"the knob {total}, the batch of a whole step"
    if "token" in plain_name(total):
        return Samples(value / length, f"{whole}, in rows of the longest length") if length else Samples(0.0, "")
    a_pass = (rows or 1) * devices
    is_doubtful = value >= a_pass * min(length or _MOST_PASSES + 1, _MOST_PASSES + 1)
    if is_doubtful and plain_name(total).startswith("total"):
        return Samples(
            0.0, f"not known: {total} may count tokens or rows; as every step has as many, steps are compared"
        )
    return Samples(float(value), whole)


def tokens_of(metrics: Mapping[str, float], told: CommandSteps, step_seconds: float) -> float:
    """Return the tokens of a step: those that it counts, else by a rate that it tells; 0 where nobody knows."""
    if told.tokens_per_step:
        return told.tokens_per_step
    rate = first_of(metrics, _TOKEN_RATE)
    return rate * step_seconds if rate else 0.0


def _knob(params: Mapping[str, Any], role: Role) -> str | None:
    """Return the first knob of a role that is a whole number above 0."""
    return next((name for name, value in params.items() if role_of(name) == role and _count(value)), None)


def _number(params: Mapping[str, Any], role: Role) -> int:
    knob = _knob(params, role)
    return 0 if knob is None else _count(params[knob])


def _count(value: Any) -> int:
    """Return a whole number above 0; 0 for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def peak_memory(samples: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the most memory in the samples of a run: of a GPU where one is used, else of its processes."""
    gpus = [max(sample["gpu_memory_bytes"]) for sample in samples if sample.get("gpu_memory_bytes")]
    if gpus and max(gpus) > _USED * gpus[0]:  # the first sample is from before it has put anything there
        return int(max(gpus))
    held = [sample["memory_bytes"] for sample in samples if sample.get("memory_bytes")]
    return int(max(held)) if held else None
