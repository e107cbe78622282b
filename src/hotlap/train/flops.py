"""Floating-point operations that a training step is worth, by arithmetic: what the model's mathematics asks for.

A matrix product costs 2 operations per weight and token forwards and 4 backwards (gradients of its input and of its
weight), 2 where the weight is frozen; attention 12 per layer, width and pair of tokens of a row, as if nothing hid the
future (the convention of PaLM, arXiv 2204.02311). Padding counts nothing, embeddings look up and count nothing, the
head counts for the tokens that are predicted. What a device computes twice, or skips, is not in it.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from hotlap.data.batches import Batch
from hotlap.train.model_size import size_of

_TRAINED: Final = 6
_FROZEN: Final = 4
_ATTENTION: Final = 12


@dataclass(frozen=True, slots=True)
class ModelFlops:
    """What a token costs in a model; made once, since it walks through the parameters."""

    per_token: float
    """FLOPs of all matrices but the head."""
    per_target: float
    """FLOPs of the head."""
    per_pair: float
    """FLOPs of attention for each pair of tokens of a row."""

    def of_batch(self, batch: Batch) -> float:
        """Return the FLOPs of a forward and a backward pass."""
        lengths = row_lengths(batch)
        pairs = float((lengths.double() ** 2).sum())
        return self.per_token * batch.num_tokens + self.per_target * len(batch.targets) + self.per_pair * pairs


def model_flops(model: nn.Module) -> ModelFlops:
    """Return what a token costs in a `CausalLM`: in every matrix that is no embedding, and in its attention."""
    head = getattr(model, "head_weight", None)
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    matrices = [p for p in model.parameters() if p.ndim >= 2 and id(p) not in tables and p is not head]
    size = size_of(model)
    return ModelFlops(
        per_token=float(sum(_factor(matrix) * matrix.numel() for matrix in matrices)),
        per_target=float(_factor(head) * head.numel()) if isinstance(head, Tensor) else 0.0,
        per_pair=float(_ATTENTION * size.num_layers * size.hidden_size),
    )


def _factor(weight: Tensor) -> int:
    return _TRAINED if weight.requires_grad else _FROZEN


def row_lengths(batch: Batch) -> Tensor:
    """Return the tokens of each example in a batch, without padding: (rows,) or (documents,).

    The last input of a row always has a target, so the targets tell where a row ends.
    """
    if batch.document_ids is not None:
        numbers = batch.document_ids.flatten().cpu()
        return torch.bincount(numbers[numbers >= 0])
    rows, width = batch.input_ids.shape
    places = batch.target_positions.cpu().numpy()
    ends = np.zeros(rows, dtype=np.int64)
    np.maximum.at(ends, places // width, places % width + 1)
    return torch.from_numpy(ends)
