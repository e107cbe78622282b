"""Build everything that a training needs from its config: data, model, optimizer, device."""

import math
import os
import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from hotlap.config.parts import custom_parts
from hotlap.config.schedule import schedule_of
from hotlap.config.schema import GPTConfig, RunConfig, TrainingConfig
from hotlap.core.errors import ConfigError
from hotlap.data.batches import Batch
from hotlap.data.encoding import VOCAB_SIZE, Examples, encode_task
from hotlap.data.loader import BatchSource
from hotlap.data.order import BatchOrder
from hotlap.models.gpt import GPT
from hotlap.models.protocol import can_generate, takes_documents
from hotlap.optim.build import Optimizers, build_optimizers
from hotlap.tasks.examples import Task
from hotlap.tasks.registry import load_task
from hotlap.train.batch_size import find_batch_size, is_out_of_memory, unchanged
from hotlap.train.custom import load_part
from hotlap.train.distributed import World, any_rank, pick_device, sum_over_ranks, syncing, threads_per_rank, wrap
from hotlap.train.horizon import Horizon
from hotlap.train.memory import refuse_model_too_big
from hotlap.train.objective import Objective

_EXAMPLES_PER_ROW: Final = 4  # of the longest in a packed row, so that little is left over
_WARM_UP_BATCHES: Final = 3  # of different shapes, so that what is compiled takes any shape


@dataclass(slots=True)
class Parts:
    """What `train_steps` and `evaluate` work on."""

    config: RunConfig
    world: World
    task: Task
    train: Examples
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
    """Optimizer steps in the first pass over the training examples."""

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

    def loss(self, batch: Batch) -> Tensor:
        """Return the summed loss over a batch's targets, as it is trained on."""
        here = batch.to(self.device)
        with self.autocast():
            summed: Tensor = self.objective(
                here.input_ids, here.target_positions, here.targets, here.document_ids, here.positions
            )
        return summed

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


def build_parts(
    config: RunConfig,
    directory: Path,
    cache: Path,
    world: World | None = None,
    batch: tuple[int, int] | None = None,
) -> Parts:
    """Build the parts of one training; the weights follow from `training.seed` alone, on any number of devices.

    `batch` is what a resumed run goes on with where the batch size is found by probing: rows and accumulation steps.
    Raises DataError for an unusable corpus and ConfigError for a model that is too short for it or too large for the
    device.
    """
    training = config.training
    world = world or World(0, 1, 0, pick_device(training))
    _set_up_device(training, world)
    custom = {key: load_part(directory, name) for key, name in custom_parts(config).items()}
    task = load_task(config.task, directory, cache, custom.get("task.name"))
    train, evaluation = encode_task(task)
    _check_length(config, max(int(train.lengths.max()), int(evaluation.lengths.max())))
    _seed(training.seed)
    model = _build_model(config, custom.get("model.name"))
    refuse_model_too_big(model, training, world.device, world.local_size)
    model = model.to(world.device)
    if world.size > 1:
        torch.manual_seed(training.seed + 1_000_003 * world.rank)  # dropout differs between the devices
    if training.padding == "packed" and not takes_documents(model):
        raise ConfigError(
            f"padding: packed needs a model that keeps documents apart; hidden() of {config.model.name} takes no "
            "positions and document_ids; use padding: bucketed"
        )
    optimizers = build_optimizers(
        model, training, bf16_is_fast=bf16_is_fast(world.device), custom=custom.get("training.optim")
    )
    parts = Parts(
        config=config,
        world=world,
        task=task,
        train=train,
        eval=evaluation,
        model=model,
        objective=wrap(world, _build_objective(model, training), training),
        parameters=[p for p in model.parameters() if p.requires_grad],
        optimizers=optimizers,
        source=_build_source(config, world, train, 1),
        horizon=None,  # type: ignore[arg-type]  # known once the number of steps is
        batch_size=1,
        accumulation_steps=training.gradient_accumulation_steps,
    )
    parts.batch_size, parts.accumulation_steps = batch or _chosen_batch(parts)
    parts.source = _build_source(config, world, train, parts.batch_size)
    parts.steps_per_epoch = max(1, math.ceil(parts.source.order.batches_per_epoch(0) / parts.accumulation_steps))
    max_steps = training.max_steps
    if training.is_by_epochs:
        max_steps = math.ceil(training.num_train_epochs * parts.steps_per_epoch)
    schedule = schedule_of(config, max_steps=max_steps, custom=custom.get("training.lr_scheduler_type"))
    parts.horizon = Horizon(schedule, max_steps)
    if training.torch_compile or (world.device.type == "cuda" and training.padding == "packed"):
        _warm_up(parts)  # FlexAttention compiles, too
    return parts


def _seed(seed: int) -> None:
    """Seed every generator: a part of the project's own may draw from any of them."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _set_up_device(training: TrainingConfig, world: World) -> None:
    if world.device.type == "cpu":
        torch.set_num_threads(threads_per_rank(world))
    else:
        torch.cuda.set_device(world.device)
    if training.tf32 is not None:
        torch.backends.cuda.matmul.allow_tf32 = training.tf32
        torch.backends.cudnn.allow_tf32 = training.tf32
    if training.full_determinism:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS refuses to be deterministic without
    if torch.are_deterministic_algorithms_enabled() != training.full_determinism:
        torch.use_deterministic_algorithms(training.full_determinism)  # imports torch's compiler: a second


def _check_length(config: RunConfig, longest: int) -> None:
    """Refuse examples that do not fit the model's positions."""
    if isinstance(config.model, GPTConfig) and longest - 1 > config.model.max_position_embeddings:
        raise ConfigError(
            f"model.max_position_embeddings is {config.model.max_position_embeddings}, the longest example needs "
            f"{longest - 1}; raise it or make the task's examples shorter"
        )


def _build_model(config: RunConfig, custom: Callable[..., Any] | None) -> nn.Module:
    if isinstance(config.model, GPTConfig):
        return GPT(config.model, VOCAB_SIZE, gradient_checkpointing=config.training.gradient_checkpointing)
    assert custom is not None, config.model.name
    model = custom(VOCAB_SIZE, **(config.model.model_extra or {}))
    missing = [name for name in ("hidden", "logits") if not callable(getattr(model, name, None))]
    if not isinstance(model, nn.Module) or missing:
        raise ConfigError(
            f"model.name: {config.model.name} has to return a torch.nn.Module with the methods hidden and logits, got "
            f"{type(model).__name__}{' without ' + ' and '.join(missing) if missing else ''}"
        )
    return model


def _build_objective(model: nn.Module, training: TrainingConfig) -> nn.Module:
    objective: nn.Module = Objective(model, VOCAB_SIZE, training.label_smoothing_factor)
    if training.torch_compile:
        backend = training.torch_compile_backend or "inductor"
        objective = torch.compile(objective, backend=backend, mode=training.torch_compile_mode)  # type: ignore[assignment]
    return objective


def _build_source(config: RunConfig, world: World, train: Examples, batch_size: int) -> BatchSource:
    """Build what makes the batches of `batch_size` rows a device; their order is a pure function of the seed."""
    training = config.training
    longest = int(train.lengths.max())
    row_length = longest
    if training.padding == "packed":
        limit = getattr(config.model, "max_position_embeddings", 0)
        row_length = max(limit + 1, _EXAMPLES_PER_ROW * (longest - 1) + 1)  # positions start anew with each example
    order = BatchOrder(
        train.lengths,
        batch_size * world.size,
        training.seed if training.data_seed is None else training.data_seed,
        mode=training.batch_order,
        row_length=row_length,
        drop_last=training.dataloader_drop_last,
    )
    return BatchSource(
        train,
        order,
        row_width=row_length if training.padding in ("max_length", "packed") else None,
        rank=world.rank,
        world_size=world.size,
        workers=training.dataloader_num_workers,
        prefetch=training.dataloader_prefetch_factor or 2,
        pin_memory=training.dataloader_pin_memory and world.device.type == "cuda",
    )


def _chosen_batch(parts: Parts) -> tuple[int, int]:
    """Return rows per device and accumulation steps: those of the config, or what is fastest at a fixed total batch."""
    training, world = parts.config.training, parts.world
    if training.per_device_train_batch_size != "auto":
        return training.per_device_train_batch_size, training.gradient_accumulation_steps
    choice = find_batch_size(
        lambda rows: _probe(parts, rows), total=training.total_batch_size or 0, world_size=world.size
    )
    return choice.batch_size, choice.accumulation_steps


def _probe(parts: Parts, rows: int) -> tuple[float, int]:
    """Return tokens per second and peak memory in bytes of two optimizer steps with so many rows per device.

    The first step sets the optimizer's state up, the second is timed. All devices get the same numbers, and all run
    out of memory when one does.
    """
    world, source = parts.world, _build_source(parts.config, parts.world, parts.train, rows)
    steps = (parts.config.training.total_batch_size or 0) // world.size // rows
    seconds, tokens, failure = 1.0, 0, None
    if world.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(world.device)
    try:
        with unchanged(parts.model, parts.optimizers, world.device):
            try:  # without sharing gradients, so that nobody waits for a device that has no memory
                _timed_step(parts, source, 0, steps, shares=False)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                failure = error
            if any_rank(world, failure is not None):
                raise failure or torch.OutOfMemoryError(f"another device has no memory for {rows} rows")
            for number in range(1, _WARM_UP_BATCHES if parts.config.training.torch_compile else 2):
                seconds, tokens = _timed_step(parts, source, number * steps, steps, shares=True)
    finally:
        source.close()
    peak = torch.cuda.max_memory_allocated(world.device) if world.device.type == "cuda" else 0
    sums = sum_over_ranks(world, torch.tensor([tokens, seconds, peak], dtype=torch.float64)).tolist()
    return sums[0] / (sums[1] / world.size), int(sums[2] / world.size)


def _timed_step(parts: Parts, source: BatchSource, first: int, count: int, *, shares: bool) -> tuple[float, int]:
    """Take one optimizer step of so many micro-batches; return its seconds and tokens on this device."""
    parts.synchronize()
    start = time.perf_counter()
    batches, num_targets = source.micro_batches(first, count)
    for place, batch in enumerate(batches):
        with syncing(parts.objective, is_last=shares and place == len(batches) - 1):
            (parts.loss(batch) / num_targets).backward()  # type: ignore[no-untyped-call]
    parts.optimizers.step()
    parts.optimizers.zero_grad()
    parts.synchronize()
    return time.perf_counter() - start, sum(batch.num_tokens for batch in batches)


def _warm_up(parts: Parts) -> None:
    """Compile on the first batches and forget what they taught, so that compiling is set-up and not training."""
    with unchanged(parts.model, parts.optimizers, parts.device):
        for number in range(_WARM_UP_BATCHES):
            batches, num_targets = parts.source.micro_batches(number, 1)
            (parts.loss(batches[0]) / num_targets).backward()  # type: ignore[no-untyped-call]
            parts.optimizers.zero_grad()
        parts.synchronize()
