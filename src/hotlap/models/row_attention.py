"""Attention inside short rows on a CPU, where a row looks both ways or under a mask: plain matrix products.

torch's own attention takes up to ten times as long in bfloat16 where rows have some ten places. Causal rows without a
mask go to `causal_attention`. Shapes: n rows, H heads, T keys, Q queries, K dimensions of a head.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from hotlap.models.attention import causal_attention, has_own_attention


def row_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, is_causal: bool) -> Tensor:
    """Return the values mixed for each query, (n, H, Q, K); key and value are (n, H, T, K).

    `mask` (n or 1, 1, Q or 1, T) is True where a query may look, at one place at least; without it a query looks
    everywhere, or at itself and back.
    """
    if mask is None and is_causal:
        return causal_attention(query, key, value)
    if not has_own_attention(query):
        return F.scaled_dot_product_attention(query, key, value, mask)
    mixed: Tensor = _DenseAttention.apply(query, key, value, mask)
    return mixed


class _DenseAttention(torch.autograd.Function):
    """Softmax(Q·Kᵀ/√K)·V, with gradients by the textbook; the weights are kept, as rows are short."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        rows, heads, queries, size = query.shape
        q, k, v = (x.reshape(rows * heads, x.shape[2], size) for x in (query, key, value))
        hidden = _hidden(mask, (rows, heads, queries, key.shape[2]), q)
        scores = torch.baddbmm(hidden, q, k.mT, alpha=1 / math.sqrt(size), beta=0 if mask is None else 1)
        weights = torch._softmax(scores, -1, False, out=scores)
        ctx.shape = query.shape
        ctx.save_for_backward(q, k, v, weights)
        return torch.bmm(weights, v).view(query.shape)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, weights = ctx.saved_tensors
        rows, heads, _, size = ctx.shape
        g = gradients[0].reshape(q.shape)
        slope = torch.bmm(g, v.mT)
        torch._softmax_backward_data(slope, weights, -1, weights.dtype, grad_input=slope)
        scale = 1 / math.sqrt(size)
        found = (torch.bmm(slope, k).mul_(scale), torch.bmm(slope.mT, q).mul_(scale), torch.bmm(weights.mT, g))
        query, key, value = (x.view(rows, heads, x.shape[1], size) for x in found)
        return query, key, value, None


def _hidden(mask: Tensor | None, shape: tuple[int, int, int, int], like: Tensor) -> Tensor:
    """Return what is added to the scores, (n·H, Q, T): minus infinity where nothing may be looked at."""
    if mask is None:
        return like.new_empty(1, 1, 1)  # never read
    bias = torch.zeros(mask.shape, dtype=like.dtype).masked_fill_(~mask, -torch.inf)
    return bias.expand(shape).reshape(-1, *shape[2:])
