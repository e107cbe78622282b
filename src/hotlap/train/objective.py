"""The loss as one module: what is compiled, and shared over the devices, as a whole."""

from typing import Any, Final, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hotlap.models.protocol import CausalLM, hidden_at

LARGE_VOCABULARY: Final = 8192
"""From this size on the logits are computed in pieces."""
_PIECE: Final = 1 << 25  # logits in one piece: 128 MiB in fp32


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
        chosen = hidden_at(self.model, target_positions, input_ids, positions, document_ids)
        if self.vocab_size < LARGE_VOCABULARY:
            return self._loss(chosen, targets)
        size = max(1, _PIECE // self.vocab_size)
        weight = getattr(self.model, "head_weight", None)
        if isinstance(weight, Tensor):
            return linear_cross_entropy(chosen, weight, targets, self.label_smoothing, size)
        total = torch.zeros((), device=chosen.device)
        for piece, wanted in zip(chosen.split(size), targets.split(size), strict=True):
            total = total + cast(Tensor, checkpoint(self._loss, piece, wanted, use_reentrant=False))
        return total

    def _loss(self, chosen: Tensor, targets: Tensor) -> Tensor:
        logits = cast(CausalLM, self.model).logits(chosen).float()
        return F.cross_entropy(logits, targets, reduction="sum", label_smoothing=self.label_smoothing)


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, label_smoothing: float = 0.0, rows_per_piece: int = 1024
) -> Tensor:
    """Return the sum of the cross-entropy of `hidden @ weight.T` (N, V), in pieces of so many rows, an fp32 scalar.

    The gradients are computed along with the loss, so the logits exist once and one piece at a time (the way of
    Liger, arXiv 2410.10989). Unlike torch's own it takes label smoothing, adds up in fp32 whatever the autocast, and
    can be compiled.
    """
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    wants_gradients = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    total: Tensor = _LinearCrossEntropy.apply(
        hidden, weight, targets, label_smoothing, rows_per_piece, dtype, wants_gradients
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
        rows_per_piece: int,
        dtype: torch.dtype,
        wants_gradients: bool,
    ) -> Tensor:
        total = torch.zeros((), device=hidden.device)
        gradients = []
        weight_gradient = torch.zeros_like(weight, dtype=torch.float32) if wants_gradients else None
        with torch.autocast(hidden.device.type, enabled=False):
            matrix = weight.to(dtype)
            for part, wanted in zip(hidden.split(rows_per_piece), targets.split(rows_per_piece), strict=True):
                inner = part.to(dtype)
                logits = (inner @ matrix.T).float()
                loss, gradient = _loss_and_gradient(logits, wanted, label_smoothing)
                total += loss
                if weight_gradient is not None:
                    outer = gradient.to(dtype)
                    gradients.append((outer @ matrix).to(hidden.dtype))
                    weight_gradient += outer.T @ inner
        if weight_gradient is not None:
            ctx.save_for_backward(torch.cat(gradients), weight_gradient.to(weight.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        factor = gradients[0]
        return hidden_gradient * factor, weight_gradient * factor, None, None, None, None, None


def _loss_and_gradient(logits: Tensor, targets: Tensor, label_smoothing: float) -> tuple[Tensor, Tensor]:
    """Return the summed cross-entropy of fp32 logits (n, V), and its gradient in their memory."""
    normalizer = logits.logsumexp(-1)
    rows = torch.arange(len(targets), device=targets.device)
    loss = normalizer - (1 - label_smoothing) * logits[rows, targets]
    if label_smoothing:
        loss = loss - label_smoothing * logits.mean(-1)
    gradient = logits.sub_(normalizer.unsqueeze(-1)).exp_()
    if label_smoothing:
        gradient -= label_smoothing / logits.shape[-1]
    gradient[rows, targets] -= 1 - label_smoothing
    return loss.sum(), gradient
