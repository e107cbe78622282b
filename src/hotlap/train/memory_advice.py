"""What a training is expected to need of its device's memory, and which settings would need less, by the estimate."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from hotlap.config.models import HFModelConfig
from hotlap.config.schema import GPTConfig, RunConfig, TrainingConfig
from hotlap.data.encoding import Examples
from hotlap.data.streams import EndlessExamples
from hotlap.train.memory import (
    MemoryEstimate,
    MicroBatch,
    device_memory_bytes,
    device_name,
    memory_estimate,
    show_bytes,
)
from hotlap.train.model_size import ModelSize, size_of
from hotlap.train.parts import Parts

_MARGIN: Final = 0.9
"""Share of what was too much that a setting is expected to fit into: an estimate is one."""
_LIGHT_OPTIMIZERS: Final = ("muon", "adafactor")
_SHORT: Final[Mapping[str, str]] = {"True": "true", "False": "false"}


@dataclass(frozen=True, slots=True)
class Demand:
    """A model, its training settings and one micro-batch of it."""

    size: ModelSize
    training: TrainingConfig
    batch: MicroBatch
    accumulation_steps: int
    on_cpu: bool
    can_checkpoint: bool
    """Whether gradient_checkpointing has an effect."""

    @property
    def estimate(self) -> MemoryEstimate:
        """What it needs."""
        return memory_estimate(self.size, self.training, self.batch, on_cpu=self.on_cpu)


@dataclass(frozen=True, slots=True)
class Alternative:
    """Settings that need less, and how much in bytes."""

    settings: Mapping[str, Any]
    num_bytes: int

    def __str__(self) -> str:
        pairs = ", ".join(f"{name}: {_SHORT.get(str(value), value)}" for name, value in self.settings.items())
        return f"{pairs} ({show_bytes(self.num_bytes)})"


def demand_of(parts: Parts) -> Demand:
    """Return what a training asks of its device."""
    config, row_length = parts.config, parts.source.row_length
    longest = (row_length or parts.train.longest) - 1
    return Demand(
        size=size_of(parts.model),
        training=config.training,
        batch=MicroBatch(parts.batch_size, longest, target_ratio(parts.train)),
        accumulation_steps=parts.accumulation_steps,
        on_cpu=parts.device.type == "cpu",
        can_checkpoint=_can_checkpoint(config),
    )


def target_ratio(train: Examples | EndlessExamples) -> float:
    """Return the share of the inputs that have a target; all of them where nobody has counted."""
    if isinstance(train, EndlessExamples):
        return 1.0
    return min(1.0, float(train.num_targets.sum()) / max(1.0, float(train.lengths.sum()) - len(train)))


def _can_checkpoint(config: RunConfig) -> bool:
    return isinstance(config.model, GPTConfig | HFModelConfig)


def memory_line(parts: Parts) -> str:
    """Return what a training is expected to need and what its device has, in one line."""
    estimate = demand_of(parts).estimate
    world = parts.world
    has = show_bytes(device_memory_bytes(world.device, world.local_size))
    place = device_name(world.device, world.local_size)
    return f"memory: about {show_bytes(estimate.total)} of {has} on {place} ({estimate.describe()})"


def advice(parts: Parts) -> str:
    """Return what was to be held when memory ran out, and which settings would fit by the estimate."""
    demand, world = demand_of(parts), parts.world
    has = device_memory_bytes(world.device, world.local_size)
    estimate = demand.estimate
    limit = int(_MARGIN * min(has, estimate.total))
    found = list(alternatives(demand, limit))
    head = f"{demand.batch.rows} rows a batch of up to {demand.batch.length} tokens: {estimate.describe()}"
    if not found:
        return f"{head}; by the estimate no smaller batch fits, so make the model or its rows smaller"
    told = " or ".join(str(one) for one in found)
    return f"{head}; by the estimate these need clearly less: {told}"


def alternatives(demand: Demand, limit: int) -> Iterator[Alternative]:
    """Yield settings that need no more than `limit` bytes: single changes, or where none will do the least of several.

    The rows of an optimizer step stay the same.
    """
    singles = [found for change in _changes(demand) if (found := _fitting(demand, change, limit)) is not None]
    if singles:
        yield from singles
        return
    change: dict[str, Any] = {}
    for further in _changes(demand):
        change |= further
        for rows in ({}, *_smaller(demand)):
            if change and (found := _fitting(demand, {**change, **rows}, limit)) is not None:
                yield found
                return


def _changes(demand: Demand) -> Iterator[dict[str, Any]]:
    """Yield the single changes that save memory, those that change the training least first."""
    training, estimate = demand.training, demand.estimate
    yield {}
    if demand.can_checkpoint and not training.gradient_checkpointing:
        yield {"gradient_checkpointing": True}
    if not training.bf16:
        yield {"bf16": True}
    for optim in _LIGHT_OPTIMIZERS:
        lighter = training.model_copy(update={"optim": optim, "optim_args": None})
        if memory_estimate(demand.size, lighter, demand.batch).optimizer < estimate.optimizer:
            yield {"optim": optim}


def _smaller(demand: Demand) -> Iterator[dict[str, Any]]:
    """Yield smaller numbers of rows, the largest first, with the passes that keep the rows of a step."""
    total = demand.batch.rows * demand.accumulation_steps
    for rows in range(demand.batch.rows - 1, 0, -1):
        if total % rows == 0:
            yield {"per_device_train_batch_size": rows, "gradient_accumulation_steps": total // rows}


def _fitting(demand: Demand, change: Mapping[str, Any], limit: int) -> Alternative | None:
    """Return a change with what it needs, None where that is too much; an empty one stands for fewer rows."""
    if not change:
        return next((found for rows in _smaller(demand) if (found := _fitting(demand, rows, limit))), None)
    training = demand.training.model_copy(update=dict(change))
    rows = change.get("per_device_train_batch_size", demand.batch.rows)
    batch = replace(demand.batch, rows=rows)
    needed = memory_estimate(demand.size, training, batch, on_cpu=demand.on_cpu).total
    return Alternative(change, needed) if needed <= limit else None
