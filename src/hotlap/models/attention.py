"""Causal attention on a CPU: plain matrix products, a block of queries at a time.

Shapes: B rows, H heads, T keys, Q ≤ T queries of the last positions, K dimensions of a head.

torch's own attention has no quick path on a CPU for dropout or for bfloat16, and in fp32 it computes more of what
causality hides. A block of queries meets the keys up to its own end only, so half of the square is never computed as
blocks get smaller; the weights are kept for the way back instead of being computed twice. They would fill the memory
where rows are long: those are left to torch, unless there is dropout. `benchmarks/attention.py` measures both.
"""

import math
from itertools import pairwise
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel

from hotlap.core.errors import ConfigError
from hotlap.models.dropout import dropout_factors

_KERNELS: Final = {
    "eager": SDPBackend.MATH,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
_NOT_THERE: Final = ("No available kernel", "No viable backend")
_LONGEST: Final = {torch.float32: 512, torch.bfloat16: 1024}
"""Keys up to which this is quicker; with dropout it always is."""
_BLOCK: Final = 128  # queries; smaller blocks save work that their own overhead eats up
_ALIGNMENT: Final = 16  # elements of a cache line


def causal_attention(
    query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0, implementation: str | None = None
) -> Tensor:
    """Return the values mixed for each query, (B, H, Q, K); key and value are (B, H, T, K).

    `dropout` is the share of the weights that is dropped, `implementation` one of `model.attn_implementation`. There
    may be fewer queries than keys where `cuts_queries` says so and no implementation is named. Raises ConfigError for
    one that the device does not have for such numbers.
    """
    if implementation is not None:
        return _named_attention(query, key, value, dropout, implementation)
    is_quicker = dropout > 0 or key.shape[2] <= _LONGEST.get(key.dtype, 0) or query.shape[2] < key.shape[2]
    if has_own_attention(query) and is_quicker:
        mixed: Tensor = _CausalAttention.apply(query, key, value, dropout)
        return mixed
    return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)


def _named_attention(query: Tensor, key: Tensor, value: Tensor, dropout: float, name: str) -> Tensor:
    """Return what torch's attention gives, held to one of its kernels unless `sdpa` leaves that to it."""
    if name == "sdpa":
        return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
    with sdpa_kernel(_KERNELS[name]):
        try:
            return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
        except RuntimeError as error:
            if not any(sign in str(error) for sign in _NOT_THERE):
                raise
            raise ConfigError(
                f"model.attn_implementation: {name} is not there on {query.device.type} for {query.dtype}; use sdpa "
                "or leave it out"
            ) from error


def cuts_queries(x: Tensor, length: int, dropout: float) -> bool:
    """Say whether rows of so many tokens may ask for their last positions only, at no cost in memory."""
    return has_own_attention(x) and (dropout > 0 or length <= _LONGEST[torch.float32])


def has_own_attention(x: Tensor) -> bool:
    """Say whether attention on the device of x, eager or compiled, may be computed here."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def kept_weights(length: int, dtype: torch.dtype, *, has_dropout: bool = False) -> int:
    """Return how many weights each head of a row of so many tokens keeps for the way back, with dropout their factors,
    too.
    """
    if length > _LONGEST.get(dtype, 0) and not has_dropout:
        return 0
    kept = sum((last - first) * last for first, last in pairwise(_cuts(length)))
    return 2 * kept if has_dropout else kept


def _cuts(queries: int) -> list[int]:
    """Return where the blocks begin, and the end: of about `_BLOCK` queries each."""
    blocks = max(1, round(queries / _BLOCK))
    inner = (_ALIGNMENT * round(queries * block / blocks / _ALIGNMENT) for block in range(1, blocks))
    return [0, *inner, queries]


class _CausalAttention(torch.autograd.Function):
    """Softmax(Q·Kᵀ/√K)·V, with gradients by the textbook; each block is named by its first and last query."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, p: float) -> Tensor:
        rows, heads, keys, size = key.shape
        queries = query.shape[2]
        ctx.shape, ctx.cuts, ctx.past = query.shape, _cuts(queries), keys - queries
        q, k, v = (x.reshape(rows * heads, x.shape[2], size) for x in (query, key, value))
        mixed: list[Tensor] = []
        kept: list[Tensor] = []
        for first, last in pairwise(ctx.cuts):
            end = ctx.past + last
            future = torch.full((last - first, end), -torch.inf, dtype=q.dtype).triu(ctx.past + first + 1)
            hidden = future.expand(rows * heads, last - first, end)
            scores = torch.baddbmm(hidden, q[:, first:last], k[:, :end].mT, alpha=1 / math.sqrt(size))
            weights = torch._softmax(scores, -1, False, out=scores)
            factors = dropout_factors(weights, p) if p else None
            mixed.append(torch.bmm(weights if factors is None else weights * factors, v[:, :end]))
            if any(ctx.needs_input_grad):
                kept += [weights] if factors is None else [weights, factors]
        ctx.has_dropout = p > 0
        ctx.save_for_backward(q, k, v, *kept)
        return _joined(mixed).view(query.shape)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, *kept = ctx.saved_tensors
        rows, heads, _, size = ctx.shape
        g = gradients[0].reshape(q.shape)
        blocks = list(pairwise(ctx.cuts))
        step = 2 if ctx.has_dropout else 1
        dq: list[Tensor] = []
        dk, dv = torch.empty_like(k), torch.empty_like(v)
        for number in range(len(blocks) - 1, -1, -1):
            (first, last), is_longest = blocks[number], number == len(blocks) - 1
            end = ctx.past + last
            weights, factors = kept[number * step], kept[number * step + 1] if ctx.has_dropout else None
            dropped = weights if factors is None else weights * factors
            slope = torch.bmm(g[:, first:last], v[:, :end].mT)
            slope = slope if factors is None else slope.mul_(factors)
            torch._softmax_backward_data(slope, weights, -1, weights.dtype, grad_input=slope)
            dq.append(torch.bmm(slope, k[:, :end]))
            beta = 0 if is_longest else 1  # the block that meets all keys fills the memory, the others add to it
            dv[:, :end].baddbmm_(dropped.mT, g[:, first:last], beta=beta)
            dk[:, :end].baddbmm_(slope.mT, q[:, first:last], beta=beta)
        scale = 1 / math.sqrt(size)
        found = (_joined(dq[::-1]).mul_(scale), dk.mul_(scale), dv)
        query, key, value = (x.view(rows, heads, x.shape[1], size) for x in found)
        return query, key, value, None


def _joined(blocks: list[Tensor]) -> Tensor:
    return torch.cat(blocks, dim=1) if len(blocks) > 1 else blocks[0]
