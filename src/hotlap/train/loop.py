"""The training loop, as a generator: whoever iterates logs, evaluates and saves between the steps.

for step in train_steps(parts, clock, timer, signs):
    ...
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hotlap.core.clock import TrainClock
from hotlap.core.errors import DivergedError
from hotlap.data.loader import AnyBatch
from hotlap.optim.measure import UpdateNorm, clip_gradients, gradient_norm
from hotlap.train.distributed import share_step, sum_over_ranks, syncing
from hotlap.train.horizon import Position
from hotlap.train.parts import Parts


@dataclass(slots=True)
class Step:
    """One optimizer step that has been taken; the same values on every device."""

    number: int
    """Counted from 1."""
    loss: float
    """Mean over the step's target tokens on all devices, in nats."""
    grad_norm: float | None
    """Total norm before clipping; None where it was not computed."""
    learning_rate: float
    """The learning rate that the step used."""
    num_tokens: int
    num_slots: int
    """Tokens on all devices, without and with padding."""
    train_seconds: float
    wall_seconds: float
    """Readings of the first process's clocks at the end of the step."""
    is_interrupted: bool
    """Whether a process was asked to end."""
    figures: dict[str, float] = field(default_factory=dict)
    """What else was measured: sizes of the updates by role, gradient noise."""


@dataclass(slots=True)
class StepTimer:
    """Seconds in the parts of the steps; on a GPU they are the host's, which only queues the work."""

    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("waiting", "data", "forward", "backward", "optimizer"), 0.0)
    )
    _last: float = 0.0

    def start(self) -> None:
        """Start to count."""
        self._last = time.perf_counter()

    def book(self, part: str) -> None:
        """Book the time since the last call on a part."""
        now = time.perf_counter()
        self.seconds[part] += now - self._last
        self._last = now


@dataclass(frozen=True, slots=True)
class Signs:
    """What the loop asks the world outside at the end of each step."""

    wall_seconds: Callable[[], float]
    is_interrupted: Callable[[], bool]
    start: Position = field(default_factory=Position)
    """Where a resumed training goes on."""


def train_steps(parts: Parts, clock: TrainClock, timer: StepTimer, signs: Signs) -> Iterator[Step]:
    """Take optimizer steps to the end of the horizon and yield each; only the steps themselves are on the clock.

    Raises DivergedError after the step whose loss or gradient norm is not finite.
    """
    training = parts.config.training
    position = signs.start
    parts.objective.train()
    while not parts.horizon.is_over(position):
        number = position.steps + 1
        is_measured = is_logged(parts, number)
        with clock.counting():
            timer.start()
            first = position.steps * parts.accumulation_steps
            parts.source.wait_for(first, parts.accumulation_steps)
            timer.book("waiting")
            batches, num_targets = parts.source.micro_batches(first, parts.accumulation_steps)
            if not parts.source.knows_all_targets:
                num_targets = int(sum_over_ranks(parts.world, torch.tensor(num_targets)))
            timer.book("data")
            learning_rate = parts.optimizers.set_learning_rate(parts.horizon.factor(position))
            loss = _accumulate_gradients(parts, batches, num_targets, timer)
            norm = _clip(parts, training.max_grad_norm, is_measured=is_measured)
            update = UpdateNorm(parts.optimizers) if training.measure_update_norm and is_measured else None
            if parts.device.type != "cpu" or _is_finite(loss, norm):  # on a GPU, asking would mean waiting
                parts.optimizers.step()
            parts.optimizers.zero_grad()
            parts.synchronize()
            timer.book("optimizer")
        shared = share_step(
            parts.world,
            loss=loss,
            num_tokens=sum(batch.num_tokens for batch in batches),
            num_slots=sum(batch.num_slots for batch in batches),
            train_seconds=clock.seconds,
            wall_seconds=signs.wall_seconds(),
            is_interrupted=signs.is_interrupted(),
        )
        grad_norm = None if norm is None else norm.item()
        _refuse_divergence(number, shared.loss, grad_norm)
        figures = update.result() if update is not None else {}
        if parts.noise is not None and is_measured:
            figures |= parts.noise.result()
        reading = shared.train_seconds if parts.config.clock == "train" else shared.wall_seconds
        position = Position(number, position.tokens + shared.num_tokens, reading)
        yield Step(
            number=number,
            loss=shared.loss,
            grad_norm=grad_norm,
            learning_rate=learning_rate,
            num_tokens=shared.num_tokens,
            num_slots=shared.num_slots,
            train_seconds=shared.train_seconds,
            wall_seconds=shared.wall_seconds,
            is_interrupted=shared.is_interrupted,
            figures=figures,
        )


def is_logged(parts: Parts, step: int) -> bool:
    """Say whether a line of training figures is written after a step."""
    training = parts.config.training
    if training.logging_first_step and step == 1:
        return True
    if training.logging_strategy == "epoch":
        return step % parts.steps_per_epoch == 0
    return training.logging_strategy == "steps" and (
        step % training.interval(training.logging_steps, parts.horizon.max_steps) == 0
    )


def _accumulate_gradients(parts: Parts, batches: list[AnyBatch], num_targets: int, timer: StepTimer) -> Tensor:
    """Add up the gradients of the mean over all target tokens of the step; return this device's share of that mean.

    The gradients are averaged over the processes when they are shared, hence the factor.
    """
    total = torch.zeros((), device=parts.device)
    for place, batch in enumerate(batches):
        with syncing(parts.objective, is_last=place == len(batches) - 1):
            loss = parts.loss(batch)
            loss = loss / num_targets
            timer.book("forward")
            (loss * parts.world.size if parts.world.size > 1 else loss).backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
        if parts.noise is not None:
            parts.noise.add_micro_batch(parts.parameters, len(batches), num_targets)
        timer.book("backward")
    return total


def _clip(parts: Parts, max_norm: float, *, is_measured: bool) -> Tensor | None:
    """Clip the gradient to `max_norm` unless that is 0; return its norm, or None where nobody needs it."""
    if not max_norm and not is_measured:
        return None
    norm = gradient_norm(parts.parameters)
    if max_norm:
        clip_gradients(parts.parameters, norm, max_norm)
    return norm


def _is_finite(*values: Tensor | None) -> bool:
    return all(math.isfinite(value.item()) for value in values if value is not None)


def _refuse_divergence(number: int, loss: float, grad_norm: float | None) -> None:
    if not math.isfinite(loss):
        raise DivergedError(
            f"the training loss is {loss} at step {number}; lower the learning rate or lengthen the warm-up"
        )
    if grad_norm is not None and not math.isfinite(grad_norm):
        raise DivergedError(f"the gradient norm is {grad_norm} at step {number}; lower the learning rate")
