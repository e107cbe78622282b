"""Build the model that a section `model` describes: hotlap's own, one of transformers, or one of the project's."""

from collections.abc import Callable
from typing import Any

from torch import nn

from hotlap.config.models import HFModelConfig
from hotlap.config.schema import GPTConfig, RunConfig
from hotlap.config.word_latent import WordLatentConfig
from hotlap.core.errors import ConfigError
from hotlap.models.gpt import GPT
from hotlap.models.gpt2 import read_gpt2
from hotlap.models.hf_build import build_hf
from hotlap.models.protocol import takes_documents
from hotlap.models.word_latent import WordLatent


def build_model(
    config: RunConfig, vocab_size: int, custom: Callable[..., Any] | None, *, reads_weights: bool = True
) -> nn.Module:
    """Return the model for a tokenizer of so many tokens, with fresh or pretrained weights.

    `custom` is the function of the project that `model.name` names. Without `reads_weights` pretrained ones of a GPT
    are left out: others follow. Raises ConfigError for a model that cannot be built, or that cannot be trained as the
    config wants.
    """
    section, checkpoints = config.model, config.training.gradient_checkpointing
    model: nn.Module
    if isinstance(section, GPTConfig):
        gpt = GPT(section, vocab_size, gradient_checkpointing=checkpoints)
        if section.model_name_or_path is not None and reads_weights:
            read_gpt2(gpt, section.model_name_or_path)
        return gpt
    if isinstance(section, WordLatentConfig):
        return WordLatent(section, gradient_checkpointing=checkpoints)
    if isinstance(section, HFModelConfig):
        model = build_hf(section, vocab_size, gradient_checkpointing=checkpoints)
    else:
        assert custom is not None, section.name
        model = custom(vocab_size, **(section.model_extra or {}))
        _refuse_other_things(section.name, model)
    if config.training.padding == "packed" and not takes_documents(model):
        raise ConfigError(
            f"padding: packed needs a model that keeps documents apart; hidden() of {section.name} takes no "
            "positions and document_ids; use padding: bucketed"
        )
    return model


def _refuse_other_things(name: str, model: Any) -> None:
    """Raise ConfigError when what the project's function returned is no model."""
    missing = [method for method in ("hidden", "logits") if not callable(getattr(model, method, None))]
    if not isinstance(model, nn.Module) or missing:
        raise ConfigError(
            f"model.name: {name} has to return a torch.nn.Module with the methods hidden and logits, got "
            f"{type(model).__name__}{' without ' + ' and '.join(missing) if missing else ''}"
        )


def longest_input(section: object, model: nn.Module) -> int | None:
    """Return the tokens of the longest row that a model takes, None where it says nothing of that."""
    if isinstance(section, GPTConfig):
        return section.max_position_embeddings
    limit = getattr(model, "max_positions", None)
    return limit if isinstance(limit, int) else None
