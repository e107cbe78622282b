"""Whether the data keep up with a training: batches alone by number of workers, and steps that take them.

need = needed(parts, plan)                       # steps whose batches lie ready in memory
for workers in (0, 1, 2, 4): loader(parts, workers, plan, need)
"""

import time
from dataclasses import dataclass
from statistics import median
from typing import Any, Final, cast

from hotlap.config.schema import RunConfig
from hotlap.data.loader import AnyBatch, BatchSource
from hotlap.train.build import build_source
from hotlap.train.measure import StepPlan, measure_steps
from hotlap.train.parts import Parts

_READY: Final = 8  # steps whose batches are kept in memory
_LEAST: Final = 5  # steps' batches that are fetched alone


@dataclass(frozen=True, slots=True)
class Need:
    """What steps take that wait for nothing; seconds are medians."""

    step_seconds: float
    samples_per_step: float
    tokens_per_step: float


@dataclass(frozen=True, slots=True)
class Loader:
    """What a number of workers gives."""

    workers: int
    startup_seconds: float
    """Until the first batch was there."""
    seconds_per_step: float
    """For the batches of one step, with nothing else running: how fast they can be had at most."""
    step_seconds: float
    """Of a training step that takes them; the median."""
    data_seconds: float
    """Of that step, waiting for its batches or making them; the mean."""
    is_computed: bool = False
    """Whether the last two follow from the others instead of being measured."""


class Ready:
    """A source whose batches lie in memory, the same ones again and again."""

    def __init__(self, source: BatchSource, accumulation: int) -> None:
        self._source = source
        self._steps = [source.micro_batches(step * accumulation, accumulation) for step in range(_READY)]
        self._accumulation = accumulation

    def wait_for(self, first: int, count: int) -> None:
        """Wait for nothing."""

    def micro_batches(self, first: int, count: int) -> tuple[list[AnyBatch], int]:
        """Return the batches of one of the steps."""
        return self._steps[first // self._accumulation % _READY]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


def with_workers(config: RunConfig, workers: int) -> RunConfig:
    """Return a config whose batches so many workers make."""
    changed: dict[str, int | None] = {"dataloader_num_workers": workers}
    if not workers:
        changed["dataloader_prefetch_factor"] = None
    return config.model_copy(update={"training": config.training.model_copy(update=changed)})


def source_of(parts: Parts, workers: int) -> BatchSource:
    """Return a fresh source of a training's batches, made by so many workers."""
    config = with_workers(parts.config, workers)
    return build_source(config, parts.world, parts.train, parts.batch_size, parts.accumulation_steps)


def needed(parts: Parts, plan: StepPlan) -> Need:
    """Take steps on batches that lie ready in memory; the weights are trained on."""
    source = source_of(parts, 0)
    try:
        parts.source = cast(BatchSource, Ready(source, parts.accumulation_steps))
        found = measure_steps(parts, plan)
    finally:
        source.close()
    return Need(median(found.step_seconds), found.samples_per_step, found.tokens_per_step)


def loader(parts: Parts, workers: int, plan: StepPlan, need: Need) -> Loader:
    """Fetch batches of a number of workers alone, then in steps of the training.

    Workers that make many batches in a row are measured over whole rounds of all of them, and their training step is
    computed: it takes as long as the slower of the two, since a few steps would see one worker only.
    """
    source = source_of(parts, workers)
    try:
        startup, seconds = _alone(source, parts.accumulation_steps, workers, plan)
    finally:
        source.close()
    if workers and source.span > 1:
        step = max(need.step_seconds, seconds)
        return Loader(workers, startup, seconds, step, step - need.step_seconds, is_computed=True)
    parts.source = source_of(parts, workers)
    try:
        parts.source.start()
        measured = measure_steps(parts, plan)
    finally:
        parts.source.close()
    data = measured.seconds_by_part["data"] + measured.seconds_by_part["waiting"]
    return Loader(workers, startup, seconds, median(measured.step_seconds), data)


def _alone(source: BatchSource, count: int, workers: int, plan: StepPlan) -> tuple[float, float]:
    """Return the seconds until the first step's batches are there, and those that a step's batches take from then on.

    What workers have made ahead meanwhile does not count. `count` is the batches of a step.
    """
    start = time.perf_counter()
    source.start()
    source.micro_batches(0, count)
    startup = time.perf_counter() - start
    ahead = -(-source.num_ahead // count) if workers else 0
    for step in range(1, 1 + ahead):
        source.micro_batches(step * count, count)
    in_rounds = ahead if workers and source.span > 1 else 0
    taken, elapsed = 0, 0.0
    start = time.perf_counter()
    while taken < in_rounds or (not in_rounds and _goes_on(taken, elapsed, plan)):
        source.micro_batches((1 + ahead + taken) * count, count)
        taken += 1
        elapsed = time.perf_counter() - start
    return startup, elapsed / taken


def _goes_on(taken: int, elapsed: float, plan: StepPlan) -> bool:
    return taken < _LEAST or (elapsed < plan.seconds and taken < plan.most_steps)
