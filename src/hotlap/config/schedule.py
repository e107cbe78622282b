"""The learning-rate schedule of a config in plain numbers: its unit, its warm-up and where it ends.

schedule_of(config).factor(position)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hotlap.config.base import is_part
from hotlap.config.schema import RunConfig
from hotlap.core.errors import ConfigError
from hotlap.core.schedules import learning_rate_factor

Unit = Literal["steps", "tokens", "seconds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule with all its numbers; position, warm-up and horizon are in `unit`."""

    name: str
    unit: Unit
    warmup: float
    horizon: float
    peak: float
    """The learning rate that a factor of 1 stands for."""
    arguments: Mapping[str, Any]
    custom: Callable[..., float] | None = None
    """The project's own function of (position, warmup, horizon, **arguments), for a name `module:function`."""

    def factor(self, position: float) -> float:
        """Return the factor for the peak learning rate at a position: updates taken, tokens seen or seconds spent.

        Raises ConfigError for a name `module:function` without its function.
        """
        if self.custom is not None:
            return float(self.custom(position, self.warmup, self.horizon, **self.arguments))
        if is_part(self.name):
            raise ConfigError(
                f"training.lr_scheduler_type {self.name} is code of the project, which only a training runs; "
                f"its learning rates stand in the run's points"
            )
        stride = 1.0 if self.unit == "steps" else 0.0
        return learning_rate_factor(
            self.name, position, self.warmup, self.horizon, self.arguments, self.peak, stride=stride
        )


def schedule_of(
    config: RunConfig, *, max_steps: int | None = None, custom: Callable[..., float] | None = None
) -> Schedule:
    """Return the schedule of a config.

    The horizon is `training.max_steps`, `training.max_tokens` or `budget.run`; `max_steps` takes the place of the
    first where the training runs by epochs. Raises ConfigError when the config does not say where the schedule ends.
    """
    training = config.training
    unit = training.schedule_by
    steps = max_steps or (None if training.is_by_epochs else training.max_steps)
    ends: dict[str, float | None] = {"steps": steps, "tokens": training.max_tokens, "seconds": config.budget.run}
    horizon = ends[unit]
    if horizon is None:
        key = "max_steps" if unit == "steps" else "max_tokens"
        raise ConfigError(
            "how many steps there are follows from num_train_epochs and the data; set them to see the schedule, for "
            f"instance with -s training.{key}=1000"
        )
    if unit == "steps":
        warmup: float = training.warmup_steps_of(int(horizon))
    else:
        warmup = (training.warmup_steps or training.warmup_ratio) * horizon
    return Schedule(
        name=training.lr_scheduler_type,
        unit=unit,
        warmup=warmup,
        horizon=horizon,
        peak=training.learning_rate,
        arguments=training.lr_scheduler_kwargs,
        custom=custom,
    )
