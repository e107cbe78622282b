"""Batches in an order that is a pure function of the seed and the step: nothing has to be saved to resume it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hotlap.core.errors import DataError
from hotlap.data.encoding import PAD, EncodedExample

_BATCHES_PER_BUCKET = 64  # rows are sorted by length among the rows of this many batches


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

    @property
    def num_slots(self) -> int:
        """Tokens with padding."""
        return self.input_ids.numel()


def collate(examples: Sequence[EncodedExample], length: int | None = None) -> Batch:
    """Put examples into one batch, padded to `length` or else to the longest of them.

    The last token is never an input: nothing follows it.
    """
    width = (length or max(len(e.ids) for e in examples)) - 1
    rows = np.full((len(examples), width), PAD, dtype=np.int64)
    positions, targets = [], []
    for row, example in enumerate(examples):
        inputs = example.ids[:-1]
        rows[row, : len(inputs)] = inputs
        first = example.prefix_length - 1
        positions.append(np.arange(row * width + first, row * width + len(inputs)))
        targets.append(example.ids[example.prefix_length :])
    return Batch(
        input_ids=torch.from_numpy(rows),
        target_positions=torch.from_numpy(np.concatenate(positions)),
        targets=torch.from_numpy(np.concatenate(targets).astype(np.int64)),
        num_tokens=sum(len(e.ids) - 1 for e in examples),
    )


class BatchOrder:
    """The rows of every batch of an endless, shuffled pass over the training examples."""

    def __init__(self, lengths: NDArray[np.int64], batch_size: int, seed: int, *, bucketed: bool) -> None:
        if len(lengths) == 0:
            raise DataError("there is no training example")
        self._lengths = lengths
        self._batch_size = batch_size
        self._seed = seed
        self._bucketed = bucketed
        self._epochs: dict[int, NDArray[np.int64]] = {}
        self._bucket: tuple[int, list[NDArray[np.int64]]] = (-1, [])

    def rows(self, number: int) -> NDArray[np.int64]:
        """Return the example numbers of batch `number` (from 0), shape (batch_size,)."""
        if not self._bucketed:
            return self._stream(number * self._batch_size, self._batch_size)
        bucket, place = divmod(number, _BATCHES_PER_BUCKET)
        if self._bucket[0] != bucket:
            self._bucket = (bucket, self._fill_bucket(bucket))
        return self._bucket[1][place]

    def _fill_bucket(self, bucket: int) -> list[NDArray[np.int64]]:
        size = _BATCHES_PER_BUCKET * self._batch_size
        rows = self._stream(bucket * size, size)
        by_length = rows[np.argsort(self._lengths[rows], kind="stable")]
        batches = np.split(by_length, _BATCHES_PER_BUCKET)
        shuffled = np.random.default_rng([self._seed, 1, bucket]).permutation(_BATCHES_PER_BUCKET)
        return [batches[place] for place in shuffled]

    def _stream(self, start: int, count: int) -> NDArray[np.int64]:
        """Return `count` rows from position `start` of all epochs put end to end."""
        size = len(self._lengths)
        parts = []
        while count:
            epoch, offset = divmod(start, size)
            part = self._epoch(epoch)[offset : offset + count]
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return np.concatenate(parts)

    def _epoch(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._epochs:
            shuffled = np.random.default_rng([self._seed, 0, epoch]).permutation(len(self._lengths))
            self._epochs = {k: v for k, v in self._epochs.items() if k >= epoch - 1} | {epoch: shuffled}
        return self._epochs[epoch]
