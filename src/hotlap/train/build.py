"""Build everything that a training needs from its config: data, model, optimizer, device."""

import math
import os
import random
import time
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn

from hotlap.config.parts import custom_parts
from hotlap.config.schedule import schedule_of
from hotlap.config.schema import RunConfig, TrainingConfig
from hotlap.config.word_latent import WordLatentConfig
from hotlap.core.errors import ConfigError, DataError
from hotlap.data.arrays import RowLayout
from hotlap.data.encoding import Examples
from hotlap.data.load import load_data
from hotlap.data.loader import BatchSource, Order
from hotlap.data.streaming import order_of
from hotlap.data.streams import EndlessExamples, StreamOrder
from hotlap.models.build import build_model, longest_input
from hotlap.models.word_latent import WordLatent
from hotlap.optim.build import build_optimizers
from hotlap.optim.measure import NoiseScale
from hotlap.tasks.examples import TokenTask
from hotlap.train.batch_size import MemoryLimit, accumulation_for, find_batch_size, rows_per_step
from hotlap.train.custom import load_part
from hotlap.train.distributed import World, pick_device, threads_per_rank, wrap
from hotlap.train.horizon import Horizon
from hotlap.train.memory import (
    MicroBatch,
    device_memory_bytes,
    device_name,
    held_memory_bytes,
    memory_estimate,
    refuse_model_too_big,
)
from hotlap.train.memory_advice import target_ratio
from hotlap.train.model_size import size_of
from hotlap.train.objective import Objective, WordObjective
from hotlap.train.parts import Parts, bf16_is_fast
from hotlap.train.trial_steps import probe, warm_up
from hotlap.train.words import size_rows, word_layout

_EXAMPLES_PER_ROW: Final = 4  # of the longest in a packed row, so that little is left over


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
    set_up_device(training, world)
    custom = {key: load_part(directory, name) for key, name in custom_parts(config).items()}
    data = load_data(config, directory, cache, custom)
    train, vocab_size = data.train, data.tokenizer.vocab_size
    size_rows(config, train)
    held = held_memory_bytes(world.device)
    _seed(training.seed)
    model = build_model(config, vocab_size, custom.get("model.name"))
    _check_length(config, model, max(train.longest, data.eval.longest))
    model = _moved(model, training, world)
    optimizers = build_optimizers(
        model, training, bf16_is_fast=bf16_is_fast(world.device), custom=custom.get("training.optim")
    )
    parts = Parts(
        config=config,
        world=world,
        task=data.task,
        tokenizer=data.tokenizer,
        train=train,
        eval=data.eval,
        model=model,
        objective=wrap(world, _build_objective(model, vocab_size, training), training),
        parameters=[p for p in model.parameters() if p.requires_grad],
        optimizers=optimizers,
        source=build_source(config, world, train, 1),
        horizon=None,  # type: ignore[arg-type]  # known once the number of steps is
        batch_size=1,
        accumulation_steps=training.gradient_accumulation_steps,
        noise=NoiseScale(world.size) if training.measure_gradient_noise else None,
        base_memory_bytes=held,
    )
    parts.batch_size, parts.accumulation_steps = batch or _chosen_batch(parts)
    _refuse_less_than_a_batch(parts)
    parts.source = build_source(config, world, train, parts.batch_size, parts.accumulation_steps)
    parts.steps_per_epoch = _steps_per_epoch(parts)
    max_steps = training.max_steps
    if training.is_by_epochs:
        max_steps = math.ceil(training.num_train_epochs * parts.steps_per_epoch)
    schedule = schedule_of(config, max_steps=max_steps, custom=custom.get("training.lr_scheduler_type"))
    parts.horizon = Horizon(schedule, max_steps)
    if training.torch_compile or _compiles_attention(parts):
        start = time.perf_counter()
        warm_up(parts)
        parts.compile_seconds = time.perf_counter() - start
    return parts


def _moved(model: nn.Module, training: TrainingConfig, world: World) -> nn.Module:
    """Return a model on its device, with other random numbers on each for its dropout."""
    refuse_model_too_big(model, training, world.device, world.local_size)
    model = model.to(world.device)
    if world.size > 1:
        torch.manual_seed(training.seed + 1_000_003 * world.rank)
    return model


def _compiles_attention(parts: Parts) -> bool:
    """Say whether attention goes through FlexAttention, which compiles: for rows that hold several texts, or words."""
    padding = parts.config.training.padding
    has_words = isinstance(parts.model, WordLatent) and padding != "max_length"
    return parts.device.type == "cuda" and (padding == "packed" or has_words)


def _steps_per_epoch(parts: Parts) -> int:
    """Return the steps of the first pass over the examples; where they never end, all steps, as in the Trainer."""
    order = parts.source.order
    if isinstance(order, StreamOrder):
        return parts.config.training.max_steps
    return max(1, math.ceil(order.batches_per_epoch(0) / parts.accumulation_steps))


def _seed(seed: int) -> None:
    """Seed every generator: a part of the project's own may draw from any of them."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def set_up_device(training: TrainingConfig, world: World) -> None:
    """Set threads, precision and determinism of this process as the config says."""
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


def _check_length(config: RunConfig, model: nn.Module, longest: int) -> None:
    """Refuse examples that do not fit the model's positions."""
    limit = longest_input(config.model, model)
    if limit is not None and longest - 1 > limit:
        raise ConfigError(
            f"model.max_position_embeddings is {limit}, the longest example needs {longest - 1}; raise it or make the "
            "task's examples shorter"
        )


def _refuse_less_than_a_batch(parts: Parts) -> None:
    """Refuse running text that gives fewer sequences than one batch has rows: each would hold some of them twice."""
    rows = parts.batch_size * parts.world.size
    if not isinstance(parts.train, Examples) or not isinstance(parts.task, TokenTask) or parts.task.stream is not None:
        return
    if parts.config.training.padding != "packed" and len(parts.train) < rows:
        raise DataError(
            f"the corpus is smaller than one batch: {len(parts.train)} training sequence(s), a batch has {rows}; give "
            "more text, or lower task.block_size or training.per_device_train_batch_size"
        )


def _build_objective(model: nn.Module, vocab_size: int, training: TrainingConfig) -> nn.Module:
    smoothing = training.label_smoothing_factor
    objective: nn.Module = (
        WordObjective(model, smoothing) if isinstance(model, WordLatent) else Objective(model, vocab_size, smoothing)
    )
    if training.torch_compile:
        backend = training.torch_compile_backend or "inductor"
        objective = torch.compile(objective, backend=backend, mode=training.torch_compile_mode)  # type: ignore[assignment]
    return objective


def build_source(
    config: RunConfig, world: World, train: Examples | EndlessExamples, batch_size: int, accumulation: int = 1
) -> BatchSource:
    """Build what makes the batches of `batch_size` rows a device; their order is a pure function of the seed.

    Where the data never end, what a step trains on does not depend on its `accumulation` batches, but on their rows.
    """
    training = config.training
    row_length, layout = _row_layout(config, train)
    rows, seed = batch_size * world.size, training.seed if training.data_seed is None else training.data_seed
    order: Order
    if isinstance(train, EndlessExamples):
        order = StreamOrder(rows, seed, training.batch_order, row_length, accumulation)
    else:
        drop_last = training.dataloader_drop_last
        order = order_of(train, rows, seed, training.batch_order, row_length=row_length, drop_last=drop_last)
    return BatchSource(
        train,
        order,
        layout,
        rank=world.rank,
        world_size=world.size,
        workers=training.dataloader_num_workers,
        prefetch=training.dataloader_prefetch_factor or 2,
        pin_memory=training.dataloader_pin_memory and world.device.type == "cuda",
    )


def _row_layout(config: RunConfig, train: Examples | EndlessExamples) -> tuple[int, RowLayout]:
    """Return the tokens of a row that is filled, and how rows become arrays."""
    training = config.training
    if isinstance(config.model, WordLatentConfig):
        return train.longest, word_layout(config.model, training, train)
    has_width = training.padding in ("max_length", "packed")
    longest = row_length = train.required_bound if isinstance(train, EndlessExamples) and has_width else train.longest
    if training.padding == "packed":
        limit = getattr(config.model, "max_position_embeddings", 0)
        row_length = max(limit + 1, _EXAMPLES_PER_ROW * (longest - 1) + 1)  # positions start anew with each example
    return row_length, row_length if has_width else None


def _chosen_batch(parts: Parts) -> tuple[int, int]:
    """Return rows per device and accumulation steps: those of the config, or what is fastest at a fixed total batch."""
    training, world = parts.config.training, parts.world
    total = training.total_batch_size or 0
    if training.total_batch_tokens is not None:
        total = rows_per_step(training.total_batch_tokens, *_row_lengths(parts), world.size)
    if training.per_device_train_batch_size != "auto":
        rows = training.per_device_train_batch_size
        has_total = training.total_batch_tokens is not None
        return rows, accumulation_for(total, rows, world.size) if has_total else training.gradient_accumulation_steps
    choice = find_batch_size(
        lambda rows: probe(parts, build_source(parts.config, world, parts.train, rows), total // world.size // rows),
        total=total,
        world_size=world.size,
        limit=_memory_limit(parts),
    )
    parts.batch_size_trials = choice.trials
    return choice.batch_size, choice.accumulation_steps


def _row_lengths(parts: Parts) -> tuple[int, float]:
    """Return the inputs in the longest row, and in a row on average."""
    row_length = parts.source.row_length
    if row_length is not None:
        return row_length - 1, row_length - 1
    return parts.train.longest - 1, float(parts.train.lengths.mean()) - 1


def _memory_limit(parts: Parts) -> MemoryLimit:
    """Return what `training.device_memory_ratio` leaves; on a CPU an estimate stands for what is measured on a GPU."""
    training, world = parts.config.training, parts.world
    size, longest = size_of(parts.model), _row_lengths(parts)[0]

    def estimate(rows: int) -> int:
        batch = MicroBatch(rows, longest, target_ratio(parts.train))
        return memory_estimate(size, training, batch, on_cpu=True).total

    return MemoryLimit(
        training.device_memory_ratio * device_memory_bytes(world.device, world.local_size),
        device_name(world.device, world.local_size),
        estimate if world.device.type == "cpu" else None,
    )
