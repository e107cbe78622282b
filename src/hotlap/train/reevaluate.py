"""Evaluate saved weights from nothing but files: the config, the data and the weights.

No training is built for it: no optimizer, no batches, no compiling, no probing of batch sizes.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hotlap.config.parts import custom_parts
from hotlap.config.schema import RunConfig
from hotlap.data.encoding import Examples
from hotlap.data.load import load_held_out
from hotlap.data.tokenizers import Tokenizer
from hotlap.models.build import build_model
from hotlap.models.protocol import can_generate
from hotlap.tasks.examples import Task, num_shared
from hotlap.train.build import set_up_device
from hotlap.train.checkpoint import load_weights
from hotlap.train.custom import load_part
from hotlap.train.distributed import World, pick_device
from hotlap.train.evaluate import Evaluator, evaluated_data
from hotlap.train.probe import probe_model


@dataclass(frozen=True, slots=True)
class SavedModel:
    """A model with saved weights, and the examples that it is evaluated on."""

    config: RunConfig
    world: World
    task: Task
    tokenizer: Tokenizer
    eval: Examples
    model: nn.Module

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return self.world.device

    @property
    def can_generate(self) -> bool:
        """Whether the task asks for completions and the model can generate them."""
        return self.task.has_completions and can_generate(self.model)


def reevaluate(
    config: RunConfig, directory: Path, cache: Path, weights: Path, *, generates: bool = False
) -> dict[str, Any]:
    """Return what the weights give on the evaluation data (`eval`) and on the audit data (`audit`, None without any).

    Each part has the facts of its examples and `metrics`; `shared` counts the evaluation examples that are trained on,
    too; `probes` says what speaks against the model itself. Raises DataError for an unusable corpus, StorageError for
    weights that cannot be read and ConfigError for weights that do not fit the model.
    """
    training = config.training
    world = World(0, 1, 0, pick_device(training))
    set_up_device(training, world)
    wanted = {key: name for key, name in custom_parts(config).items() if not key.startswith("training.")}
    custom = {key: load_part(directory, name) for key, name in wanted.items()}
    task, tokenizer, evaluation, audit = load_held_out(config, directory, cache, custom)
    model = build_model(config, tokenizer.vocab_size, custom.get("model.name"), reads_weights=False).to(world.device)
    load_weights(model, weights, world.device)
    saved = SavedModel(config, world, task, tokenizer, evaluation, model)
    return {
        "eval": _measure(saved, generates=generates),
        "audit": None if audit is None else _measure(replace(saved, eval=audit), generates=False),
        "shared": num_shared(task),
        "probes": probe_model(saved),
    }


def _measure(saved: SavedModel, *, generates: bool) -> dict[str, Any]:
    evaluator = Evaluator(saved)
    metrics = evaluator.cheap_metrics()
    if generates and evaluator.can_generate:
        metrics |= evaluator.generation_metrics()[0]
    return {**evaluated_data(saved), "metrics": metrics}
