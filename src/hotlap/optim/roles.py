"""The role of each parameter in a model: what decides its learning rate and whether its weights decay.

Works on any module: an embedding is told by its type, a head by its name, the rest by the number of dimensions.
"""

import re
from collections.abc import Mapping
from typing import Final, Literal

from torch import Tensor, nn

Role = Literal["embedding", "head", "matrix", "vector"]

_HEADS: Final = frozenset({"head", "lm_head", "embed_out"})
_NOT_DECAYED: Final = re.compile(r"bias|layernorm|rmsnorm|(^|\.)norm($|\.)|_norm($|\.)")


def roles_of(model: nn.Module) -> Mapping[str, Role]:
    """Return the role of each parameter by its name, in the model's order.

    A shared one stands there once; a head that shares the embedding's weight counts as embedding.
    """
    embeddings = _embeddings(model)
    return {name: _role(name, parameter, embeddings) for name, parameter in model.named_parameters()}


def names_without_decay(model: nn.Module) -> frozenset[str]:
    """Return the names of the parameters that weight decay leaves alone: biases and norms.

    The rule of Hugging Face's Trainer: what lies in a LayerNorm or has a name with bias or norm in it; an RMSNorm
    counts whatever its name.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm | nn.RMSNorm)]
    inside = {id(parameter) for norm in norms for parameter in norm.parameters()}
    return frozenset(
        name
        for name, parameter in model.named_parameters()
        if id(parameter) in inside or _NOT_DECAYED.search(name.lower())
    )


def _embeddings(model: nn.Module) -> set[int]:
    return {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}


def _role(name: str, parameter: Tensor, embeddings: set[int]) -> Role:
    if id(parameter) in embeddings:
        return "embedding"
    if parameter.ndim < 2:
        return "vector"
    owner = name.rpartition(".")[0]
    return "head" if owner.rpartition(".")[2] in _HEADS else "matrix"
