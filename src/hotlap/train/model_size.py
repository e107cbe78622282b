"""How large a model is, in what decides about memory and work."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hotlap.config.schema import GPTConfig
from hotlap.models.gpt import GPT
from hotlap.models.word_latent import WordLatent
from hotlap.train.objective import LARGE_VOCABULARY


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """What the arithmetic needs to know of a transformer."""

    num_trained: int
    """Parameters that are trained."""
    trained_bytes: int
    frozen_bytes: int = 0
    hidden_size: int = 1
    num_layers: int = 0
    vocab_size: int = 0
    num_heads: int = 0
    """Heads whose attention weights are kept on a CPU; 0 where they are not."""
    inner_size: int = 0
    """Width inside the MLP; 0: 4 x hidden_size."""
    is_gated: bool = False
    """Whether the MLP multiplies two projections."""
    num_copied: int = 0
    """Weights that bf16 autocast makes copies of."""
    is_gpt: bool = False
    """Whether it is hotlap's own, whose last block goes on with the targets' positions alone."""
    has_rms_norm: bool = False
    has_qk_norm: bool = False
    has_residual_dropout: bool = False
    has_attention_dropout: bool = False
    num_kept_embeddings: int = 0
    """Tensors of the embedding's size that are kept: by its dropout, by the look back."""
    word_parts: tuple["ModelSize", ...] = ()
    """Encoder, transformer over words and decoder of a model that reads words, in place of layers of its own."""
    max_word_length: int = 0
    """Places of such a word, with its marks."""


def size_of(model: nn.Module) -> ModelSize:
    """Return the size of a model, by its settings where it has them, else by its modules.

    The largest table is the embedding then, and blocks are in module lists.
    """
    if isinstance(model, WordLatent):
        return _size_of_words(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    tables = [module.weight.shape for module in model.modules() if isinstance(module, nn.Embedding)]
    rows, width = max(tables, key=lambda shape: shape.numel(), default=(0, 1))
    lists = [len(module) for module in model.modules() if isinstance(module, nn.ModuleList)]
    config: Any = getattr(model, "config", None)
    own = config if isinstance(config, GPTConfig) else None
    embedded = 0 if own is None else int(own.embd_pdrop > 0) + int(own.smear)
    vocab_size = _number(model, "vocab_size") or rows
    return ModelSize(
        num_trained=sum(parameter.numel() for parameter in trained),
        trained_bytes=sum(parameter.numel() * parameter.element_size() for parameter in trained),
        frozen_bytes=sum(parameter.numel() * parameter.element_size() for parameter in frozen),
        hidden_size=_number(config, "hidden_size") or width,
        num_layers=_number(config, "num_hidden_layers") or max(lists, default=0),
        vocab_size=vocab_size,
        num_heads=own.num_attention_heads if own is not None else 0,
        inner_size=_number(config, "intermediate_size") or (_inner_of(model) if isinstance(model, GPT) else 0),
        is_gated=own.hidden_act == "swiglu" if own is not None else hasattr(config, "rms_norm_eps"),
        num_copied=_num_copied(model, is_head_copied=vocab_size < LARGE_VOCABULARY),
        is_gpt=own is not None,
        has_rms_norm=own is not None and own.norm == "rms_norm",
        has_qk_norm=own is not None and own.qk_norm,
        has_residual_dropout=own is not None and own.resid_pdrop > 0,
        has_attention_dropout=own is not None and own.attn_pdrop > 0,
        num_kept_embeddings=embedded,
    )


def _size_of_words(model: WordLatent) -> ModelSize:
    """Return the size of a model over words; all of it is trained."""
    count, is_gated = sum(parameter.numel() for parameter in model.parameters()), model.config.hidden_act == "swiglu"
    parts = (
        ModelSize(
            num_trained=0,
            trained_bytes=0,
            hidden_size=shape.hidden_size,
            num_layers=shape.num_hidden_layers,
            inner_size=shape.intermediate_size or (8 * shape.hidden_size // 3 if is_gated else 0),
            is_gated=is_gated,
            has_rms_norm=model.config.norm == "rms_norm",
            has_qk_norm=model.config.qk_norm,
        )
        for shape in (model.config.encoder, model.config.latent, model.config.decoder)
    )
    return ModelSize(
        num_trained=count,
        trained_bytes=4 * count,
        hidden_size=model.config.decoder.hidden_size,
        vocab_size=model.vocab_size,
        word_parts=tuple(parts),
        max_word_length=model.config.max_word_length,
        num_copied=_num_copied(model, is_head_copied=True),
    )


def _num_copied(model: nn.Module, *, is_head_copied: bool) -> int:
    """Return the weights that bf16 autocast copies: those of matrix products in fp32, a tied table's among them."""
    head = getattr(model, "head_weight", None)
    head = head if isinstance(head, torch.Tensor) else None
    found = {id(module.weight): module.weight for module in model.modules() if isinstance(module, nn.Linear)}
    if head is not None and is_head_copied:
        found[id(head)] = head
    elif head is not None:
        found.pop(id(head), None)
    return sum(weight.numel() for weight in found.values() if weight.dtype == torch.float32)


def _number(owner: object, name: str) -> int:
    """Return a whole number that something may have among its attributes, else 0."""
    found = getattr(owner, name, None)
    return found if isinstance(found, int) else 0


def _inner_of(model: GPT) -> int:
    """Return the width inside a GPT's MLP."""
    projections = [weight for name, weight in model.named_parameters() if name.endswith("mlp.projection.weight")]
    return projections[0].shape[1] if projections else 0
