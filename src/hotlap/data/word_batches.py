"""Batches of words as tensors. Shapes: B rows, W words in the longest, n words in a group of L bytes."""

from collections.abc import Callable
from dataclasses import dataclass

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
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "WordBatch":
        """Return the batch in memory that a GPU can copy from by itself."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "WordBatch":
        def optional(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else change(tensor)

        return WordBatch(
            words=tuple(WordGroup(change(group.ids), optional(group.is_real)) for group in self.words),
            word_at=change(self.word_at),
            is_real=optional(self.is_real),
            blocks=optional(self.blocks),
            targets=tuple(
                TargetGroup(change(group.input_ids), change(group.targets), change(group.latents))
                for group in self.targets
            ),
            num_tokens=self.num_tokens,
            num_slots=self.num_slots,
            num_targets=self.num_targets,
        )


def word_batch_of(arrays: WordArrays) -> WordBatch:
    """Return arrays as tensors that share their memory."""

    def optional(array: object) -> Tensor | None:
        return None if array is None else torch.from_numpy(array)

    return WordBatch(
        words=tuple(WordGroup(torch.from_numpy(group.ids), optional(group.is_real)) for group in arrays.words),
        word_at=torch.from_numpy(arrays.word_at),
        is_real=optional(arrays.is_real),
        blocks=optional(arrays.blocks),
        targets=tuple(
            TargetGroup(
                torch.from_numpy(group.input_ids), torch.from_numpy(group.targets), torch.from_numpy(group.latents)
            )
            for group in arrays.targets
        ),
        num_tokens=arrays.num_tokens,
        num_slots=arrays.num_slots,
        num_targets=arrays.num_targets,
    )
