"""How fast this process can compute, copy and start operations: what the speed of a training is held against."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Final

import torch
import torch.distributed as dist

from hotlap.core.gpu_peaks import NumberFormat
from hotlap.core.processes import processor_name
from hotlap.train.distributed import World
from hotlap.train.parts import Parts

_MATMUL_SIZES: Final[Mapping[str, tuple[int, ...]]] = {"cpu": (2048,), "cuda": (8192, 4096, 2048)}
"""Rows of square products by device. A GPU does the smallest in some 20 µs, so it needs larger ones to be filled."""
_TIMED_SECONDS: Final = 0.02
"""Between two looks at a GPU's clock: long against starting the work and waiting for its end."""
_LEAST_TO_FILL: Final = 4096
_COPIED_BYTES: Final = 2**26
"""Larger than the caches of most processors."""
_TINY_OPERATIONS: Final = 1000
_LEAST_REPEATS: Final = 3
_MOST_SECONDS: Final = 1.0


def hardware_name(device: torch.device) -> str:
    """Return what a device is called by those who made it: `NVIDIA H100 80GB HBM3`, on a CPU the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()


def number_format(parts: Parts) -> NumberFormat:
    """Return the format that a training multiplies matrices in."""
    training = parts.config.training
    weights = next(iter(parts.model.parameters())).dtype
    if training.bf16 or weights == torch.bfloat16:
        return "bf16"
    is_tf32 = parts.device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32
    return "tf32" if is_tf32 else "fp32"


def matmul_flops(device: torch.device, kind: NumberFormat) -> float:
    """Return the FLOP/s of a square matrix product: 2048 rows on a CPU; on a GPU 8192 or 4096, whichever is faster.

    Where a GPU has no room left for these, 2048 rows have to do.
    """
    best = 0.0
    for size in _MATMUL_SIZES[device.type]:
        if best and size < _LEAST_TO_FILL:
            break
        try:
            best = max(best, _matmul_flops(device, kind, size))
        except torch.OutOfMemoryError:  # the training holds the rest
            torch.cuda.empty_cache()
            if size == _MATMUL_SIZES[device.type][-1]:
                raise
    return best


def _matmul_flops(device: torch.device, kind: NumberFormat, size: int) -> float:
    dtype = torch.bfloat16 if kind == "bf16" else torch.float32
    one, other = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    return 2 * size**3 / _best_seconds(device, lambda: torch.mm(one, other))


def copy_bytes_per_second(device: torch.device) -> float:
    """Return the bytes read and written per second by a copy that no cache holds."""
    source = torch.ones(_COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * len(source) / _best_seconds(device, lambda: target.copy_(source))


def operation_seconds(device: torch.device) -> float:
    """Return what an operation on next to nothing takes: the price of starting one."""
    number = torch.zeros(1, device=device)

    def many() -> None:
        for _ in range(_TINY_OPERATIONS):
            number.add_(1.0)

    return _best_seconds(device, many) / _TINY_OPERATIONS


def all_reduce_seconds(world: World, num_elements: int) -> float:
    """Return what it takes to share so many fp32 numbers among all processes; each of them has to call it."""
    shared = torch.zeros(num_elements, device=world.device)
    return _best_seconds(world.device, lambda: dist.all_reduce(shared), is_bounded=False)


def _best_seconds(device: torch.device, work: Callable[[], object], *, is_bounded: bool = True) -> float:
    """Return the least seconds of some repeats; those that all processes take together are always as many.

    On a GPU a repeat does the work many times, so that starting it and waiting for it hardly count.
    """
    best, start = float("inf"), time.perf_counter()
    times = 1
    for repeat in range(1 + (10 if is_bounded else _LEAST_REPEATS)):
        before = _now(device)
        for _ in range(times):
            work()
        seconds = (_now(device) - before) / times
        if repeat:  # the first one sets up
            best = min(best, seconds)
        if repeat == 1 and is_bounded and device.type == "cuda":
            times = max(1, math.ceil(_TIMED_SECONDS / max(seconds, 1e-9)))
        if is_bounded and repeat >= _LEAST_REPEATS and time.perf_counter() - start > _MOST_SECONDS:
            break
    return best


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
