"""How long a step of an untried recipe will take: a power law through the steps that were measured.

Simple cost models predict training time well (arXiv 2011.11456), and a schedule in seconds needs one before it can be
written in steps.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from hotlap.config.schema import GPTConfig, RunConfig
from hotlap.core.records import History, RunRecord
from hotlap.search.drift import comparable_runs, equivalent_factor

DEFAULT_EXPONENT: Final = 0.8
"""Growth of step time with the work in a step, until enough sizes were measured: a little is always fixed cost."""
_EXPONENT_BOUNDS: Final = (0.3, 1.0)
_LEAST_SIZES: Final = 4
_LEAST_SPAN: Final = math.log(2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds per step as a function of the work in a step, through a measured reference."""

    work: float
    seconds_per_step: float
    exponent: float = DEFAULT_EXPONENT

    def seconds_per_step_of(self, config: RunConfig) -> float:
        """Return the expected training seconds of one optimizer step of a config."""
        return self.seconds_per_step * float((step_work(config) / self.work) ** self.exponent)


def measure_pace(history: History, reference: int, configs: Mapping[int, RunConfig]) -> Pace:
    """Return the pace through the reference candidate, its exponent fitted to all candidates where they tell it.

    The reference must have a run that took a step.
    """
    seconds = step_seconds(history)
    sizes = [(math.log(step_work(configs[number])), math.log(taken)) for number, taken in seconds.items()]
    return Pace(
        work=step_work(configs[reference]), seconds_per_step=seconds[reference], exponent=_fitted_exponent(sizes)
    )


def step_seconds(history: History) -> dict[int, float]:
    """Return the median training seconds of a step for each candidate that took one, on the machine as it is now.

    Runs of which nobody knows how fast the machine was are left out.
    """
    return _by_candidate(history, lambda run: run.seconds_per_step)


def told_step_seconds(history: History) -> dict[int, float]:
    """Return the same of steps alone: for a command of the user's own by what its lines tell of them."""
    return _by_candidate(history, lambda run: run.told_step_seconds)


def whole_step_seconds(history: History) -> dict[int, float]:
    """Return the same of whole runs, the start-up of a command included; none where what was counted are lines."""
    return _by_candidate(history, lambda run: run.whole_step_seconds)


def _by_candidate(history: History, seconds_of: Callable[[RunRecord], float]) -> dict[int, float]:
    found: dict[int, float] = {}
    for number in range(len(history.proposals) + 1):
        runs = [run for run in comparable_runs(history, number) if run.role not in ("manual", "audit")]
        stepped = [run for run in runs if seconds_of(run) > 0]
        if stepped:
            found[number] = median(equivalent_factor(history, run) * seconds_of(run) for run in stepped)
    return found


def step_work(config: RunConfig) -> float:
    """Return a number in proportion to the multiplications of one step: examples times weights of the model."""
    model = config.model
    if not isinstance(model, GPTConfig):
        return float(examples_per_step(config))
    weights = 12 * model.num_hidden_layers * model.hidden_size**2 + 256 * model.hidden_size
    return float(examples_per_step(config)) * weights


def examples_per_step(config: RunConfig) -> int:
    """Return the examples that one optimizer step sees, over all devices."""
    training = config.training
    if training.total_batch_tokens is not None:
        return max(1, training.total_batch_tokens // (tokens_per_row(config) or 1))
    rows = training.per_device_train_batch_size
    if rows == "auto":
        return training.total_batch_size or 1
    return rows * training.gradient_accumulation_steps * config.devices


def tokens_per_row(config: RunConfig) -> int | None:
    """Return the tokens of a task's rows where they all have as many, else None."""
    tokens = getattr(config.task, "block_size", None)
    return tokens if isinstance(tokens, int) else None


def _fitted_exponent(sizes: Sequence[tuple[float, float]]) -> float:
    """Return the slope of log seconds over log work; the default where there are few sizes, or all alike."""
    works = {round(work, 6) for work, _ in sizes}
    if len(works) < _LEAST_SIZES or max(works) - min(works) < _LEAST_SPAN:
        return DEFAULT_EXPONENT
    center = math.fsum(work for work, _ in sizes) / len(sizes)
    level = math.fsum(taken for _, taken in sizes) / len(sizes)
    spread = math.fsum((work - center) ** 2 for work, _ in sizes)
    slope = math.fsum((work - center) * (taken - level) for work, taken in sizes) / spread
    low, high = _EXPONENT_BOUNDS
    return min(max(slope, low), high)
