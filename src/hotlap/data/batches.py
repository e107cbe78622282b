"""Batches as tensors: what goes through the model in one forward pass."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hotlap.data.arrays import BatchArrays, PackedRows, PlainRows, arrange


@dataclass(frozen=True, slots=True)
class Batch:
    """One forward pass. Shapes: B rows, T positions, N targets."""

    input_ids: Tensor
    """(B, T) int64, padded on the right; causal attention never looks at the padding."""
    target_positions: Tensor
    """(N,) int64 positions in the flattened (B·T) whose next token is a target."""
    targets: Tensor
    """(N,) int64."""
    num_tokens: int
    """Tokens that are not padding."""
    document_ids: Tensor | None = None
    """(B, T) int64 where rows hold several documents: each one's number in the batch, -1 on padding."""
    positions: Tensor | None = None
    """(B, T) int64 beside `document_ids`: places counted from 0 in each document."""

    @property
    def num_slots(self) -> int:
        """Tokens with padding."""
        return self.input_ids.numel()

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device; from pinned memory the copies run beside what the device is doing."""
        return _each(self, lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """Return the batch in memory that a GPU can copy from by itself."""
        return _each(self, Tensor.pin_memory)


def collate(rows: PlainRows | PackedRows, length: int | None = None) -> Batch:
    """Put examples into one batch, one per row or lists of several, padded to `length` tokens or else to the longest.

    The last token of an example is never an input: nothing follows it.
    """
    return batch_of(arrange(rows, length))


def batch_of(arrays: BatchArrays) -> Batch:
    """Return arrays as tensors that share their memory."""
    return _each(arrays, torch.from_numpy)


def _each(batch: Batch | BatchArrays, change: Callable[[Any], Tensor]) -> Batch:
    """Return a batch whose tensors are those of another, or its arrays, changed."""
    return Batch(
        input_ids=change(batch.input_ids),
        target_positions=change(batch.target_positions),
        targets=change(batch.targets),
        num_tokens=batch.num_tokens,
        document_ids=None if batch.document_ids is None else change(batch.document_ids),
        positions=None if batch.positions is None else change(batch.positions),
    )
