"""Where a training is on its learning-rate schedule: counted in steps, in tokens or in seconds of its budget."""

from dataclasses import dataclass

from hotlap.config.schedule import Schedule


@dataclass(frozen=True, slots=True)
class Position:
    """What has been done before the next step."""

    steps: int = 0
    tokens: int = 0
    """Without padding, over all devices."""
    seconds: float = 0.0
    """On the clock that the budget is for."""


@dataclass(frozen=True, slots=True)
class Horizon:
    """The schedule of one training and where it ends."""

    schedule: Schedule
    max_steps: int
    """Optimizer steps; what `num_train_epochs` amounts to where the config counts in epochs."""

    def factor(self, position: Position) -> float:
        """Return the factor for the peak learning rates of the step that comes next."""
        places = {"steps": position.steps, "tokens": position.tokens, "seconds": position.seconds}
        return self.schedule.factor(places[self.schedule.unit])

    def is_over(self, position: Position) -> bool:
        """Say whether the training ends before the next step."""
        if self.schedule.unit == "steps":
            return position.steps >= self.max_steps
        done = position.tokens if self.schedule.unit == "tokens" else position.seconds
        return done >= self.schedule.horizon
