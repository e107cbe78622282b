"""Build everything that a training needs from its config: data, model, optimizer, device."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hotlap.config.schema import RunConfig
from hotlap.core.errors import ConfigError
from hotlap.core.processes import usable_cores
from hotlap.data.batches import BatchOrder
from hotlap.data.encoding import VOCAB_SIZE, EncodedExample, encode
from hotlap.models.gpt import GPT
from hotlap.optim.build import Optimizers, build_optimizers
from hotlap.tasks.examples import TaskData
from hotlap.tasks.string_repetition import load_string_repetition


@dataclass(slots=True)
class Parts:
    """What `train_steps` and `evaluate` work on."""

    config: RunConfig
    device: torch.device
    task: TaskData
    train: list[EncodedExample]
    eval: list[EncodedExample]
    order: BatchOrder
    model: GPT
    optimizers: Optimizers

    @property
    def longest(self) -> int:
        """Tokens of the longest training example."""
        return max(len(example.ids) for example in self.train)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return bfloat16 autocast where the config asks for it."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.config.training.bf16 else nullcontext()

    def synchronize(self) -> None:
        """Wait for the device, so that a clock reading means what it says."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def bf16_is_fast(device: torch.device) -> bool:
    """Say whether the device multiplies bfloat16 matrices in hardware (CPU: avx512_bf16 or amx_bf16)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    path = Path("/proc/cpuinfo")
    flags = path.read_text() if path.exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def pick_device() -> torch.device:
    """Return the GPU when there is one, else the CPU."""
    return torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")


def build_parts(config: RunConfig, directory: Path, cache: Path) -> Parts:
    """Build the parts of one training; the weights follow from `training.seed` alone.

    Raises DataError for an unusable corpus and ConfigError for a model that is too short for it.
    """
    device = pick_device()
    if device.type == "cpu":
        torch.set_num_threads(usable_cores())
    training = config.training
    task = load_string_repetition(config.task, directory, cache)
    train, evaluation = [encode(e) for e in task.train], [encode(e) for e in task.eval]
    lengths = np.array([len(example.ids) for example in train])
    longest = max(int(lengths.max()), *(len(example.ids) for example in evaluation))
    if longest - 1 > config.model.max_position_embeddings:
        raise ConfigError(
            f"model.max_position_embeddings is {config.model.max_position_embeddings}, the longest example needs "
            f"{longest - 1}; raise it or lower task.max_length_bytes"
        )
    torch.manual_seed(training.seed)
    model = GPT(config.model, VOCAB_SIZE).to(device)
    data_seed = training.seed if training.data_seed is None else training.data_seed
    order = BatchOrder(
        lengths, training.per_device_train_batch_size, data_seed, bucketed=training.padding == "bucketed"
    )
    optimizers = build_optimizers(model, training, bf16_is_fast=bf16_is_fast(device))
    return Parts(config, device, task, train, evaluation, order, model, optimizers)
