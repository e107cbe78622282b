"""Steps of a training taken to be timed: the loop itself, without evaluations, for as long as that needs.

measured = measure_steps(parts, StepPlan(steps=10, seconds=3.0))
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import cast

import torch

from hotlap.core.clock import TrainClock
from hotlap.data.batches import Batch
from hotlap.data.loader import AnyBatch, BatchSource
from hotlap.data.word_batches import WordBatch
from hotlap.models.word_latent import WordLatent
from hotlap.train.distributed import sum_over_ranks
from hotlap.train.flops import model_flops, row_lengths
from hotlap.train.horizon import Horizon, Position
from hotlap.train.loop import Signs, Step, StepTimer, train_steps
from hotlap.train.parts import Parts
from hotlap.train.word_flops import WordFlops


@dataclass(frozen=True, slots=True)
class StepPlan:
    """How many steps are taken: the measured ones until both their number and their seconds are enough."""

    warmup_steps: int = 3
    """Steps before the measured ones: the first sets the optimizer's state up."""
    steps: int = 10
    seconds: float = 3.0
    most_steps: int = 1000
    enough_seconds: float = float("inf")
    """Seconds since the first step after which two measured steps will do."""


@dataclass(slots=True)
class MeasuredSteps:
    """What the measured steps took; figures per step are means over them, of all devices together."""

    step_seconds: list[float] = field(default_factory=list)
    """Seconds of each on the training clock of the first process."""
    warmup_seconds: float = 0.0
    samples_per_step: float = 0.0
    tokens_per_step: float = 0.0
    slots_per_step: float = 0.0
    flops_per_step: float = 0.0
    seconds_by_part: dict[str, float] = field(default_factory=dict)
    """On this process."""


@dataclass(frozen=True, slots=True)
class _Endless(Horizon):
    """The schedule of a training that goes on as long as it is asked to."""

    def factor(self, position: Position) -> float:
        """Return the factor that holds at a position, from the horizon on that of its end."""
        last = self.schedule.horizon - (1 if self.schedule.unit == "steps" else 0)
        tokens, seconds = min(position.tokens, int(last)), min(position.seconds, last)
        return Horizon.factor(self, Position(min(position.steps, max(0, int(last))), tokens, seconds))

    def is_over(self, position: Position) -> bool:
        """Say that it is not."""
        return False


class _Watched:
    """A source of batches that keeps those of the last step, so that they can be counted off the clock."""

    def __init__(self, source: BatchSource) -> None:
        self._source = source
        self.batches: list[AnyBatch] = []

    def micro_batches(self, first: int, count: int) -> tuple[list[AnyBatch], int]:
        """Return what the source does."""
        self.batches, num_targets = self._source.micro_batches(first, count)
        return self.batches, num_targets

    def __getattr__(self, name: str) -> object:
        return getattr(self._source, name)


def measured_loop(parts: Parts, timer: StepTimer) -> Iterator[Step]:
    """Return the steps of a training without an end: the loop that a run goes through."""
    start = time.perf_counter()
    parts.horizon = _Endless(parts.horizon.schedule, parts.horizon.max_steps)
    return train_steps(parts, TrainClock(), timer, Signs(lambda: time.perf_counter() - start, lambda: False))


def measure_steps(parts: Parts, plan: StepPlan) -> MeasuredSteps:
    """Take warm-up steps and measured ones, until there are enough.

    All processes have to call it; they stop alike, since they go by shared readings. Raises DivergedError for a loss
    that is not finite.
    """
    watched = _Watched(parts.source)
    parts.source = cast(BatchSource, watched)
    timer = StepTimer()
    found, work = MeasuredSteps(), _work_of(parts)
    sums = torch.zeros(2, dtype=torch.float64)  # samples and FLOPs of this process
    tokens = slots = 0
    before: dict[str, float] = {}
    clock_before = 0.0
    for step in measured_loop(parts, timer):
        if step.number <= plan.warmup_steps:
            found.warmup_seconds, clock_before = step.wall_seconds, step.train_seconds
            before = dict(timer.seconds)
            continue
        found.step_seconds.append(step.train_seconds - clock_before)
        clock_before = step.train_seconds
        tokens, slots = tokens + step.num_tokens, slots + step.num_slots
        for batch in watched.batches:
            sums += torch.tensor(work(batch), dtype=torch.float64)
        if _is_enough(found.step_seconds, step.wall_seconds, plan):
            break
    count = len(found.step_seconds)
    samples, operations = (sum_over_ranks(parts.world, sums) / count).tolist()
    found.samples_per_step, found.flops_per_step = samples, operations
    found.tokens_per_step, found.slots_per_step = tokens / count, slots / count
    found.seconds_by_part = {name: (now - before.get(name, 0.0)) / count for name, now in timer.seconds.items()}
    return found


def _work_of(parts: Parts) -> Callable[[AnyBatch], tuple[int, float]]:
    """Return what tells the samples of a batch, and its FLOPs."""
    if isinstance(parts.model, WordLatent):
        of_words = WordFlops(parts.model)
        return lambda batch: (len(cast(WordBatch, batch).word_at), of_words.of_batch(cast(WordBatch, batch)))
    of_tokens = model_flops(parts.model)
    return lambda batch: (len(row_lengths(cast(Batch, batch))), of_tokens.of_batch(cast(Batch, batch)))


def _is_enough(step_seconds: list[float], wall_seconds: float, plan: StepPlan) -> bool:
    count = len(step_seconds)
    if count >= plan.most_steps or (count >= 2 and wall_seconds > plan.enough_seconds):
        return True
    return count >= plan.steps and sum(step_seconds) >= plan.seconds
