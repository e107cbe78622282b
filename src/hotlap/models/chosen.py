"""The positions of a batch that something is predicted for: only they need what comes after the last attention."""

from typing import Any

import torch
from torch import Tensor


class _Choose(torch.autograd.Function):
    """Take rows by numbers that are all different, so that the way back is a copy and no sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, numbers: Tensor) -> Tensor:
        ctx.save_for_backward(numbers)
        ctx.shape = x.shape
        return x.index_select(0, numbers)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (numbers,) = ctx.saved_tensors
        return gradients[0].new_zeros(ctx.shape).index_copy_(0, numbers, gradients[0]), None


def choose(x: Tensor, positions: Tensor | None) -> Tensor:
    """Return x (B, T, W) at `positions` (N,) of the flattened (B·T), each named once: (N, W); without any, x itself."""
    if positions is None:
        return x
    flat = x.flatten(0, -2)
    if torch.compiler.is_compiling():
        return flat.index_select(0, positions)
    chosen: Tensor = _Choose.apply(flat, positions)
    return chosen


def positions_from(positions: Tensor, length: int) -> tuple[int, Tensor]:
    """Return the first column among `positions` (N,) of rows of `length`, and the same places in rows cut off there.

    This reads the positions, which a GPU would be waited for.
    """
    row = positions // length
    first = int((positions - row * length).min()) if len(positions) else 0
    return first, positions - first * (row + 1)
