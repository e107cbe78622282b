"""Figures that tell what bounds a step: what it is made of, and what the machine could do at best.

Times come of one step under torch's profiler, which is not one of the measured ones.
"""

import os
from collections.abc import Iterable
from typing import Any, Final

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from hotlap.train.loop import StepTimer
from hotlap.train.machine_speed import all_reduce_seconds, copy_bytes_per_second, operation_seconds
from hotlap.train.measure import measured_loop
from hotlap.train.parts import Parts

SMALL_SECONDS: Final = 10e-6
"""What takes no longer costs about as much to be started as to be done."""
_PRODUCTS: Final = (
    "mm",
    "addmm",
    "bmm",
    "baddbmm",
    "addmv",
    "linear",
    "gemm",
    "attention",
    "cutlass",
    "flash",
    "mkldnn",
)
"""Names of operations and kernels that multiply matrices have one of these in them."""


def step_evidence(parts: Parts) -> dict[str, float]:
    """Return figures for the verdict on what bounds the step; all processes have to call it.

    Of the step: `num_operations` and `num_kernels`, `busy_seconds` (of a GPU's kernels, on a CPU of the operations
    themselves), `product_seconds` (matrix products among them), `small_ratio` (share of the kernels, on a CPU of the
    operations, below 10 µs). Of the machine: `operation_seconds` (one on next to nothing), `copy_bytes_per_second`,
    `all_reduce_seconds` (the gradients, with several devices), `load_average`. Of the model: `parameter_bytes`,
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
    found["load_average"] = os.getloadavg()[0]
    return found


def _profiled_step(parts: Parts) -> dict[str, float]:
    """Return what one step is made of."""
    steps = measured_loop(parts, StepTimer())
    next(steps)
    activities = [ProfilerActivity.CPU]
    if parts.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        next(steps)
    events = list(profiler.events() or ())
    operations = [event for event in events if event.device_type == DeviceType.CPU and event.name.startswith("aten::")]
    # A range that somebody named, such as a compiled graph, spans kernels that are there themselves.
    kernels = [event for event in events if event.device_type == DeviceType.CUDA and not event.is_user_annotation]
    if parts.device.type == "cuda":
        seconds = [(event.name, event.time_range.elapsed_us() / 1e6) for event in kernels]
    else:
        seconds = [(event.name, event.self_cpu_time_total / 1e6) for event in operations]
    return {
        "num_operations": float(len(operations)),
        "num_kernels": float(len(kernels)),
        "busy_seconds": sum(taken for _, taken in seconds),
        "product_seconds": sum(taken for name, taken in seconds if _is_product(name)),
        "small_ratio": _share(taken < SMALL_SECONDS for _, taken in seconds),
    }


def _is_product(name: str) -> bool:
    return any(word in name.lower() for word in _PRODUCTS)


def _share(flags: Iterable[Any]) -> float:
    listed = list(flags)
    return sum(map(bool, listed)) / len(listed) if listed else 0.0
