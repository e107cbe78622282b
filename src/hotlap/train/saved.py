"""A model with saved weights and its tokenizer, from nothing but files; no data are prepared for it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hotlap.config.base import is_part
from hotlap.config.schema import RunConfig
from hotlap.config.tasks import task_parts
from hotlap.data.saved_tokenizer import load_saved_tokenizer
from hotlap.data.tokenizers import Tokenizer
from hotlap.models.build import build_model
from hotlap.train.build import set_up_device
from hotlap.train.checkpoint import load_weights
from hotlap.train.custom import load_part
from hotlap.train.distributed import World, pick_device


@dataclass(frozen=True, slots=True)
class SavedSpeaker:
    """What text is generated with after a training."""

    config: RunConfig
    device: torch.device
    tokenizer: Tokenizer
    model: nn.Module


def load_speaker(
    config: RunConfig, directory: Path, cache: Path, weights: Path, tokenizer_hash: str | None
) -> SavedSpeaker:
    """Return the model of a config with saved weights, in evaluation mode.

    `tokenizer_hash` names the tokenizer of the run, where that is known. Raises StorageError for weights that cannot be
    read, ConfigError for weights that do not fit the model, DataError for a tokenizer that is gone.
    """
    training = config.training
    world = World(0, 1, 0, pick_device(training))
    set_up_device(training, world)
    tokenizer = load_saved_tokenizer(
        config,
        directory,
        cache,
        tokenizer_hash,
        lambda: {key: load_part(directory, name) for key, name in task_parts(config.task).items()},
    )
    custom = _part(directory, config.model.name)
    model = build_model(config, tokenizer.vocab_size, custom, reads_weights=False).to(world.device)
    load_weights(model, weights, world.device)
    return SavedSpeaker(config, world.device, tokenizer, model.eval())


def _part(directory: Path, name: str) -> Callable[..., Any] | None:
    """Return the function of the project that a name names, None for a name of hotlap's own."""
    return load_part(directory, name) if is_part(name) else None
