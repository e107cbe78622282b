"""The PyTorch profiler: how steps are watched, and its events without those that only surround others.

with watch(parts.device) as profiler:
    next(steps)
events, regions = read_events(profiler)
"""

import re
from typing import Final

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from hotlap.train.profiled_events import Event, Region

_PREFIX: Final = "hotlap."
"""Of the names by which a trace shows the parts of a step."""
_WRAPPER: Final = re.compile(r"autograd::engine::|ProfilerStep|Optimizer\.|(?!Compiled)_?[A-Z][A-Za-z]*\d*$")
"""Names of what surrounds operators and does no work of its own: the engine, a node of the graph such as MulBackward0,
a function of Python's in it."""


def watch(device: torch.device, *, with_memory: bool = False) -> profile:
    """Return a profiler of what the host, and a GPU, do while it is entered."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    return profile(activities=activities, profile_memory=with_memory)


def region_mark(part: str) -> record_function:
    """Return what marks a part of a step for the profiler while it is entered."""
    return record_function(_PREFIX + part)


def read_events(profiler: profile) -> tuple[list[Event], list[Region]]:
    """Return the profiler's events without those that only surround others, and the marked parts of the steps."""
    events, regions = [], []
    for one in profiler.events() or ():
        on_device = one.device_type != DeviceType.CPU
        start, end = one.time_range.start, one.time_range.end
        if one.name.startswith(_PREFIX):
            if not on_device:
                regions.append(Region(one.name.removeprefix(_PREFIX), start, end))
            continue
        # On a GPU a range that somebody named, such as a compiled graph, spans kernels that are there themselves.
        if one.is_user_annotation or (not on_device and _surrounds(one)):
            continue
        events.append(
            Event(
                name=one.name,
                start=start,
                end=end,
                self_micros=end - start if on_device else one.self_cpu_time_total,
                num_bytes=_bytes_of(one),
                on_device=on_device,
                is_outermost=not on_device and (one.cpu_parent is None or _surrounds(one.cpu_parent)),
            )
        )
    return events, regions


def _surrounds(event: FunctionEvent) -> bool:
    """Say whether an event is a range that somebody named, or the engine around an operator."""
    name = event.name
    return bool(event.is_user_annotation) or name.startswith(_PREFIX) or _WRAPPER.match(name) is not None


def _bytes_of(event: FunctionEvent) -> int:
    """Return what an operator, with those that it called, took of the memory of the device that it works for."""
    return int(event.device_memory_usage or event.cpu_memory_usage)
