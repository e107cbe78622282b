"""Transformer blocks over many short rows of several lengths at once, without computing on padding.

The rows of all lengths lie one after the other in one flat tensor: matrix products, norms and MLPs see all of it in
one call, whatever the lengths. Only attention looks at rows, group by group; a group is rows of one length, so that it
needs no mask. Padded rows are a group of their own kind, with a mask. On a GPU FlexAttention (arXiv 2412.05496) looks
at all groups in one call.

Shapes: N places of all groups together, D hidden size, H heads, K dimensions of a head, n rows of a group of length L.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hotlap.config.models import GPTConfig
from hotlap.models.documents import flex_attention, flex_block_mask, has_flex_attention
from hotlap.models.few_sizes import filled
from hotlap.models.fused import Rotation, rms_norm, rotate
from hotlap.models.gpt import MLP, KeyValueCache, Norm
from hotlap.models.row_attention import row_attention


@dataclass(frozen=True, slots=True)
class Rows:
    """A group of rows that have one length."""

    count: int
    length: int
    mask: Tensor | None = None
    """(n or 1, 1, L, L or 1) bool, True where a place may look; None: everywhere, or back where that is the rule."""

    @property
    def places(self) -> int:
        """n·L."""
        return self.count * self.length


@dataclass(slots=True)
class Layout:
    """How the flat places are read as rows."""

    groups: Sequence[Rows]
    rotation: Rotation
    """Cosines and sines of each place's position, (N, 1, K/2)."""
    is_causal: bool
    """Whether a place looks at itself and back only, where its group has no mask."""
    cache: KeyValueCache | None = None
    """Keys and values of what was read before; there is one group then."""
    block_mask: Any = None
    """FlexAttention's mask, where the rows of all groups are looked at together."""


def rotation_of(positions: Tensor, head_size: int, theta: float) -> Rotation:
    """Return what places at `positions` (N,) are turned by (RoPE, arXiv 2104.09864)."""
    exponent = torch.arange(head_size // 2, device=positions.device, dtype=torch.float32) / (head_size // 2)
    angles = positions.float().view(-1, 1, 1) * theta**-exponent
    return angles.cos(), angles.sin()


class RowAttention(nn.Module):
    """Multi-head self-attention inside the rows of a layout."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.num_heads = config.num_attention_heads
        self.qk_norm = config.qk_norm
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=config.use_bias)
        self.projection = nn.Linear(config.hidden_size, config.hidden_size, bias=config.use_bias)

    def forward(self, x: Tensor, layout: Layout, chosen: Tensor | None) -> Tensor:
        """Map (N, D) to (N, D), or to the chosen places of it."""
        query, key, value = (part.unflatten(-1, (self.num_heads, -1)) for part in self.qkv(x).chunk(3, dim=-1))
        if self.qk_norm:
            query, key = rms_norm(query), rms_norm(key)
        query, key = rotate(query, layout.rotation), rotate(key, layout.rotation)
        if layout.block_mask is not None:
            q, k, v = (part.transpose(0, 1).unsqueeze(0) for part in (query, key, value))
            together = flex_attention(q, k, v, layout.block_mask).squeeze(0).transpose(0, 1).flatten(1)
            return self.projection(together if chosen is None else together.index_select(0, chosen))
        sizes = [rows.places for rows in layout.groups]
        parts = zip(query.split(sizes), key.split(sizes), value.split(sizes), layout.groups, strict=True)
        mixed = [self._mix(*part, layout) for part in parts]
        joined = mixed[0] if len(mixed) == 1 else torch.cat(mixed)
        return self.projection(joined if chosen is None else joined.index_select(0, chosen))

    def _mix(self, query: Tensor, key: Tensor, value: Tensor, rows: Rows, layout: Layout) -> Tensor:
        """Return what a group's places (n·L, H, K) gather, (n·L, D)."""
        parts = [part.view(rows.count, rows.length, *part.shape[1:]) for part in (query, key, value)]
        if rows.mask is None and layout.cache is None:
            parts = [filled(part) for part in parts]
        q, k, v = (part.transpose(1, 2) for part in parts)
        if layout.cache is not None:
            k, v = layout.cache.extend(self.layer, k, v)
        is_causal = layout.is_causal and rows.length > 1  # a single place sees all of the cache
        mixed = row_attention(q, k, v, rows.mask, is_causal=is_causal)
        return mixed.transpose(1, 2).flatten(0, 1).flatten(1)[: rows.places]


class RowBlock(nn.Module):
    """Attention and MLP, each behind a norm and added to the residual stream."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = Norm(config.norm, config.hidden_size)
        self.attention = RowAttention(config, layer)
        self.mlp_norm = Norm(config.norm, config.hidden_size)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, layout: Layout, chosen: Tensor | None) -> Tensor:
        """Map (N, D) to (N, D), or to the chosen places of it: all look, but only those go on."""
        kept = x if chosen is None else x.index_select(0, chosen)
        x = kept + self.attention(self.attention_norm(x), layout, chosen)
        return x + self.mlp(self.mlp_norm(x))


class RowTransformer(nn.Module):
    """Blocks and a last norm."""

    def __init__(self, config: GPTConfig, *, gradient_checkpointing: bool = False) -> None:
        """Build it; with `gradient_checkpointing` a block keeps its input only and runs again backwards."""
        super().__init__()
        self.config = config
        self.gradient_checkpointing = gradient_checkpointing
        self.blocks = nn.ModuleList(RowBlock(config, layer) for layer in range(config.num_hidden_layers))
        self.final_norm = Norm(config.norm, config.hidden_size)

    @property
    def head_size(self) -> int:
        """K."""
        return self.config.hidden_size // self.config.num_attention_heads

    def forward(
        self,
        x: Tensor,
        groups: Sequence[Rows],
        *,
        is_causal: bool,
        chosen: Tensor | None = None,
        positions: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Map (N, D) to the normalised residual stream (N, D), or to (M, D) at the chosen places (M,).

        `positions` (N,) are counted from 0 in each row where they are not given.
        """
        if positions is None:
            if chosen is not None and cache is None and len(more := filled(x)) > len(x):
                x, groups = more, [*groups, Rows(len(more) - len(x), 1)]
            positions = row_positions(groups, x.device)
        rotation = rotation_of(positions, self.head_size, self.config.rope_theta)
        layout = Layout(groups, rotation, is_causal, cache, self._block_mask(groups, x, is_causal=is_causal))
        last = len(self.blocks) - 1
        for layer, block in enumerate(self.blocks):
            wanted = chosen if layer == last else None
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, layout, wanted, use_reentrant=False)
            else:
                x = block(x, layout, wanted)
        return self.final_norm(x)

    def _block_mask(self, groups: Sequence[Rows], x: Tensor, *, is_causal: bool) -> Any:
        """Return what lets FlexAttention look at all groups in one call on a GPU, where each call has its price."""
        if len(groups) == 1 or any(rows.mask is not None for rows in groups):
            return None
        if not has_flex_attention(x, self.head_size, 0.0):
            return None
        return flex_block_mask(row_numbers(groups, x.device).unsqueeze(0), is_causal=is_causal)


def row_numbers(groups: Sequence[Rows], device: torch.device) -> Tensor:
    """Return the number (N,) of each place's row among the rows of all groups."""
    counts = torch.tensor([rows.count for rows in groups], device=device)
    lengths = torch.tensor([rows.length for rows in groups], device=device).repeat_interleave(counts)
    return torch.arange(len(lengths), device=device).repeat_interleave(lengths)


def row_positions(groups: Sequence[Rows], device: torch.device) -> Tensor:
    """Return the positions (N,) of all places, counted from 0 in each row."""
    return torch.cat([torch.arange(rows.length, device=device).repeat(rows.count) for rows in groups])
