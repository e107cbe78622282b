"""Benches of a machine that is a formula: what its cells measured is known beforehand."""

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hotlap.core.bench_records import CellRepeat

BATCH = "training.per_device_train_batch_size"
LENGTH = "task.block_size"
BF16 = "training.bf16"
COMPILE = "training.torch_compile"
WORKERS = "training.dataloader_num_workers"

Machine = Callable[[Mapping[str, Any]], float]
"""Seconds per step of some settings."""


def roofline(settings: Mapping[str, Any]) -> float:
    """A step of 5 ms for its launches and 10 µs a token, faster in bf16; attention grows with the length."""
    batch, length = settings.get(BATCH, 8), settings.get(LENGTH, 128)
    overhead = 0.002 if settings.get(COMPILE) else 0.005
    work = 1e-5 * batch * length * (1 + length / 2048)
    return overhead + work / (2.5 if settings.get(BF16) else 1.0)


def grid(axes: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of the axes' values."""
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def measure(
    axes: Mapping[str, Sequence[Any]],
    machine: Machine = roofline,
    *,
    repeats: int = 3,
    noise: float = 0.01,
    seed: int = 0,
    **more: Any,
) -> list[CellRepeat]:
    """Measure a grid in turns; `more` are further fields of every repeat."""
    chance = random.Random(seed)
    lines = []
    for repeat in range(repeats):
        for cell, settings in enumerate(grid(axes)):
            batch, length = settings.get(BATCH, 8), settings.get(LENGTH, 128)
            level = machine(settings) * chance.lognormvariate(0, noise)
            facts: dict[str, Any] = {
                "step_seconds": tuple(level * chance.lognormvariate(0, noise) for _ in range(9)),
                "samples_per_step": batch,
                "tokens_per_step": batch * length,
                "slots_per_step": batch * length,
                "device": "a formula",
            }
            lines.append(CellRepeat(cell, repeat, settings, "measured", **{**facts, **more}))
    return lines
