"""Steps of a training whose data workers make many batches in a row, as those of generators and mixtures do.

measured = measure_training(parts, StepPlan(steps=10, seconds=3.0))

All workers work at the same time, but the batches of a few steps come from one of them: a few steps would look as if
there were no others. So whole rounds of all workers are measured after the first one, or, where these would take too
long, the step is computed as the slower of two: steps whose batches lie ready, and the workers' batches.
"""

import time
from dataclasses import replace
from statistics import median
from typing import Final, cast

import torch

from hotlap.data.loader import BatchSource
from hotlap.data.streams import StreamOrder
from hotlap.train.data_speed import Ready, source_of
from hotlap.train.distributed import sum_over_ranks
from hotlap.train.measure import MeasuredSteps, StepPlan, StepTaker, measure_steps
from hotlap.train.parts import Parts

_SHARE: Final = 0.6
"""Of the time that is left, which rounds may be expected to take."""
_PARTS: Final = 4
"""Into which the time left is divided where it does not suffice: workers, ready batches, steps, and what follows."""
_LEAST, _MOST = 3, 48
"""Steps' batches that one worker is watched making: fewer than it makes in a row."""


def measure_training(parts: Parts, plan: StepPlan) -> MeasuredSteps:
    """Take warm-up steps and measured ones; of workers that take long turns whole rounds, a mean for each.

    All processes have to call it. Raises DivergedError for a loss that is not finite, and what the data raise.
    """
    in_round = steps_in_round(parts)
    taker = StepTaker(parts)
    taker.skip(plan.warmup_steps)
    warmup_seconds = taker.wall_seconds
    found = taker.take(plan.is_enough)
    if in_round:
        found = _rounds(taker, in_round, found, plan) or _computed(parts, plan, taker.wall_seconds)
    found.warmup_seconds = warmup_seconds
    return found


def steps_in_round(parts: Parts) -> int:
    """Return the steps in which every worker has its turn; 0 where a few steps already hold batches of all."""
    if parts.config.training.dataloader_num_workers < 2 or parts.source.span == 1:
        return 0
    return parts.source.num_ahead // parts.accumulation_steps


def _rounds(taker: StepTaker, in_round: int, found: MeasuredSteps, plan: StepPlan) -> MeasuredSteps | None:
    """Return whole rounds after the first; None where they do not fit into the time."""
    pace = sum(found.step_seconds) / len(found.step_seconds)  # of one worker: others only make it faster
    to_take = -taker.number % in_round + in_round
    if taker.wall_seconds + to_take * pace > _SHARE * plan.enough_seconds:
        return None
    most_seconds = _SHARE * plan.enough_seconds
    while taker.number % in_round:
        taker.skip(1)
        if taker.wall_seconds > most_seconds:
            return None

    def is_enough(step_seconds: list[float], wall_seconds: float) -> bool:
        if wall_seconds > most_seconds:
            return True
        count = len(step_seconds)
        return count % in_round == 0 and (count >= plan.most_steps or sum(step_seconds) >= plan.seconds)

    taken = taker.take(is_enough)
    ends = range(in_round, len(taken.step_seconds) + 1, in_round)
    taken.step_seconds = [sum(taken.step_seconds[end - in_round : end]) / in_round for end in ends]
    return taken if taken.step_seconds else None


def _computed(parts: Parts, plan: StepPlan, taken_seconds: float) -> MeasuredSteps:
    """Return steps on batches that lie ready, each as long as the workers need for its batches at least.

    The training is left with these batches: what is still to be looked at needs no workers to be started again.
    """
    left = max(0.0, plan.enough_seconds - taken_seconds)
    short = replace(plan, warmup_steps=1, seconds=min(plan.seconds, left / _PARTS), enough_seconds=left / _PARTS)
    workers = parts.config.training.dataloader_num_workers
    parts.source.close()
    making = _making_seconds(parts, workers, short)
    source = source_of(parts, 0)
    parts.source = cast(BatchSource, Ready(source, parts.accumulation_steps))
    found = measure_steps(parts, short)
    step = median(found.step_seconds)
    found.seconds_by_part["data"] += max(0.0, making - step)
    found.step_seconds = [max(seconds, making) for seconds in found.step_seconds]
    found.is_computed = True
    return found


def _making_seconds(parts: Parts, workers: int, plan: StepPlan) -> float:
    """Return what the batches of a step take while all workers make some, by how one of them goes on; a mean."""
    count, source = parts.accumulation_steps, source_of(parts, workers)
    in_turn = source.span // count  # bucketed rows of them all are drawn for the first step
    is_bucketed = isinstance(source.order, StreamOrder) and source.order.mode == "bucketed"
    least, most, first = (in_turn, in_turn, 0) if is_bucketed else (_LEAST, _MOST, 1)
    try:
        start = time.perf_counter()
        source.start()
        if first:
            source.micro_batches(0, count)
            start = time.perf_counter()
        taken, elapsed = 0, 0.0
        while taken < least or (taken < most and elapsed < plan.seconds):
            source.micro_batches((first + taken) * count, count)
            taken += 1
            elapsed = time.perf_counter() - start
    finally:
        source.close()
    of_all = sum_over_ranks(parts.world, torch.tensor(elapsed / taken / workers, dtype=torch.float64))
    return float(of_all) / parts.world.size
