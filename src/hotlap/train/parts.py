"""What the steps and the evaluation of one training work on."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from hotlap.config.schema import RunConfig
from hotlap.data.encoding import Examples
from hotlap.data.loader import AnyBatch, BatchSource
from hotlap.data.streams import EndlessExamples
from hotlap.data.tokenizers import Tokenizer
from hotlap.data.word_batches import WordBatch
from hotlap.models.protocol import can_generate
from hotlap.optim.build import Optimizers
from hotlap.optim.measure import NoiseScale
from hotlap.tasks.examples import Task
from hotlap.train.batch_size import BatchSizeTrial
from hotlap.train.distributed import World
from hotlap.train.horizon import Horizon


class Evaluable(Protocol):
    """What an evaluation works on: the parts of a training, or a model with saved weights."""

    @property
    def config(self) -> RunConfig:
        """The run's config."""

    @property
    def world(self) -> World:
        """The processes that share the examples."""

    @property
    def task(self) -> Task:
        """Where the examples come from."""

    @property
    def tokenizer(self) -> Tokenizer:
        """What their tokens are."""

    @property
    def eval(self) -> Examples:
        """The examples to evaluate on."""

    @property
    def model(self) -> nn.Module:
        """The bare model."""

    @property
    def device(self) -> torch.device:
        """The device of this process."""

    @property
    def can_generate(self) -> bool:
        """Whether the task asks for completions and the model can generate them."""


@dataclass(slots=True)
class Parts:
    """What `train_steps` and `evaluate` work on."""

    config: RunConfig
    world: World
    task: Task
    tokenizer: Tokenizer
    train: Examples | EndlessExamples
    eval: Examples
    model: nn.Module
    """The bare model: its weights are what is evaluated and saved."""
    objective: nn.Module
    """Model and loss as they are trained: compiled and shared over the devices where that is asked for."""
    parameters: list[nn.Parameter]
    optimizers: Optimizers
    source: BatchSource
    horizon: Horizon
    batch_size: int
    """Rows per device in one forward pass."""
    accumulation_steps: int
    """Forward passes per optimizer step."""
    steps_per_epoch: int = 1
    """Optimizer steps in the first pass over the training examples; all of them where those never end."""
    noise: NoiseScale | None = None
    """Measures the gradient's noise where that is asked for."""
    batch_size_trials: tuple[BatchSizeTrial, ...] = ()
    """What `per_device_train_batch_size: auto` measured."""
    compile_seconds: float = 0.0
    """What compiling took before the first step."""
    base_memory_bytes: int = 0
    """What the process held before the model was built: the estimate is about what comes on top."""

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return self.world.device

    @property
    def can_generate(self) -> bool:
        """Whether the task asks for completions and the model can generate them."""
        return self.task.has_completions and can_generate(self.model)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return bfloat16 autocast where the config asks for it."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.config.training.bf16 else nullcontext()

    def loss(self, batch: AnyBatch) -> Tensor:
        """Return the summed loss over a batch's targets, as it is trained on."""
        here = batch.to(self.device)
        with self.autocast():
            if isinstance(here, WordBatch):
                return cast(Tensor, self.objective(here))
            summed: Tensor = self.objective(
                here.input_ids, here.target_positions, here.targets, here.document_ids, here.positions
            )
        return summed

    def synchronize(self) -> None:
        """Wait for the device, so that a clock reading means what it says."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def document_start(parts: Evaluable) -> int | None:
    """Return the token that the task's texts stand behind, None where nothing stands before them."""
    return None if parts.task.has_completions else parts.tokenizer.document_start


def bf16_is_fast(device: torch.device) -> bool:
    """Say whether the device multiplies bfloat16 matrices in hardware (CPU: avx512_bf16 or amx_bf16)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    path = Path("/proc/cpuinfo")
    flags = path.read_text() if path.exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags
