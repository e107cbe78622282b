"""What experts know of training recipes before any run: usual learning rates, schedules worth trying, scales.

Shared by the two directions of `coordinates.py`: from a config to a point, and from a point to a patch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hotlap.config.base import is_part
from hotlap.config.models import is_free_gpt
from hotlap.config.schema import GPTConfig, RunConfig
from hotlap.search.pace import Pace, examples_per_step

USUAL_RATES: Final[Mapping[str, float]] = {
    "adamw_torch": 1e-3,
    "adamw_torch_fused": 1e-3,
    "adafactor": 1e-3,
    "sgd": 0.1,
    "muon": 3e-3,
}
"""Learning rates that experts start from at 32 examples a step and a width of 128; with Muon that of the rest."""
USUAL_MUON_RATE: Final = 0.02
USUAL_EXAMPLES: Final = 32
USUAL_WIDTH: Final = 128
HORIZON_RANGE: Final = (0.15, 1.0)
"""Schedules that are worth trying, relative to the incumbent's time."""
LONGEST_HORIZON: Final = 20.0
"""Times the incumbent's time: what lies beyond is all the same, with no decay to speak of."""
WITHOUT_WARMUP: Final = ("constant", "triangular")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What the coordinates of a study are relative to."""

    parent: RunConfig
    """The incumbent's config, which patches change."""
    base: RunConfig
    """The config that the study began with; where nobody knows the usual rate, its own is the usual one."""
    pace: Pace
    reference_seconds: float
    """The incumbent's time on the training clock."""
    micro_batch_limit: float = math.inf
    """Rows per device and pass that are known to fit, or can be hoped to."""

    @property
    def reference_steps(self) -> float:
        """The incumbent's time in its own steps."""
        return self.reference_seconds / self.pace.seconds_per_step_of(self.parent)

    def usual_rate(self, config: RunConfig) -> float:
        """Return the learning rate to start from, unscaled; for models and optimizers not ours the user's own."""
        usual = USUAL_RATES.get(config.training.optim) if is_free_gpt(config.model) else None
        return self.base.training.learning_rate if usual is None else usual


def rate_scale(config: RunConfig) -> float:
    """Return by how much learning rates move with batch and width, relative to 32 examples and 128 channels.

    With the square root of the batch, as noise does; and against that of the width, the middle between the standard
    parametrisation, which says nothing, and μP (arXiv 2203.03466), which says one over it.
    """
    width = config.model.hidden_size if isinstance(config.model, GPTConfig) else USUAL_WIDTH
    return math.sqrt(examples_per_step(config) / USUAL_EXAMPLES * USUAL_WIDTH / width)


def has_horizon(config: RunConfig) -> bool:
    """Say whether the end of the schedule can be written as a number of steps."""
    return config.training.schedule_by != "tokens" and not is_part(config.training.lr_scheduler_type)


def horizon_seconds(config: RunConfig, seconds_per_step: float) -> float:
    """Return where the schedule ends on the training clock; infinite where only the data would tell."""
    training = config.training
    if training.schedule_by == "seconds":
        return config.budget.run
    return training.max_steps * seconds_per_step if training.max_steps > 0 else math.inf


def warmup_steps(config: RunConfig, seconds_per_step: float) -> float:
    """Return the steps of warm-up, also where the schedule is in seconds; 0 where only the data would tell."""
    training = config.training
    if training.lr_scheduler_type in WITHOUT_WARMUP:
        return 0.0
    if training.schedule_by == "seconds":
        return (training.warmup_steps or training.warmup_ratio) * config.budget.run / seconds_per_step
    return float(training.warmup_steps_of(max(0, training.max_steps)))


def optimizer_class(optim: str) -> str:
    """Return the optimizer without how it is computed; empty for the project's own."""
    if is_part(optim):
        return ""
    return "adamw" if optim.startswith("adamw") else optim
