"""A causal language model of transformers behind `CausalLM`: body and head apart, so that the head sees what counts.

What such a model can do is tried out once on a few tokens, since its code is not ours: whether no position looks ahead,
whether its logits are those of its head on its body's hidden states, whether it keeps documents apart under a mask and
goes on from a cache.

Shapes: B rows, T positions, A positions so far, D hidden size, N chosen positions, V vocabulary.
"""

from collections.abc import Mapping
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hotlap.core.errors import ConfigError, import_optional
from hotlap.models.chosen import choose
from hotlap.models.documents import document_mask
from hotlap.models.gpt import KeyValueCache

_TRIED: Final = 8  # tokens of a trial
_LIMITED: Final = ("sliding_window", "attention_chunk_size")
"""Settings of models whose layers look back a part of the way: a mask of ours would take that from them."""


class HFCausalLM(nn.Module):
    """A model of transformers that is given rows of one document each, padded on the right."""

    def __init__(self, model: Any, vocab_size: int) -> None:
        """Wrap a model; of its vocabulary, `vocab_size` tokens are in use."""
        super().__init__()
        self.model = model
        self.vocab_size = vocab_size
        self.is_split = False
        """Whether the logits are those of the head on the body's hidden states, and of nothing else."""
        self._is_plain_head = False
        self.register_state_dict_post_hook(_drop_frozen)
        self.register_load_state_dict_post_hook(_miss_no_frozen)

    @property
    def config(self) -> Any:
        """The model's config of transformers, where its shape stands."""
        return self.model.config.get_text_config(decoder=True)

    @property
    def max_positions(self) -> int | None:
        """Longest sequence in tokens, None where the model has no limit of its own."""
        limit = getattr(self.config, "max_position_embeddings", None)
        return int(limit) if limit else None

    @property
    def head_weight(self) -> Tensor | None:
        """The matrix (rows ≥ V, D) that `logits` multiplies with, None where it does something else besides."""
        return self._head.weight if self._is_plain_head and type(self._head) is nn.Linear else None

    def hidden(self, input_ids: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Return the last hidden states (B, T, D) of input_ids (B, T), or (N, D) at the chosen positions."""
        return choose(self._run(input_ids, {}), chosen)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits (…, V) of hidden states (…, D)."""
        logits: Tensor = self._head(hidden) if self.is_split else hidden
        return logits if logits.shape[-1] == self.vocab_size else logits[..., : self.vocab_size]

    @property
    def _head(self) -> Any:
        return self.model.get_output_embeddings()

    def _run(self, input_ids: Tensor, arguments: Mapping[str, Any]) -> Tensor:
        """Return the body's last hidden states; where body and head cannot be told apart, the logits."""
        given = {"use_cache": False, **arguments}
        found: Tensor
        if self.is_split:
            found = self.model.base_model(input_ids=input_ids, **given).last_hidden_state
        else:
            found = self.model(input_ids=input_ids, **given).logits
        return found

    def try_out(self) -> None:
        """Find out how the model can be used; call it once, before the training.

        Raises ConfigError for one that looks ahead. It takes no random numbers.
        """
        was_training = self.training
        self.eval()
        with torch.no_grad():
            ids = self._trial()
            whole = self._run(ids, {})
            self._refuse_looking_ahead(ids, whole)
            self.is_split = self._finds_the_same(ids, whole)
        self.train(was_training)

    def _trial(self) -> Tensor:
        device = next(self.parameters()).device
        return (torch.arange(2 * _TRIED, device=device) % self.vocab_size).view(2, _TRIED)

    def _finds_the_same(self, ids: Tensor, whole: Tensor) -> bool:
        """Say whether body and head apart give the logits of the whole model."""
        if self._head is None or self.model.base_model is self.model:
            return False
        try:
            hidden = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
            if not is_close(self._head(hidden), whole):
                return False
        except (AttributeError, TypeError, ValueError, RuntimeError):
            return False
        head = self._head
        has_matrix = type(head) is nn.Linear and head.bias is None
        self._is_plain_head = has_matrix and is_close(F.linear(hidden, head.weight), whole)
        return True

    def _refuse_looking_ahead(self, ids: Tensor, whole: Tensor) -> None:
        """Raise ConfigError when the last token changes what is said before it."""
        other = ids.clone()
        other[:, -1] = (other[:, -1] + 1) % self.vocab_size
        if not is_close(self._run(other, {})[:, :-1], whole[:, :-1]):
            raise ConfigError(
                f"model: {type(self.model).__name__} lets a position look at later ones, so it learns to copy and not "
                "to predict; use a decoder (or its is_decoder: true in config_overrides)"
            )


class MaskedHFCausalLM(HFCausalLM):
    """One that takes masks and positions as well: it keeps the documents of a row apart, and generates with a cache."""

    def hidden(  # type: ignore[override]  # the same beside what is new
        self,
        input_ids: Tensor,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        cache: KeyValueCache | None = None,
        is_real: Tensor | None = None,
        document_ids: Tensor | None = None,
        chosen: Tensor | None = None,
    ) -> Tensor:
        """Return the last hidden states (B, T, D) of input_ids (B, T), or (N, D) at the chosen positions.

        `mask` (B, 1, T, A) is True where a position may look; the other arguments are those of `GPT.hidden`. Padding
        before a row, where `is_real` is False, has to be hidden by the mask.
        """
        arguments: dict[str, Any] = {} if positions is None else {"position_ids": positions}
        if document_ids is not None:
            mask = document_mask(document_ids)
        if mask is not None:
            arguments["attention_mask"] = self._as_it_takes(mask)
        if cache is not None:
            if cache.foreign is None:
                transformers: Any = import_optional("transformers", "hf")
                cache.foreign = transformers.DynamicCache()
            arguments |= {"past_key_values": cache.foreign, "use_cache": True}
        return choose(self._run(input_ids, arguments), chosen)

    def _as_it_takes(self, mask: Tensor) -> Tensor:
        """Return a mask in the form that the attention adds to its scores, or takes as it is."""
        if self.model.config._attn_implementation == "sdpa":
            return mask
        return torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, torch.finfo(torch.float32).min)

    def keeps_masks(self) -> bool:
        """Say whether it does what its arguments say; takes no random numbers."""
        self.eval()
        try:
            with torch.no_grad():
                return self._keeps_documents_apart() and self._goes_on_from_a_cache()
        except (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError):
            return False

    def _keeps_documents_apart(self) -> bool:
        ids = self._trial()
        alone = self.hidden(ids)
        numbers = torch.arange(_TRIED, device=ids.device)
        positions = torch.cat([numbers, numbers, numbers]).unsqueeze(0)
        documents = torch.tensor([[0] * _TRIED + [1] * _TRIED + [-1] * _TRIED], device=ids.device)
        packed = torch.cat([ids.view(1, -1), torch.zeros_like(ids[:1])], dim=1)
        together = self.hidden(packed, positions, document_ids=documents)
        return is_close(together[:, : 2 * _TRIED].view(alone.shape), alone)

    def _goes_on_from_a_cache(self) -> bool:
        """Say whether a prompt with padding before it, and one token after it, give what the row gives at once."""
        ids, half = self._trial()[1:], _TRIED // 2
        prompt = torch.cat([torch.zeros_like(ids[:, :2]), ids[:, :half]], dim=1)
        is_real = torch.arange(half + 2, device=ids.device).unsqueeze(0) >= 2
        positions = (is_real.cumsum(1) - 1).clamp_min(0)
        size = half + 2
        causal = torch.ones(size, size, dtype=torch.bool, device=ids.device).tril()
        own = torch.eye(size, dtype=torch.bool, device=ids.device)
        mask = ((causal & is_real.unsqueeze(1)) | own).unsqueeze(1)
        cache, expected = KeyValueCache(), self.hidden(ids)
        first = self.hidden(prompt, positions, mask, cache, is_real)[:, -1]
        seen = torch.cat([is_real, torch.ones_like(is_real[:, :1])], dim=1)
        following = self.hidden(ids[:, half : half + 1], positions[:, -1:] + 1, seen[:, None, None], cache)[:, -1]
        return is_close(first, expected[:, half - 1]) and is_close(following, expected[:, half])


def has_limited_layers(config: Any) -> bool:
    """Say whether some layers of a model of transformers look back a part of the way only."""
    kinds = getattr(config, "layer_types", None) or ()
    if any(kind != "full_attention" for kind in kinds):
        return True
    has_window = any(getattr(config, name, None) for name in _LIMITED)
    return bool(has_window and getattr(config, "use_sliding_window", True) and not kinds)


def is_close(one: Tensor, other: Tensor) -> bool:
    """Say whether two tensors differ by no more than their type's rounding may add up to."""
    if one.shape != other.shape:
        return False
    tolerance = 1e-4 if one.dtype == torch.float32 else 5e-2
    scale = float(other.float().abs().max()) or 1.0
    return bool((one.float() - other.float()).abs().max() <= tolerance * scale)


def _drop_frozen(module: nn.Module, state: dict[str, Tensor], prefix: str, _: object) -> None:
    """Leave weights that are not trained out of a state: they come from their own files."""
    for name in _frozen(module):
        state.pop(f"{prefix}{name}", None)


def _miss_no_frozen(module: nn.Module, incompatible: Any) -> None:
    """Miss no weight that is not trained when a state is loaded."""
    frozen = _frozen(module)
    incompatible.missing_keys[:] = [name for name in incompatible.missing_keys if name not in frozen]


def _frozen(module: nn.Module) -> set[str]:
    """Return the names of everything that a state leaves out: nothing unless something is trained beside it."""
    parameters = dict(module.named_parameters(remove_duplicate=False))
    return {name for name, parameter in parameters.items() if not parameter.requires_grad}
