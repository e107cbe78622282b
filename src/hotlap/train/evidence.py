"""Figures that tell what bounds a step: what it is made of, and what the machine could do at best.

Times come of steps under torch's profiler, which are none of the measured ones.
"""

import os
from collections.abc import Iterator
from typing import Final

import torch

from hotlap.train.distributed import any_rank
from hotlap.train.loop import Step
from hotlap.train.machine_speed import all_reduce_seconds, copy_bytes_per_second, operation_seconds
from hotlap.train.measure import measured_loop
from hotlap.train.parts import Parts
from hotlap.train.profiled_events import Event, Region, composition, long_gaps
from hotlap.train.profiler import read_events, watch
from hotlap.train.profiling import RegionTimer

_CONFIRMING: Final = 3


def step_evidence(parts: Parts) -> dict[str, float]:
    """Return figures for the verdict on what bounds the step; all processes have to call it.

    Of the step: the figures of `composition`, and `num_workers` that make its data. Of the machine:
    `operation_seconds` (one on next to nothing), `copy_bytes_per_second`, `all_reduce_seconds` (the gradients, with
    several devices), `load_average`, `reserved_memory_bytes` (on a GPU, at most). Of the model: `parameter_bytes`,
    `gradient_bytes`.
    """
    found = _profiled_step(parts)
    trained = sum(parameter.numel() for parameter in parts.parameters)
    found["operation_seconds"] = operation_seconds(parts.device)
    found["copy_bytes_per_second"] = copy_bytes_per_second(parts.device)
    found["parameter_bytes"] = float(sum(p.numel() * p.element_size() for p in parts.model.parameters()))
    found["gradient_bytes"] = float(sum(p.numel() * p.element_size() for p in parts.parameters))
    if parts.world.size > 1:
        found["all_reduce_seconds"] = all_reduce_seconds(parts.world, trained)
    if parts.device.type == "cuda":
        found["reserved_memory_bytes"] = float(torch.cuda.max_memory_reserved(parts.device))
    found["num_workers"] = float(parts.config.training.dataloader_num_workers)
    found["load_average"] = os.getloadavg()[0]
    return found


def _profiled_step(parts: Parts) -> dict[str, float]:
    """Return what one step is made of; a gap in it counts where the median of further steps has one, too."""
    timer = RegionTimer(parts.accumulation_steps)
    steps = measured_loop(parts, timer)
    next(steps)
    timer.marks = True
    events, regions = _watched(parts, steps, 1)
    found = composition(events, parts.device.type, regions)
    if any_rank(parts.world, found["long_gap_seconds"] > 0.0):  # a pause of the machine, or one of every step
        found |= long_gaps(*_watched(parts, steps, _CONFIRMING))
    return found


def _watched(parts: Parts, steps: Iterator[Step], count: int) -> tuple[list[Event], list[Region]]:
    """Take steps under the profiler; return what happened."""
    with watch(parts.device) as profiler:
        for _ in range(count):
            next(steps)
    return read_events(profiler)
