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

    def is_enough(self, step_seconds: list[float], wall_seconds: float) -> bool:
        """Say whether these measured steps will do, so many seconds after the first step."""
        count = len(step_seconds)
        if count >= self.most_steps or (count >= 2 and wall_seconds > self.enough_seconds):
            return True
        return count >= self.steps and sum(step_seconds) >= self.seconds


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
    is_computed: bool = False
    """Whether they follow from other measurements instead of being taken."""


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


class StepTaker:
    """Takes steps of one training, as many as it is asked for, and says what they took.

    All processes have to ask alike.
    """

    def __init__(self, parts: Parts) -> None:
        """Take the training; its source is looked at from now on."""
        self.number = 0
        """Steps taken so far."""
        self.wall_seconds = 0.0
        """Since the first step began, on all processes the same."""
        self._watched = _Watched(parts.source)
        parts.source = cast(BatchSource, self._watched)
        self._timer, self._work, self._world = StepTimer(), _work_of(parts), parts.world
        self._steps = measured_loop(parts, self._timer)
        self._train_seconds = 0.0

    def skip(self, count: int) -> None:
        """Take steps that nobody measures; raises DivergedError for a loss that is not finite."""
        for _ in range(count):
            self._next()

    def take(self, is_enough: Callable[[list[float], float], bool]) -> MeasuredSteps:
        """Take steps until their seconds, and those since the first step of all, are enough; one at least.

        Raises DivergedError for a loss that is not finite.
        """
        found = MeasuredSteps()
        sums = torch.zeros(2, dtype=torch.float64)  # samples and FLOPs of this process
        tokens = slots = 0
        before = dict(self._timer.seconds)
        while not found.step_seconds or not is_enough(found.step_seconds, self.wall_seconds):
            clock_before = self._train_seconds
            step = self._next()
            found.step_seconds.append(step.train_seconds - clock_before)
            tokens, slots = tokens + step.num_tokens, slots + step.num_slots
            for batch in self._watched.batches:
                sums += torch.tensor(self._work(batch), dtype=torch.float64)
        count = len(found.step_seconds)
        found.samples_per_step, found.flops_per_step = (sum_over_ranks(self._world, sums) / count).tolist()
        found.tokens_per_step, found.slots_per_step = tokens / count, slots / count
        after = self._timer.seconds
        found.seconds_by_part = {name: (now - before.get(name, 0.0)) / count for name, now in after.items()}
        return found

    def _next(self) -> Step:
        step = next(self._steps)
        self.number, self.wall_seconds, self._train_seconds = step.number, step.wall_seconds, step.train_seconds
        return step


def measure_steps(parts: Parts, plan: StepPlan) -> MeasuredSteps:
    """Take warm-up steps and measured ones, until there are enough.

    All processes have to call it; they stop alike, since they go by shared readings. Raises DivergedError for a loss
    that is not finite.
    """
    taker = StepTaker(parts)
    taker.skip(plan.warmup_steps)
    warmup_seconds = taker.wall_seconds
    found = taker.take(plan.is_enough)
    found.warmup_seconds = warmup_seconds
    return found


def _work_of(parts: Parts) -> Callable[[AnyBatch], tuple[int, float]]:
    """Return what tells the samples of a batch, and its FLOPs."""
    if isinstance(parts.model, WordLatent):
        of_words = WordFlops(parts.model)
        return lambda batch: (len(cast(WordBatch, batch).word_at), of_words.of_batch(cast(WordBatch, batch)))
    of_tokens = model_flops(parts.model)
    return lambda batch: (len(row_lengths(cast(Batch, batch))), of_tokens.of_batch(cast(Batch, batch)))
