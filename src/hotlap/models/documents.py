"""Attention inside rows that hold several documents: no token looks past the start of its own.

Three ways with one result. On a CPU each document becomes a row of its own for the attention, which then costs what
the documents' lengths ask for, and stays plainly causal. On a GPU FlexAttention (arXiv 2412.05496) skips
the blocks between documents. A plain mask is what is left, for compiled code on a CPU and for dropout on a GPU.

Shapes: B rows, T positions, F documents, L tokens of the longest one, W any width.
"""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from hotlap.models.few_sizes import filled, rounded, wants_few_sizes

_HAS_TRITON = find_spec("triton") is not None
_SMALLEST_FLEX_HEAD = 16  # dimensions of a head that FlexAttention's kernels need


class _Rearrange(torch.autograd.Function):
    """Take rows of x by their numbers, zeros for the blank ones; the way back is an exact copy, too, and no sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, source: Tensor, blank: Tensor, way_back: tuple[Tensor, Tensor]) -> Tensor:
        ctx.way_back = way_back
        return x.index_select(0, source).index_fill_(0, blank, 0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        source, blank = ctx.way_back
        return gradients[0].index_select(0, source).index_fill_(0, blank, 0), None, None, None


class DocumentRows:
    """Where the tokens of packed rows lie when each document has a row of its own, padded on the right."""

    def __init__(self, document_ids: Tensor) -> None:
        """Read document_ids (B, T): equal numbers side by side are a document, negative ones padding."""
        self.shape = document_ids.shape
        numbers = document_ids.flatten()
        is_first = torch.ones_like(document_ids, dtype=torch.bool)
        is_first[:, 1:] = document_ids[:, 1:] != document_ids[:, :-1]
        starts = is_first.flatten().nonzero().squeeze(1)
        ends = torch.cat([starts[1:], starts.new_tensor([len(numbers)])])
        is_real = numbers[starts] >= 0
        starts, lengths = starts[is_real], (ends - starts)[is_real]
        self.length = int(lengths.max())
        """L, rounded up where few sizes are wanted; F is, too."""
        if wants_few_sizes(document_ids):
            self.length = rounded(self.length)
            starts, lengths = filled(starts, 1), filled(lengths, 1)
        places = torch.arange(self.length, device=numbers.device)
        is_token = (places < lengths.unsqueeze(1)).flatten()
        source = (starts.unsqueeze(1) + places).flatten() * is_token
        tokens = is_token.nonzero().squeeze(1)
        target = torch.zeros_like(numbers)
        target[source[tokens]] = tokens
        self._to_documents = (source, (~is_token).nonzero().squeeze(1))
        self._to_rows = (target, (numbers < 0).nonzero().squeeze(1))

    def split(self, x: Tensor) -> Tensor:
        """Give each document of x (B, T, W) a row: (F, L, W), zeros after its end."""
        moved: Tensor = _Rearrange.apply(x.flatten(0, 1), *self._to_documents, self._to_rows)
        return moved.unflatten(0, (-1, self.length))

    def join(self, x: Tensor) -> Tensor:
        """Put documents (F, L, W) back where they were in their rows: (B, T, W), zeros in the padding."""
        moved: Tensor = _Rearrange.apply(x.flatten(0, 1), *self._to_rows, self._to_documents)
        return moved.unflatten(0, self.shape)


def splits_documents(document_ids: Tensor) -> bool:
    """Say whether documents get rows of their own: their number and lengths are then read on the host."""
    return document_ids.device.type == "cpu" and not torch.compiler.is_compiling()


def document_mask(document_ids: Tensor) -> Tensor:
    """Return where each position may look, (B, 1, T, T) bool: back, within its document."""
    same = document_ids.unsqueeze(2) == document_ids.unsqueeze(1)
    return same.tril().unsqueeze(1)


def has_flex_attention(document_ids: Tensor, head_size: int, dropout: float) -> bool:
    """Say whether FlexAttention can do it."""
    return document_ids.is_cuda and _HAS_TRITON and head_size >= _SMALLEST_FLEX_HEAD and not dropout


def flex_block_mask(document_ids: Tensor, *, is_causal: bool = True) -> Any:
    """Return FlexAttention's form of `document_mask`, which names the blocks that hold anything.

    Without `is_causal` a position looks all over its document.
    """
    rows, length = document_ids.shape

    def may_look(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        is_inside = document_ids[row, query] == document_ids[row, key]
        return (query >= key) & is_inside if is_causal else is_inside

    _, create_block_mask = _flex()
    return create_block_mask(may_look, rows, None, length, length, device=document_ids.device)


def flex_attention(query: Tensor, key: Tensor, value: Tensor, block_mask: Any) -> Tensor:
    """Return attention under a block mask; all shapes are (B, H, T, K)."""
    attend, _ = _flex()
    # Of one layout, since torch 2.13 compiles strided values beside contiguous keys to wrong results.
    mixed: Tensor = attend(query.contiguous(), key.contiguous(), value.contiguous(), block_mask=block_mask)
    return mixed


def _flex() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return FlexAttention and the builder of its masks: compiled, or plain inside code that is being compiled."""
    return _plain_flex() if torch.compiler.is_compiling() else _compiled_flex()


def _plain_flex() -> tuple[Callable[..., Any], Callable[..., Any]]:
    from torch.nn.attention import flex_attention as flex  # loads torch's compiler: seconds that others need not pay

    return flex.flex_attention, flex.create_block_mask


@cache
def _compiled_flex() -> tuple[Callable[..., Any], Callable[..., Any]]:
    attend, create_block_mask = _plain_flex()
    return torch.compile(attend), torch.compile(create_block_mask)
