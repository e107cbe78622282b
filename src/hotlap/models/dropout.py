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
        mask = dropout_factors(x, p)
        ctx.save_for_backward(mask)
        return x * mask

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return gradients[0] * mask, None


def dropout_factors(x: Tensor, p: float) -> Tensor:
    """Draw what dropout multiplies x with on a CPU: a tensor like x that holds 0 or 1 / (1 - p)."""
    draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    bits = draws.view(torch.int16)[: x.numel()].view(x.shape)
    return (bits >= round(p * _LEVELS) - _LEVELS // 2).to(x.dtype).mul_(1 / (1 - p))


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
