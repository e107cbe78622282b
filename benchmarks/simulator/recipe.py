"""The settings that a simulated training listens to, read off an ordinary config; all others change nothing."""

from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotlap.config.schedule import schedule_of
from hotlap.config.schema import GPTConfig, RunConfig
from hotlap.core.schedules import learning_rate_factor

TOKENS_PER_EXAMPLE = 48
_SAMPLES = 160
"""Positions at which a schedule is read; between them it is a straight line."""

Table = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""Positions of a schedule, the factors there and their integral up to there, each of shape (M,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A config in the numbers that count here."""

    learning_rate: float
    muon_learning_rate: float
    optim: str
    batch: int
    """Examples of an optimizer step."""
    micro_batch: int
    """Examples of one forward pass: what memory has to hold."""
    width: int
    layers: int
    dropout: float
    """Mean of the model's three rates."""
    schedule: str
    schedule_arguments: tuple[tuple[str, Any], ...]
    schedule_by: str
    warmup: float
    """In the schedule's unit, as the horizon is."""
    horizon: float
    max_steps: int

    def factors(self, steps: NDArray[np.float64], seconds_per_step: float) -> NDArray[np.float64]:
        """Return the share of the peak learning rate that the update after each number of steps uses, shape (N,)."""
        positions, values, _ = self._table
        return np.interp(steps * self._stride(seconds_per_step), positions, values)

    def taken(self, steps: NDArray[np.float64], seconds_per_step: float) -> NDArray[np.float64]:
        """Return the steps at the full learning rate that so many steps of the schedule amount to, shape (N,)."""
        stride = self._stride(seconds_per_step)
        positions, values, sums = self._table
        beyond = np.maximum(0.0, steps * stride - positions[-1])
        return (np.interp(steps * stride, positions, sums) + beyond * values[-1]) / stride

    def _stride(self, seconds_per_step: float) -> float:
        """Return what a step adds to the position in the schedule."""
        strides = {"steps": 1.0, "tokens": float(self.batch * TOKENS_PER_EXAMPLE), "seconds": seconds_per_step}
        return strides[self.schedule_by]

    @property
    def _table(self) -> Table:
        return _schedule_table(self.schedule, self.warmup, self.horizon, self.schedule_arguments)


def recipe_of(config: RunConfig) -> Recipe:
    """Read a config of hotlap's own model."""
    model, training = config.model, config.training
    assert isinstance(model, GPTConfig), model
    micro_batch = training.per_device_train_batch_size
    assert micro_batch != "auto", "the simulation needs a number of examples"
    schedule = schedule_of(config)
    return Recipe(
        learning_rate=training.learning_rate,
        muon_learning_rate=training.muon_learning_rate,
        optim=training.optim,
        batch=micro_batch * training.gradient_accumulation_steps,
        micro_batch=micro_batch,
        width=model.hidden_size,
        layers=model.num_hidden_layers,
        dropout=fmean((model.embd_pdrop, model.attn_pdrop, model.resid_pdrop)),
        schedule=schedule.name,
        schedule_arguments=tuple(sorted(schedule.arguments.items())),
        schedule_by=schedule.unit,
        warmup=schedule.warmup,
        horizon=schedule.horizon,
        max_steps=training.max_steps,
    )


@lru_cache(maxsize=4096)
def _schedule_table(name: str, warmup: float, horizon: float, arguments: tuple[tuple[str, Any], ...]) -> Table:
    rising = np.linspace(0.0, warmup, 9) if warmup else np.zeros(1)
    positions = np.unique(np.concatenate([rising, np.linspace(warmup, max(horizon, warmup + 1), _SAMPLES)]))
    given = dict(arguments)
    found = [learning_rate_factor(name, float(p), warmup, horizon, given, 1.0, stride=0.0) for p in positions]
    values = np.array(found)
    means = 0.5 * (values[1:] + values[:-1])
    return positions, values, np.concatenate([[0.0], np.cumsum(means * np.diff(positions))])
