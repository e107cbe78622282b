"""Batches of words as tensors. Shapes: B rows, W words in the longest, n words in a group of L bytes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hotlap.data.word_arrays import WordArrays


@dataclass(frozen=True, slots=True)
class WordGroup:
    """Words that are encoded together."""

    ids: Tensor
    """(n, L) int64: BOS, the word's bytes, EOS, and PAD behind shorter ones."""
    is_real: Tensor | None
    """(n, L) bool; None: no word is padded."""


@dataclass(frozen=True, slots=True)
class TargetGroup:
    """Words that are decoded together."""

    input_ids: Tensor
    """(n, L) int64: BOS and the word's bytes, and PAD behind shorter ones."""
    targets: Tensor
    """(n, L) int64: the word's bytes and EOS; -100 where nothing is learned."""
    latents: Tensor
    """(n,) int64: place in the flattened (B·W) of the word before, whose latent predicts this one."""


@dataclass(frozen=True, slots=True)
class WordBatch:
    """One forward pass of a model that reads and writes words."""

    words: tuple[WordGroup, ...]
    word_at: Tensor
    """(B, W) int64: row in the words of all groups, one group after the other; padding points at some word."""
    is_real: Tensor | None
    """(B, W) bool; None: no row is padded."""
    blocks: Tensor | None
    """(B, W) int64: the number in its row of the shift block that a word is in, -1 outside; None: there is none."""
    targets: tuple[TargetGroup, ...]
    num_tokens: int
    """Bytes of the words."""
    num_slots: int
    """Places for bytes of words; a padded place of a row counts as one at least."""
    num_targets: int
    """Bytes and ends of words that are learned."""

    def to(self, device: torch.device) -> "WordBatch":
        """Return the batch on a device; from pinned memory the copies run beside what the device is doing."""
        return _each(self, lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "WordBatch":
        """Return the batch in memory that a GPU can copy from by itself."""
        return _each(self, Tensor.pin_memory)


def word_batch_of(arrays: WordArrays) -> WordBatch:
    """Return arrays as tensors that share their memory."""
    return _each(arrays, torch.from_numpy)


def _each(batch: WordBatch | WordArrays, change: Callable[[Any], Tensor]) -> WordBatch:
    """Return a batch whose tensors are those of another, or its arrays, changed."""

    def optional(values: Any) -> Tensor | None:
        return None if values is None else change(values)

    return WordBatch(
        words=tuple(WordGroup(change(group.ids), optional(group.is_real)) for group in batch.words),
        word_at=change(batch.word_at),
        is_real=optional(batch.is_real),
        blocks=optional(batch.blocks),
        targets=tuple(
            TargetGroup(change(group.input_ids), change(group.targets), change(group.latents))
            for group in batch.targets
        ),
        num_tokens=batch.num_tokens,
        num_slots=batch.num_slots,
        num_targets=batch.num_targets,
    )
