"""What hotlap asks of a model, its own or one of the project's."""

import inspect
from typing import Any, Protocol

from torch import Tensor, nn

from hotlap.models.word_latent import WordLatent


class CausalLM(Protocol):
    """A language model in two halves, so that the head sees the tokens that count and no others.

    A model of your own is an `nn.Module` with these two methods, returned by a function that takes the size of the
    vocabulary and the keys of the section `model`. Of `hidden` it needs `input_ids` alone. The rest is for features:
    `positions` and `document_ids` for `padding: packed`, `positions`, `mask`, `cache` and `is_real` for the metrics
    that generate text; `chosen` spares work: the positions whose hidden states are wanted, given back as (N, D). A
    matrix `head_weight` (V, D), where `logits` is nothing but the product with it, makes the loss over a large
    vocabulary quicker; it may have rows for no token at its end, which `logits` leaves out. Position t may depend on
    tokens 0 … t only. Tied weights share the tensor.
    """

    def hidden(
        self,
        input_ids: Tensor,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        cache: Any = None,
        is_real: Tensor | None = None,
        document_ids: Tensor | None = None,
        chosen: Tensor | None = None,
    ) -> Tensor:
        """Return the last hidden states (B, T, D) of input_ids (B, T); `GPT.hidden` describes the arguments."""

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits (…, V) of hidden states (…, D)."""


def takes_documents(model: nn.Module) -> bool:
    """Say whether a model keeps apart several documents in a row, which `padding: packed` needs."""
    return _takes(model, "positions", "document_ids")


def hidden_at(
    model: nn.Module,
    chosen: Tensor,
    input_ids: Tensor,
    positions: Tensor | None = None,
    document_ids: Tensor | None = None,
) -> Tensor:
    """Return a `CausalLM`'s last hidden states (N, D) at `chosen` (N,) of the flattened (B·T) of input_ids (B, T)."""
    hidden: Any = model.hidden
    documents = {} if document_ids is None else {"positions": positions, "document_ids": document_ids}
    if _takes(model, "chosen"):
        found: Tensor = hidden(input_ids, chosen=chosen, **documents)
        return found.flatten(0, -2)
    everywhere: Tensor = hidden(input_ids, **documents)
    return everywhere.flatten(0, 1).index_select(0, chosen)


def can_generate(model: nn.Module) -> bool:
    """Say whether a model can generate text bit by bit, which chrF, BLEU and exact match need."""
    return isinstance(model, WordLatent) or _takes(model, "positions", "mask", "cache", "is_real")


def _takes(model: nn.Module, *names: str) -> bool:
    hidden: Any = model.hidden
    return set(names) <= set(inspect.signature(hidden).parameters)
