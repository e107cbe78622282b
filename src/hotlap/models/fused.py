"""Functions that torch makes of many small steps, in few passes over the data: a CPU's time goes by memory traffic.

On a GPU, and in compiled code, torch's own steps are taken. Values are the same to rounding, gradients too; those of
the squared ReLU bit by bit.
"""

import math
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines, each (B or 1, 1, T, K/2)."""

_NARROW: Final = frozenset({torch.bfloat16, torch.float16})
"""Types that are computed with in fp32 and rounded once."""

_PIECE: Final = 1 << 19  # elements: in low precision the intermediate results are twice as large


def rms_norm(x: Tensor) -> Tensor:
    """Return x with its last dimension scaled to a mean square of 1, without weights (arXiv 1910.07467)."""
    if not _is_fused(x):
        return F.rms_norm(x, x.shape[-1:])
    normed: Tensor = _RmsNorm.apply(x)
    return normed


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn pairs of dimensions of x (B, H, T, K) by the angles of their positions (RoPE, arXiv 2104.09864)."""
    if _is_fused(x):
        turned: Tensor = _Rotate.apply(x, *rotation)
        return turned
    cosine, sine = rotation
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1).type_as(x)


def relu_squared(x: Tensor) -> Tensor:
    """Return max(x, 0)² (arXiv 2109.08668)."""
    if not _is_fused(x):
        return F.relu(x).square()
    squared: Tensor = _ReluSquared.apply(x)
    return squared


def gelu_tanh(x: Tensor) -> Tensor:
    """Return GELU in its approximation by tanh (arXiv 1606.08415), GPT-2's `gelu_new`."""
    if not _is_fused(x):
        return F.gelu(x, approximate="tanh")
    curved: Tensor = _GeluTanh.apply(x)
    return curved


def _is_fused(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def _widened(x: Tensor) -> Tensor:
    return x.float() if x.dtype in _NARROW else x


class _RmsNorm(torch.autograd.Function):
    """y = x·s with s = 1 / √(mean(x²) + ε); the gradient is s·(g - y·mean(g·y))."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        wide = _widened(x)
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.shape[-1]).add_(torch.finfo(wide.dtype).eps).rsqrt_()
        y = (wide * scale).to(x.dtype)
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        y, scale = ctx.saved_tensors
        g, wide = _widened(gradients[0]), _widened(y)
        share = torch.linalg.vecdot(g, wide).unsqueeze(-1).div_(-y.shape[-1])
        return torch.addcmul(g, wide, share).mul_(scale).to(y.dtype)


class _Rotate(torch.autograd.Function):
    """A rotation; its gradient is the rotation back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        ctx.save_for_backward(cosine, sine)
        return _turned(x, cosine, sine, 1)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        cosine, sine = ctx.saved_tensors
        return _turned(gradients[0], cosine, sine, -1), None, None


def _turned(x: Tensor, cosine: Tensor, sine: Tensor, sign: int) -> Tensor:
    wide = _widened(x)
    result = torch.empty(x.shape, dtype=wide.dtype)
    (first, second), (left, right) = wide.chunk(2, dim=-1), result.chunk(2, dim=-1)
    torch.mul(first, cosine, out=left).addcmul_(second, sine, value=-sign)
    torch.mul(second, cosine, out=right).addcmul_(first, sine, value=sign)
    return result.to(x.dtype)


class _ReluSquared(torch.autograd.Function):
    """y = r² with r = max(x, 0); the gradient is 2·g·r, which is 0 where r is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = F.relu(x)
        ctx.save_for_backward(positive)
        return positive.square()

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        product: Tensor = (gradients[0] * positive).mul_(2)
        return product


class _GeluTanh(torch.autograd.Function):
    """y = x·s with s = σ(2u), u = √(2/π)·(x + 0.044715·x³), as tanh(u) = 2σ(2u) - 1 and σ is the quicker one.

    The slope s + y·(1 - s)·2u' needs nothing that is dear once s is there, so it is computed on the way forward and
    kept in place of x.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()
        y = torch.empty_like(x)
        slope = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        for first in range(0, x.numel(), _PIECE):
            here = slice(first, first + _PIECE)
            _gelu_tanh_into(y.view(-1)[here], slope if slope is None else slope.view(-1)[here], x.view(-1)[here])
        if slope is not None:
            ctx.save_for_backward(slope)
        return y

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (slope,) = ctx.saved_tensors
        return gradients[0] * slope


_LINEAR: Final = 2 * math.sqrt(2 / math.pi)  # 2u = x·(_LINEAR + _CUBIC·x²)
_CUBIC: Final = 0.044715 * _LINEAR


def _gelu_tanh_into(y: Tensor, slope: Tensor | None, x: Tensor) -> None:
    """Write value and slope at x (n,) into tensors like it."""
    wide = _widened(x)
    is_narrow = wide is not x
    linear = torch.full((), _LINEAR, dtype=wide.dtype)
    s = torch.addcmul(linear, wide, wide, value=_CUBIC).mul_(wide).sigmoid_()
    value = torch.mul(wide, s, out=None if is_narrow else y)
    if slope is not None:
        change = torch.addcmul(linear, wide, wide, value=3 * _CUBIC)
        rest = torch.addcmul(value, value, s, value=-1, out=None if is_narrow else slope)  # y·(1 - s)
        total = torch.addcmul(s, rest, change, out=rest)
        if is_narrow:
            slope.copy_(total)
    if is_narrow:
        y.copy_(value)
