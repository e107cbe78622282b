"""How many rows a device takes at once: the fastest size that fits, or a smaller one when memory runs out.

The rows of an optimizer step stay the same throughout: what a device takes less at once, it takes more often.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn

from hotlap.core.errors import ConfigError
from hotlap.train.checkpoint import HasState, capture_rng, restore_rng

_FALLS_TO_STOP: Final = 2
_LIKE_LENGTHS: Final = 0.9  # mean over longest: the end of a text, or of each document, may be shorter
_SIGNS_OF_NO_MEMORY: Final = (
    "can't allocate memory",  # DefaultCPUAllocator
    "not enough memory",
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


@dataclass(frozen=True, slots=True)
class BatchSizeTrial:
    """What was measured at one size."""

    batch_size: int
    tokens_per_second: float
    peak_bytes: int | None
    """Of a GPU's memory."""


@dataclass(frozen=True, slots=True)
class BatchSizeChoice:
    """Rows per device in one forward pass, passes per optimizer step, and what that was chosen from."""

    batch_size: int
    accumulation_steps: int
    trials: tuple[BatchSizeTrial, ...]


def rows_per_step(total_tokens: int, longest: int, mean_length: float, world_size: int = 1) -> int:
    """Return the rows of an optimizer step of `total_batch_tokens`, in rows of `longest` tokens.

    Raises ConfigError where many rows are shorter, or where rows do not add up to just so many tokens on every device.
    """
    if mean_length < _LIKE_LENGTHS * longest:
        raise ConfigError(
            f"training.total_batch_tokens needs rows of one length, these have {mean_length:.0f} tokens on average and "
            f"{longest} at most; use total_batch_size (rows), or padding: packed"
        )
    step = longest * world_size
    if total_tokens % step or total_tokens < step:
        below = total_tokens // step * step
        near = " and ".join(f"{size:,}" for size in (below, below + step) if size)
        raise ConfigError(
            f"training.total_batch_tokens is {total_tokens:,}, expected a multiple of {longest:,} tokens a row times "
            f"{world_size} device(s); near it: {near}"
        )
    return total_tokens // longest


def accumulation_for(rows: int, batch_size: int, world_size: int = 1) -> int:
    """Return the passes in which devices that take `batch_size` rows at once get through the rows of a step.

    Raises ConfigError when they do not come out even.
    """
    if rows % (batch_size * world_size):
        raise ConfigError(
            f"training.total_batch_tokens comes to {rows} rows, which {world_size} device(s) with "
            f"per_device_train_batch_size {batch_size} do not take evenly; leave that out to have it chosen"
        )
    return rows // (batch_size * world_size)


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """What a size may need at most."""

    num_bytes: float
    device: str
    estimate: Callable[[int], int] | None = None
    """Bytes for so many rows, where nothing measures them."""

    def refuses(self, batch_size: int) -> bool:
        """Say whether a size need not be tried."""
        return self.estimate is not None and self.estimate(batch_size) > self.num_bytes

    def is_passed(self, trial: BatchSizeTrial) -> bool:
        """Say whether a size was measured to need more."""
        return trial.peak_bytes is not None and trial.peak_bytes > self.num_bytes


def find_batch_size(
    measure: Callable[[int], tuple[float, int | None]],
    total: int,
    world_size: int = 1,
    limit: MemoryLimit | None = None,
) -> BatchSizeChoice:
    """Return the fastest of the sizes 1, 2, 4, … that divide each device's share of `total` rows per step.

    `measure` takes a few optimizer steps with so many rows per device and returns tokens per second and the peak of
    a GPU's memory in bytes, the same on all devices, or raises an error of `is_out_of_memory`, likewise on all. Larger
    sizes are not tried once one does not fit or passes the limit, or throughput has fallen twice in a row. Raises
    ConfigError when `total` does not spread evenly over the devices or a single row passes the limit, and `measure`'s
    error when not even one row fits.
    """
    if total < 1 or total % world_size:
        raise ConfigError(
            f"training.total_batch_size is {total}, expected a positive multiple of the {world_size} device(s)"
        )
    share = total // world_size
    trials: list[BatchSizeTrial] = []
    num_falls = 0
    for size in _ladder(share):
        if limit is not None and trials and limit.refuses(size):
            break
        try:
            trial = BatchSizeTrial(size, *measure(size))
        except (RuntimeError, MemoryError) as error:
            if not trials or not is_out_of_memory(error):
                raise
            break
        if limit is not None and limit.is_passed(trial):
            if not trials:
                raise ConfigError(
                    f"one row needs {trial.peak_bytes:,} bytes, more than training.device_memory_ratio leaves of "
                    f"{limit.device} ({limit.num_bytes:,.0f}); raise the ratio or make rows or model smaller"
                )
            break
        falls = bool(trials) and trial.tokens_per_second < trials[-1].tokens_per_second
        num_falls = num_falls + 1 if falls else 0
        trials.append(trial)
        if num_falls == _FALLS_TO_STOP:
            break
    _forget_trials()
    best = max(trials, key=lambda trial: trial.tokens_per_second)
    return BatchSizeChoice(best.batch_size, share // best.batch_size, tuple(trials))


def _forget_trials() -> None:
    """Give back what the largest size left behind on a GPU, also in its peak."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _ladder(share: int) -> Iterator[int]:
    """Yield divisors of `share`, each the smallest that is at least twice the one before, up to itself."""
    size = 1
    while True:
        yield size
        if size == share:
            return
        size = next(n for n in range(2 * size, share + 1) if share % n == 0)


def smaller_batch(batch_size: int, accumulation_steps: int) -> tuple[int, int] | None:
    """Return half the rows taken twice as often, or the next that keeps their product; None for a single row."""
    total = batch_size * accumulation_steps
    smaller = next((n for n in range(batch_size // 2, 0, -1) if total % n == 0), None)
    return None if smaller is None else (smaller, total // smaller)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory could not be had: torch's, cuBLAS's, the CPU allocator's, Python's."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS_OF_NO_MEMORY)


@contextmanager
def unchanged(model: nn.Module, optimizers: HasState, device: torch.device) -> Iterator[None]:
    """Put weights, optimizer state, gradients and random generators back afterwards, bit by bit."""
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizers.state_dict())
    rng = capture_rng(device)
    try:
        yield
    finally:
        model.load_state_dict(weights)
        optimizers.load_state_dict(state)
        for parameter in model.parameters():
            parameter.grad = None
        restore_rng(rng, device)
