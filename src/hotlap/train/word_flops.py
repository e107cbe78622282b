"""Floating-point operations that a step of the word-latent model is worth, counted as `train/flops.py` does.

Every word of a row counts, also where the batch encodes each distinct one once: this is what the mathematics asks for
(WeLT's model FLOPs; its hardware FLOPs count distinct words). Padding counts nothing.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hotlap.data.word_arrays import IGNORED
from hotlap.data.word_batches import WordBatch
from hotlap.models.word_blocks import RowTransformer
from hotlap.models.word_latent import WordLatent

_TRAINED, _FROZEN = 6, 4
_ATTENTION = 12


@dataclass(frozen=True, slots=True)
class _PartFlops:
    """What a place costs in one of the three transformers."""

    per_place: float
    per_pair: float

    def of_rows(self, lengths: Tensor) -> float:
        """Return the FLOPs of rows of so many places, (n,)."""
        places = lengths.double()
        return self.per_place * float(places.sum()) + self.per_pair * float((places**2).sum())


class WordFlops:
    """What words and bytes cost in a `WordLatent`; made once, since it walks through the parameters."""

    def __init__(self, model: WordLatent) -> None:
        self._encoder, self._latent, self._decoder = (
            _part(part, shape.hidden_size)
            for part, shape in (
                (model.encoder, model.config.encoder),
                (model.latent, model.config.latent),
                (model.decoder, model.config.decoder),
            )
        )
        self._per_word = _matrices(model.encoder_mapping)
        self._per_target_word = _matrices(model.decoder_mapping)
        self._per_target = _matrices(model.head)

    def of_batch(self, batch: WordBatch) -> float:
        """Return the FLOPs of a forward and a backward pass."""
        row_of = batch.word_at.flatten() if batch.is_real is None else batch.word_at[batch.is_real]
        encoded = torch.cat([_lengths(group.ids, group.is_real) for group in batch.words])[row_of]
        learned = torch.cat([(group.targets != IGNORED).sum(1) for group in batch.targets])
        written = learned[learned > 0]
        return (
            self._encoder.of_rows(encoded)
            + self._per_word * len(encoded)
            + self._latent.of_rows(words_per_row(batch))
            + self._per_target_word * len(written)
            + self._decoder.of_rows(written + 1)  # the latent, BOS, and the bytes
            + self._per_target * int(written.sum())
        )


def words_per_row(batch: WordBatch) -> Tensor:
    """Return the words of each row, without padding, (B,)."""
    if batch.is_real is not None:
        return batch.is_real.sum(1)
    rows, width = batch.word_at.shape
    return torch.full((rows,), width)


def _lengths(ids: Tensor, is_real: Tensor | None) -> Tensor:
    return torch.full((ids.shape[0],), ids.shape[1], device=ids.device) if is_real is None else is_real.sum(1)


def _part(part: RowTransformer, width: int) -> _PartFlops:
    return _PartFlops(_matrices(part), float(_ATTENTION * width * len(part.blocks)))


def _matrices(module: nn.Module) -> float:
    matrices = [weight for weight in module.parameters() if weight.ndim >= 2]
    return float(sum((_TRAINED if weight.requires_grad else _FROZEN) * weight.numel() for weight in matrices))
