"""Figures that tell what bounds a step: what it is made of, and what the machine could do at best.

Times come of one step under torch's profiler, which is not one of the measured ones.
"""

import os

import torch

from hotlap.train.loop import StepTimer
from hotlap.train.machine_speed import all_reduce_seconds, copy_bytes_per_second, operation_seconds
from hotlap.train.measure import measured_loop
from hotlap.train.parts import Parts
from hotlap.train.profiled_events import composition
from hotlap.train.profiler import read_events, watch


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
    """Return what one step is made of."""
    steps = measured_loop(parts, StepTimer())
    next(steps)
    with watch(parts.device) as profiler:
        next(steps)
    events, _ = read_events(profiler)
    return composition(events, parts.device.type)
