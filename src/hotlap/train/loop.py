"""The training loop, as a generator: whoever iterates logs, evaluates and saves between the steps.

for step in train_steps(parts, clock):
    ...
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from hotlap.core.clock import TrainClock
from hotlap.core.errors import DivergedError
from hotlap.data.batches import Batch, collate
from hotlap.train.parts import Parts


@dataclass(slots=True)
class Step:
    """One optimizer step that has been taken."""

    number: int
    """Counted from 1."""
    loss: float
    """Mean over the step's target tokens, in nats."""
    grad_norm: float | None
    """Total norm before clipping; None where it was not computed."""
    learning_rate: float
    """The learning rate that the step used."""
    num_tokens: int
    num_slots: int
    """Tokens with and without padding left out."""


@dataclass(slots=True)
class StepTimer:
    """Seconds in the parts of the steps; on a GPU they are the host's and say little, so they stay empty there."""

    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("data", "forward", "backward", "optimizer"), 0.0)
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


def train_steps(parts: Parts, clock: TrainClock, timer: StepTimer) -> Iterator[Step]:
    """Take `training.max_steps` optimizer steps and yield each; only the steps themselves are on the clock.

    Raises DivergedError when the loss or the gradient norm is not finite.
    """
    training = parts.config.training
    parts.model.train()
    for number in range(1, training.max_steps + 1):
        with clock.counting():
            timer.start()
            batches = _batches(parts, number)
            timer.book("data")
            learning_rate = parts.optimizers.set_learning_rate(number - 1)
            loss = _accumulate_gradients(parts, batches, timer)
            wants_norm = training.max_grad_norm > 0 or number % training.logging_steps == 0
            grad_norm = _clip(parts, training.max_grad_norm) if wants_norm else None
            _refuse_divergence(number, loss, grad_norm)
            parts.optimizers.step()
            parts.optimizers.zero_grad()
            parts.synchronize()
            timer.book("optimizer")
        yield Step(
            number=number,
            loss=loss,
            grad_norm=grad_norm,
            learning_rate=learning_rate,
            num_tokens=sum(batch.num_tokens for batch in batches),
            num_slots=sum(batch.num_slots for batch in batches),
        )


def target_loss(parts: Parts, batch: Batch, reduction: str = "mean") -> tuple[Tensor, Tensor]:
    """Return the cross-entropy over the batch's targets and their logits (N, V); the head sees targets only."""
    device = parts.device
    with parts.autocast():
        hidden = parts.model.hidden(batch.input_ids.to(device))
        chosen = hidden.flatten(0, 1).index_select(0, batch.target_positions.to(device))
        logits = parts.model.logits(chosen)
    logits = logits.float()
    return F.cross_entropy(logits, batch.targets.to(device), reduction=reduction), logits


def _batches(parts: Parts, number: int) -> list[Batch]:
    """Return the micro-batches of step `number`."""
    training = parts.config.training
    length = parts.longest if training.padding == "max_length" else None
    first = (number - 1) * training.gradient_accumulation_steps
    return [
        collate([parts.train[row] for row in parts.order.rows(first + place)], length)
        for place in range(training.gradient_accumulation_steps)
    ]


def _accumulate_gradients(parts: Parts, batches: list[Batch], timer: StepTimer) -> float:
    """Add up the gradients of the mean over all target tokens of the step; return that mean."""
    num_targets = sum(len(batch.targets) for batch in batches)
    total = 0.0
    for batch in batches:
        loss, _ = target_loss(parts, batch, reduction="sum")
        loss = loss / num_targets
        timer.book("forward")
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.item()
        timer.book("backward")
    return total


def _clip(parts: Parts, max_norm: float) -> float:
    """Return the gradient norm; clip to `max_norm` unless it is 0."""
    limit = max_norm or math.inf
    return torch.nn.utils.clip_grad_norm_(parts.model.parameters(), limit).item()


def _refuse_divergence(number: int, loss: float, grad_norm: float | None) -> None:
    if not math.isfinite(loss):
        raise DivergedError(
            f"the training loss is {loss} at step {number}; lower the learning rate or lengthen the warm-up"
        )
    if grad_norm is not None and not math.isfinite(grad_norm):
        raise DivergedError(f"the gradient norm is {grad_norm} at step {number}; lower the learning rate")
