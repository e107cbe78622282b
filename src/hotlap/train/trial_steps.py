"""Steps before the training: to measure a batch size, and to compile. What they teach is forgotten, bit by bit."""

import time
from typing import Final

import numpy as np
import torch

from hotlap.data.loader import AnyBatch, BatchSource
from hotlap.data.word_batches import WordBatch
from hotlap.train.batch_size import is_out_of_memory, unchanged
from hotlap.train.distributed import any_rank, sum_over_ranks, syncing
from hotlap.train.parts import Parts

_COMPILED_BATCHES: Final = 3  # what is compiled takes any shape after some different ones
_BATCHES_LOOKED_AT: Final = 50


def probe(parts: Parts, source: BatchSource, passes: int) -> tuple[float, int | None]:
    """Return tokens per second and a GPU's peak memory in bytes of two optimizer steps of so many passes each.

    The first step sets the optimizer's state up, the second is timed. All devices get the same numbers, and all run
    out of memory when one does.
    """
    world = parts.world
    seconds, tokens, failure = 1.0, 0, None
    if world.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(world.device)
    try:
        with unchanged(parts.model, parts.optimizers, world.device):
            try:  # without sharing gradients, so that nobody waits for a device that has no memory
                _timed_step(parts, source, 0, passes, shares=False)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                failure = error
            if any_rank(world, failure is not None):
                raise failure or torch.OutOfMemoryError("another device has no memory for so many rows")
            for number in range(1, _COMPILED_BATCHES if parts.config.training.torch_compile else 2):
                seconds, tokens = _timed_step(parts, source, number * passes, passes, shares=True)
    finally:
        source.close()
    peak = torch.cuda.max_memory_allocated(world.device) if world.device.type == "cuda" else 0
    sums = sum_over_ranks(world, torch.tensor([tokens, seconds, peak], dtype=torch.float64)).tolist()
    return sums[0] / (sums[1] / world.size), int(sums[2] / world.size) or None


def _timed_step(parts: Parts, source: BatchSource, first: int, count: int, *, shares: bool) -> tuple[float, int]:
    """Take one optimizer step of so many micro-batches; return its seconds and tokens on this device."""
    parts.synchronize()
    start = time.perf_counter()
    batches, num_targets = source.micro_batches(first, count)
    for place, batch in enumerate(batches):
        with syncing(parts.objective, is_last=shares and place == len(batches) - 1):
            (parts.loss(batch) / num_targets).backward()  # type: ignore[no-untyped-call]
    parts.optimizers.step()
    parts.optimizers.zero_grad()
    parts.synchronize()
    return time.perf_counter() - start, sum(batch.num_tokens for batch in batches)


def warm_up(parts: Parts) -> None:
    """Compile, so that compiling is set-up and not training: once, for all shapes that the batches will have."""
    batches = [parts.source.micro_batches(number, 1) for number in range(_BATCHES_LOOKED_AT)]
    here = [(batch.to(parts.device), num_targets) for (batch,), num_targets in batches]
    # The first one is what is compiled for; the narrowest and the widest show whether it holds.
    by_width = sorted(here, key=lambda item: _width(item[0]))
    with unchanged(parts.model, parts.optimizers, parts.device):
        for batch, num_targets in (here[0], by_width[0], by_width[-1]):
            _mark_what_varies(parts, batch)
            (parts.loss(batch) / num_targets).backward()  # type: ignore[no-untyped-call]
            parts.optimizers.zero_grad()
        parts.synchronize()


def _width(batch: AnyBatch) -> tuple[int, int]:
    if isinstance(batch, WordBatch):
        return batch.word_at.shape[1], batch.num_targets
    return batch.input_ids.shape[1], len(batch.targets)


def _mark_what_varies(parts: Parts, batch: AnyBatch) -> None:
    """Tell the compiler which sizes will differ, also where the first batches are all alike."""
    if isinstance(batch, WordBatch):
        return  # nearly all do
    if parts.source.row_length is None and np.ptp(parts.train.lengths):
        torch._dynamo.maybe_mark_dynamic(batch.input_ids, 1)
    if batch.document_ids is not None or np.ptp(parts.train.num_targets):
        torch._dynamo.maybe_mark_dynamic(batch.target_positions, 0)
        torch._dynamo.maybe_mark_dynamic(batch.targets, 0)
