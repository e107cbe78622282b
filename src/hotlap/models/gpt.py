"""A decoder-only transformer, from GPT-2's shape to the choices of today's speedruns.

Shapes: B rows, T positions, D hidden size, H heads, K dimensions of a head, V vocabulary, P ≥ V rows of its tables, N
chosen positions.
Sources: GPT-2 (Radford 2019), RoPE (arXiv 2104.09864), RMSNorm (1910.07467), ReLU² (2109.08668), QK-norm
(2010.04245), SwiGLU (2002.05202); zero-initialised projections and the smear follow modded-nanogpt and nanochat.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hotlap.config.schema import GPTConfig
from hotlap.models.attention import causal_attention, cuts_queries
from hotlap.models.chosen import choose, positions_from
from hotlap.models.documents import (
    DocumentRows,
    document_mask,
    flex_attention,
    flex_block_mask,
    has_flex_attention,
    splits_documents,
)
from hotlap.models.dropout import Dropout
from hotlap.models.fused import Rotation, gelu_tanh, relu_squared, rms_norm, rotate
from hotlap.models.vocabulary import padded_vocab_size


@dataclass(slots=True)
class KeyValueCache:
    """Keys and values of the positions read so far, of each layer (B, H, T, K).

    They stand in room that is doubled when it is full: put together anew for each token, all of them would be copied
    each time.
    """

    last_embedding: Tensor | None = None
    """(B, 1, D): what the smear of the next position looks back at."""
    _rooms: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    _lengths: list[int] = field(default_factory=list)
    foreign: Any = None
    """What a model of transformers keeps in place of all that."""

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append new positions to a layer's pair and return the whole pair."""
        if layer == len(self._rooms):
            self._rooms.append((key, value))
            self._lengths.append(key.shape[2])
            return key, value
        first = self._lengths[layer]
        end = self._lengths[layer] = first + key.shape[2]
        keys, values = self._rooms[layer]
        if end > keys.shape[2]:
            keys, values = self._rooms[layer] = _roomier(keys, 2 * end), _roomier(values, 2 * end)
        keys[:, :, first:end], values[:, :, first:end] = key, value
        return keys[:, :, :end], values[:, :, :end]


def _roomier(kept: Tensor, length: int) -> Tensor:
    """Return a copy of (B, H, T, K) with room for so many positions."""
    room = kept.new_empty(*kept.shape[:2], length, kept.shape[3])
    room[:, :, : kept.shape[2]] = kept
    return room


@dataclass(slots=True)
class Context:
    """What the blocks need besides the activations."""

    rotation: Rotation | None
    """What queries and keys are turned by, where positions are rotary."""
    mask: Tensor | None = None
    """(B, 1, T, T_all) bool, True where a position may look; None means plain causal attention."""
    cache: KeyValueCache | None = None
    documents: DocumentRows | None = None
    """Where attention happens in rows of one document each; T in `rotation` is then their length."""
    block_mask: Any = None
    """FlexAttention's mask."""

    @property
    def is_plain(self) -> bool:
        """Whether each row is one document, as given."""
        return self.mask is None and self.documents is None and self.block_mask is None and self.cache is None


class Norm(nn.Module):
    """LayerNorm with weight and bias, or RMSNorm without weights."""

    def __init__(self, kind: str, width: int) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(width) if kind == "layer_norm" else None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        return rms_norm(x) if self.layer_norm is None else self.layer_norm(x)


class Attention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.num_heads = config.num_attention_heads
        self.qk_norm = config.qk_norm
        self.dropout = config.attn_pdrop
        self.implementation = config.attn_implementation
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=config.use_bias)
        self.projection = nn.Linear(config.hidden_size, config.hidden_size, bias=config.use_bias)

    def forward(self, x: Tensor, context: Context, chosen: Tensor | None = None) -> Tensor:
        """Map (B, T, D) to (B, T, D), or to (N, D) at the chosen positions."""
        first = 0
        is_cut = self.implementation is None and cuts_queries(x, x.shape[1], self._dropout)
        if chosen is not None and context.is_plain and is_cut:
            first, chosen = positions_from(chosen, x.shape[1])
        query, key, value = self._project(x, first, context.documents)
        if self.qk_norm:
            query, key = rms_norm(query), rms_norm(key)
        if context.rotation is not None:
            cosine, sine = context.rotation
            query = rotate(query, (cosine[..., first:, :], sine[..., first:, :]))
            key = rotate(key, context.rotation)
        if context.cache is not None:
            key, value = context.cache.extend(self.layer, key, value)
        mixed = self._mix(query, key, value, context).transpose(1, 2).flatten(2)
        mixed = mixed if context.documents is None else context.documents.join(mixed)
        return self.projection(choose(mixed, chosen))

    def _project(self, x: Tensor, first: int, documents: DocumentRows | None) -> list[Tensor]:
        """Return queries of the positions from `first` on, keys and values of all, each (B, H, positions, K)."""
        if first:
            sizes = (x.shape[-1], 2 * x.shape[-1])
            weights = self.qkv.weight.split(sizes)
            biases = (None, None) if self.qkv.bias is None else self.qkv.bias.split(sizes)
            parts = (
                F.linear(x[:, first:], weights[0], biases[0]),
                *F.linear(x, weights[1], biases[1]).chunk(2, dim=-1),
            )
        else:
            combined = self.qkv(x) if documents is None else documents.split(self.qkv(x))
            # Three views, as the gradients of three parts are put together in one copy, those of an unbind in two.
            parts = combined.chunk(3, dim=-1)
        return [part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in parts]

    def _mix(self, query: Tensor, key: Tensor, value: Tensor, context: Context) -> Tensor:
        """Return the values (B, H, T_all, K) mixed for each query: (B, H, T, K)."""
        if context.block_mask is not None:
            return flex_attention(query, key, value, context.block_mask)
        if context.mask is None:
            return causal_attention(query, key, value, self._dropout, self.implementation)
        return F.scaled_dot_product_attention(query, key, value, context.mask, self._dropout)

    @property
    def _dropout(self) -> float:
        return self.dropout if self.training else 0.0


class MLP(nn.Module):
    """The position-wise network."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.activation = config.hidden_act
        gated = self.activation == "swiglu"
        default = 16 * math.ceil(config.hidden_size * 8 / 3 / 16) if gated else 4 * config.hidden_size
        inner = config.intermediate_size or default
        self.up = nn.Linear(config.hidden_size, (2 if gated else 1) * inner, bias=config.use_bias)
        self.projection = nn.Linear(inner, config.hidden_size, bias=config.use_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        inner = self.up(x)
        if self.activation == "relu_squared":
            return self.projection(relu_squared(inner))
        if self.activation == "swiglu":
            gate, value = inner.chunk(2, dim=-1)
            return self.projection(F.silu(gate) * value)
        return self.projection(gelu_tanh(inner) if self.activation == "gelu_new" else F.gelu(inner))


class Block(nn.Module):
    """Attention and MLP, each behind a norm and added to the residual stream."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = Norm(config.norm, config.hidden_size)
        self.attention = Attention(config, layer)
        self.mlp_norm = Norm(config.norm, config.hidden_size)
        self.mlp = MLP(config)
        self.dropout = Dropout(config.resid_pdrop)

    def forward(self, x: Tensor, context: Context, chosen: Tensor | None = None) -> Tensor:
        """Map (B, T, D) to (B, T, D), or to (N, D) at the chosen positions: all look, but only those go on."""
        x = choose(x, chosen) + self.dropout(self.attention(self.attention_norm(x), context, chosen))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


class GPT(nn.Module):
    """The model: `hidden` gives the residual stream, `logits` the head's view of chosen positions of it."""

    def __init__(self, config: GPTConfig, vocab_size: int, *, gradient_checkpointing: bool = False) -> None:
        """Build the model; with `gradient_checkpointing` a block keeps its input only and runs again backwards.

        The tables have `padded_vocab_size` rows; those past the vocabulary are never read and give no logit.
        """
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        self.gradient_checkpointing = gradient_checkpointing
        width, rows = config.hidden_size, padded_vocab_size(vocab_size)
        self.embedding = nn.Embedding(rows, width)
        self.positions = nn.Embedding(config.max_position_embeddings, width) if config.positions == "learned" else None
        self.smear_gate = nn.Parameter(torch.zeros(width)) if config.smear else None
        self.dropout = Dropout(config.embd_pdrop)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.final_norm = Norm(config.norm, width)
        self.head = None if config.tie_word_embeddings else nn.Linear(width, rows, bias=False)
        self._initialise()

    def _initialise(self) -> None:
        config = self.config
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=config.initializer_range)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for name, weight in self.named_parameters():
            if name.endswith("projection.weight"):  # what is added 2·layers times starts smaller, as in GPT-2
                std = 0.0 if config.zero_init_projections else config.initializer_range
                nn.init.normal_(weight, std=std / math.sqrt(2 * config.num_hidden_layers))
        if self.head is not None and config.zero_init_projections:
            nn.init.zeros_(self.head.weight)

    @property
    def head_weight(self) -> Tensor:
        """The matrix (P, D) that `logits` multiplies with."""
        return self.embedding.weight if self.head is None else self.head.weight

    def hidden(
        self,
        input_ids: Tensor,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        cache: KeyValueCache | None = None,
        is_real: Tensor | None = None,
        document_ids: Tensor | None = None,
        chosen: Tensor | None = None,
    ) -> Tensor:
        """Return the normalised residual stream (B, T, D) of input_ids (B, T), or (N, D) at the chosen positions.

        `positions` (B, T) default to 0, 1, …; `mask` and `cache` serve generation; `is_real` (B, T) is False on
        padding that stands before a row. `document_ids` (B, T), with `positions` that restart in each document, keeps
        apart the documents of a row; padding has a negative one. `chosen` (N,) are places in the flattened (B·T),
        each named once: past the last attention nothing is computed for the others.
        """
        if chosen is not None and not torch.compiler.is_compiling() and len(chosen) == input_ids.numel():
            chosen = None  # all of them, in order
        x = self.embedding(input_ids)
        if is_real is not None:
            x = x * is_real.unsqueeze(-1)
        if positions is None:
            positions = torch.arange(input_ids.shape[1], device=input_ids.device).unsqueeze(0)
        if self.smear_gate is not None:
            x = x + self.smear_gate * self._previous(x, cache, document_ids)
        if self.positions is not None:
            x = x + self.positions(positions)
        x = self.dropout(x)
        context = self._context(positions, mask, cache, document_ids)
        last = len(self.blocks) - 1
        for layer, block in enumerate(self.blocks):
            wanted = chosen if layer == last else None
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, context, wanted, use_reentrant=False)
            else:
                x = block(x, context, wanted)
        return self.final_norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits (…, V) of hidden states (…, D)."""
        logits = F.linear(hidden, self.head_weight)
        return logits if logits.shape[-1] == self.vocab_size else logits[..., : self.vocab_size]

    def _context(
        self, positions: Tensor, mask: Tensor | None, cache: KeyValueCache | None, document_ids: Tensor | None
    ) -> Context:
        """Return what the blocks need; documents are kept apart by the way that is quickest on the device."""
        documents = block_mask = None
        if document_ids is not None:
            head_size = self.config.hidden_size // self.config.num_attention_heads
            if splits_documents(document_ids):
                documents = DocumentRows(document_ids)
                positions = torch.arange(documents.length).unsqueeze(0)
            elif has_flex_attention(document_ids, head_size, self.config.attn_pdrop if self.training else 0.0):
                block_mask = flex_block_mask(document_ids)
            else:
                mask = document_mask(document_ids)
        rotation = self._rotation(positions) if self.positions is None else None
        return Context(rotation, mask, cache, documents, block_mask)

    def _previous(self, x: Tensor, cache: KeyValueCache | None, document_ids: Tensor | None) -> Tensor:
        """Return for each position of x (B, T, D) the embedding before it, zero before the first of a document."""
        before = x[:, :-1]
        if document_ids is not None:
            before = before * (document_ids[:, 1:] == document_ids[:, :-1]).unsqueeze(-1)
        if cache is not None and cache.last_embedding is not None:
            previous = torch.cat([cache.last_embedding, before], dim=1)
        else:
            previous = F.pad(before, (0, 0, 1, 0))
        if cache is not None:
            cache.last_embedding = x[:, -1:]
        return previous

    def _rotation(self, positions: Tensor) -> Rotation:
        pairs = self.config.hidden_size // self.config.num_attention_heads // 2
        exponent = torch.arange(pairs, device=positions.device, dtype=torch.float32) / pairs
        angles = positions.float().unsqueeze(-1) * self.config.rope_theta**-exponent
        return angles.cos().unsqueeze(1), angles.sin().unsqueeze(1)
