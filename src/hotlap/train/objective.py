"""The loss as one module: what is compiled, and shared over the devices, as a whole."""

from typing import Any, Final, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hotlap.data.word_batches import WordBatch
from hotlap.models.chosen import with_few_sizes
from hotlap.models.protocol import CausalLM, hidden_at
from hotlap.models.word_latent import WordLatent

LARGE_VOCABULARY: Final = 8192
"""From this size on the logits are computed in pieces."""
PIECE: Final = 1 << 25
"""Logits in one piece: 128 MiB in fp32."""


class Objective(nn.Module):
    """The cross-entropy of a model on the tokens that count. Shapes: B rows, T positions, N targets, V vocabulary."""

    def __init__(self, model: nn.Module, vocab_size: int, label_smoothing: float = 0.0) -> None:
        """Wrap a `CausalLM`; `label_smoothing` is the share of the target spread evenly over the vocabulary."""
        super().__init__()
        self.model = model
        self.vocab_size = vocab_size
        self.label_smoothing = label_smoothing

    def forward(
        self,
        input_ids: Tensor,
        target_positions: Tensor,
        targets: Tensor,
        document_ids: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Return the sum over targets (N,) of their cross-entropy in nats, an fp32 scalar; the fields of a `Batch`.

        Nothing here waits for the device.
        """
        wanted = with_few_sizes(target_positions, input_ids.shape)
        chosen = hidden_at(self.model, wanted, input_ids, positions, document_ids)
        if self.vocab_size < LARGE_VOCABULARY:
            return self._loss(chosen, targets)
        size = max(1, PIECE // self.vocab_size)
        weight = getattr(self.model, "head_weight", None)
        if isinstance(weight, Tensor):
            return linear_cross_entropy(chosen, weight, targets, self.label_smoothing, size, vocab_size=self.vocab_size)
        total, chosen = torch.zeros((), device=chosen.device), chosen[: len(targets)]
        for piece, wanted in zip(chosen.split(size), targets.split(size), strict=True):
            total = total + cast(Tensor, checkpoint(self._loss, piece, wanted, use_reentrant=False))
        return total

    def _loss(self, chosen: Tensor, targets: Tensor) -> Tensor:
        logits = cast(CausalLM, self.model).logits(chosen)[: len(targets)].float()
        return F.cross_entropy(logits, targets, reduction="sum", label_smoothing=self.label_smoothing)


class WordObjective(nn.Module):
    """The cross-entropy of a word-latent model on the bytes and ends of words."""

    def __init__(self, model: WordLatent, label_smoothing: float = 0.0) -> None:
        """Wrap a model; `label_smoothing` is the share of the target spread evenly over the 256 bytes."""
        super().__init__()
        self.model = model
        self.label_smoothing = label_smoothing

    def forward(self, batch: WordBatch) -> Tensor:
        """Return the sum over the batch's targets of their cross-entropy in nats, an fp32 scalar."""
        return self.model.loss(batch, self.label_smoothing)


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    label_smoothing: float = 0.0,
    rows_per_piece: int = 1024,
    *,
    vocab_size: int | None = None,
) -> Tensor:
    """Return the sum of the cross-entropy of `hidden @ weight.T` (N, V), in pieces of so many rows, an fp32 scalar.

    Rows of `weight` from `vocab_size` on are padding and have no share of it, and so are those of `hidden` past the
    targets.

    The gradients are computed along with the loss, so the logits exist once and one piece at a time (the way of
    Liger, arXiv 2410.10989). Unlike torch's own it takes label smoothing, adds up in fp32 whatever the autocast, and
    can be compiled.
    """
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    trains_head = torch.is_grad_enabled() and weight.requires_grad
    trains_any = trains_head or (torch.is_grad_enabled() and hidden.requires_grad)
    missing = 0 if torch.compiler.is_compiling() else len(hidden) - len(targets)
    sizes = (rows_per_piece, len(weight) if vocab_size is None else vocab_size, missing)
    targets = F.pad(targets, (0, missing)) if missing else targets
    total: Tensor = _LinearCrossEntropy.apply(
        hidden, weight, targets, label_smoothing, sizes, dtype, (trains_any, trains_head)
    )
    return total


class _LinearCrossEntropy(torch.autograd.Function):
    """`linear_cross_entropy` with matrix products in `dtype`."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        label_smoothing: float,
        sizes: tuple[int, int, int],
        dtype: torch.dtype,
        trains: tuple[bool, bool],
    ) -> Tensor:
        (rows_per_piece, num_classes, missing), (trains_any, trains_head) = sizes, trains
        left = len(targets) - missing
        total = torch.zeros((), device=hidden.device)
        gradients = []
        weight_gradient = torch.zeros_like(weight, dtype=torch.float32) if trains_head else None
        with torch.autocast(hidden.device.type, enabled=False):
            matrix = weight.to(dtype)
            for part, wanted in zip(hidden.split(rows_per_piece), targets.split(rows_per_piece), strict=True):
                inner = part.to(dtype)
                logits = (inner @ matrix.T).float()
                losses, gradient = _losses_and_gradient(logits, wanted, label_smoothing, num_classes)
                if missing:
                    losses, gradient[left:] = losses[:left], 0
                    left = max(0, left - len(wanted))
                total += losses.sum()
                outer = gradient.to(dtype)
                if trains_any:
                    gradients.append((outer @ matrix).to(hidden.dtype))
                if weight_gradient is not None:
                    weight_gradient += outer.T @ inner
                del logits, gradient, outer  # else they would be held until the next piece has its own
        if trains_any:
            kept = None if weight_gradient is None else weight_gradient.to(weight.dtype)
            ctx.save_for_backward(torch.cat(gradients), kept)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        factor = gradients[0]
        for_weight = None if weight_gradient is None else weight_gradient * factor
        return hidden_gradient * factor, for_weight, None, None, None, None, None


def _losses_and_gradient(
    logits: Tensor, targets: Tensor, label_smoothing: float, num_classes: int
) -> tuple[Tensor, Tensor]:
    """Return the cross-entropies (n,) of the first fp32 logits of (n, V), and their gradient (n, V) in that memory."""
    if num_classes < logits.shape[-1]:
        logits[:, num_classes:] = -torch.inf
    normalizer = logits.logsumexp(-1)
    rows = torch.arange(len(targets), device=targets.device)
    loss = normalizer - (1 - label_smoothing) * logits[rows, targets]
    if label_smoothing:
        loss = loss - label_smoothing * logits[:, :num_classes].mean(-1)
    gradient = logits.sub_(normalizer.unsqueeze(-1)).exp_()
    if label_smoothing:
        gradient[:, :num_classes] -= label_smoothing / num_classes
    gradient[rows, targets] -= 1 - label_smoothing
    return loss, gradient
