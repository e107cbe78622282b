"""What a step of a command of the user's own is made of, by what it told: examples, tokens, memory."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hotlap.config.knob_ranges import role_of
from hotlap.runs.command_steps import OWN_RATES, CommandSteps, first_of

_SAMPLE_RATE: Final = ("train_samples_per_second", "samples_per_second", "examples_per_second")
_TOKEN_RATE: Final = ("train_tokens_per_second", "tokens_per_second", "tok_per_sec", "tokens_per_sec")
_USED: Final = 1.2
"""A GPU of which so many times as much is held as at the start is one that the command uses."""
_BATCH: Final = "per_device_train_batch_size"
_ACCUMULATION: Final = "gradient_accumulation_steps"


def samples_of(metrics: Mapping[str, float], params: Mapping[str, Any], devices: int, step_seconds: float) -> float:
    """Return the examples of a step: by the rates that the command tells, else by its knobs; 0 where nobody knows."""
    samples, steps = first_of(metrics, _SAMPLE_RATE), first_of(metrics, OWN_RATES)
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
    rate = first_of(metrics, _TOKEN_RATE)
    return rate * step_seconds if rate else 0.0


def peak_memory(samples: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the most memory in the samples of a run: of a GPU where one is used, else of its processes."""
    gpus = [max(sample["gpu_memory_bytes"]) for sample in samples if sample.get("gpu_memory_bytes")]
    if gpus and max(gpus) > _USED * gpus[0]:  # the first sample is from before it has put anything there
        return int(max(gpus))
    held = [sample["memory_bytes"] for sample in samples if sample.get("memory_bytes")]
    return int(max(held)) if held else None
