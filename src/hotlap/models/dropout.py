"""Dropout that is cheap on a CPU too, where torch draws one random number after the other for it.

One 64-bit draw serves four elements: an element is dropped when its 16 bits fall below p·2^16, so p is met to
2^-16. It uses torch's default generator, as nn.Dropout does, so a seed gives the same masks again.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEVELS = 1 << 16


class _CpuDropout(torch.autograd.Function):
    """Multiply by a mask that holds 0 or 1 / (1 - p), and the gradient by the same mask."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        bits = draws.view(torch.int16)[: x.numel()].view(x.shape)
        mask = (bits >= round(p * _LEVELS) - _LEVELS // 2).to(x.dtype).mul_(1 / (1 - p))
        ctx.save_for_backward(mask)
        return x * mask

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return gradients[0] * mask, None


def dropout(x: Tensor, p: float) -> Tensor:
    """Set a share p of the elements to zero and scale the others by 1 / (1 - p)."""
    if p == 0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, p)
    dropped: Tensor = _CpuDropout.apply(x, p)
    return dropped


class Dropout(nn.Module):
    """Dropout while training, nothing while evaluating."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Return x with dropout."""
        return dropout(x, self.p) if self.training else x


def attention_spelled_out(query: Tensor, key: Tensor, value: Tensor, p: float) -> Tensor:
    """Return causal attention with dropout on its weights, as plain matrix products; all shapes are (B, H, T, K).

    On a CPU torch's own attention leaves its fast path as soon as there is dropout, and has none for short rows in
    bfloat16: there this takes a quarter to a half of the time (AVX512-BF16, T up to 512; level at 768).
    """
    rows, heads, length, size = query.shape
    future = torch.full((length, length), -torch.inf, dtype=query.dtype).triu(1)
    folded = (rows * heads, length, size)
    scores = torch.baddbmm(
        future.expand(rows * heads, length, length),
        query.reshape(folded),
        key.reshape(folded).mT,
        alpha=size**-0.5,
    )
    weights = dropout(scores.softmax(-1), p)
    return torch.bmm(weights, value.reshape(folded)).view(query.shape)
