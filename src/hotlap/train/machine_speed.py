"""How fast this process can compute, copy and start operations: what the speed of a training is held against."""

import time
from collections.abc import Callable
from typing import Final

import torch
import torch.distributed as dist

from hotlap.core.gpu_peaks import NumberFormat
from hotlap.core.processes import processor_name
from hotlap.train.distributed import World
from hotlap.train.parts import Parts

MATMUL_SIZE: Final = 2048
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
    """Return the FLOP/s of a 2048 × 2048 × 2048 matrix product, the best of some."""
    dtype = torch.bfloat16 if kind == "bf16" else torch.float32
    one, other = (torch.randn(MATMUL_SIZE, MATMUL_SIZE, dtype=dtype, device=device) for _ in range(2))
    return 2 * MATMUL_SIZE**3 / _best_seconds(device, lambda: torch.mm(one, other))


def copy_bytes_per_second(device: torch.device) -> float:
    """Return the bytes read and written per second by a copy that no cache holds."""
    source = torch.ones(_COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * _COPIED_BYTES / _best_seconds(device, lambda: target.copy_(source))


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
    """Return the least seconds of some repeats; those that all processes take together are always as many."""
    best, start = float("inf"), time.perf_counter()
    for repeat in range(1 + (10 if is_bounded else _LEAST_REPEATS)):
        before = _now(device)
        work()
        seconds = _now(device) - before
        if repeat:  # the first one sets up
            best = min(best, seconds)
        if is_bounded and repeat >= _LEAST_REPEATS and time.perf_counter() - start > _MOST_SECONDS:
            break
    return best


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
