"""The positions of a batch that something is predicted for: only they need what comes after the last attention."""

from typing import Any

import torch
from torch import Tensor

from hotlap.models.few_sizes import UNIT, rounded, wants_few_sizes


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
    """Return a column before which no row of `length` has any of the `positions` (N,), and these in rows cut off there.

    That is the first column among them, where few sizes are wanted a multiple of 8. This reads the positions, which a
    GPU would be waited for.
    """
    first = _first_column(positions, length)
    return first, positions - first * (positions // length + 1)


def with_few_sizes(positions: Tensor, shape: torch.Size) -> Tensor:
    """Return `positions` (N,) of the flattened (B·T) of `shape`, others behind them where N is to be a round number.

    Each is still named once. Those of another column than the positions are in would be work for every row.
    """
    missing = rounded(len(positions)) - len(positions) if wants_few_sizes(positions) else 0
    num_slots, length = shape.numel(), shape[-1]
    if not missing or len(positions) + missing >= num_slots:  # as many as there are would be taken for all, in order
        return positions
    is_free = torch.ones(num_slots, dtype=torch.bool)
    is_free[positions] = False
    is_free.view(-1, length)[:, : _first_column(positions, length)] = False
    return torch.cat([positions, is_free.nonzero().flatten()[:missing]])


def _first_column(positions: Tensor, length: int) -> int:
    first = int((positions % length).min()) if len(positions) else 0
    return first - first % UNIT if wants_few_sizes(positions) else first
