"""The section `training`, checked as a whole: names and meanings of Hugging Face's TrainingArguments."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import model_validator

from hotlap.config.schedule_arguments import schedule_problems
from hotlap.config.training_rules import imply, training_problems
from hotlap.config.training_settings import TrainingSettings

BatchOrderName = Literal["random", "sequential", "bucketed", "packed"]


class TrainingConfig(TrainingSettings):
    """How the model is trained; the names and meanings of Hugging Face's TrainingArguments."""

    @model_validator(mode="before")
    @classmethod
    def _imply(cls, values: Any) -> Any:
        return imply(values) if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = list(self._problems())
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _problems(self) -> Iterator[str]:
        yield from schedule_problems(self.lr_scheduler_type, self.lr_scheduler_kwargs, self.learning_rate)
        yield from training_problems(self)

    @property
    def is_by_epochs(self) -> bool:
        """Whether num_train_epochs says how long to train, rather than max_steps."""
        return self.max_steps == -1

    @property
    def num_warmup_steps(self) -> int:
        """Whole steps of warm-up; 0 where it is a fraction of steps that only the data will tell."""
        return self.warmup_steps_of(max(0, self.max_steps))

    @property
    def batch_order(self) -> BatchOrderName:
        """The order in which examples come into batches, by padding and sampling strategy."""
        if self.padding == "packed":
            return "packed"
        is_bucketed = self.padding == "bucketed" or self.group_by_length
        if is_bucketed or self.train_sampling_strategy == "group_by_length":
            return "bucketed"
        return self.train_sampling_strategy

    def warmup_steps_of(self, max_steps: int) -> int:
        """Return the whole steps of warm-up (Hugging Face: warmup_steps, else the ratio, rounded up)."""
        if self.warmup_steps >= 1:
            return int(self.warmup_steps)
        return math.ceil(max_steps * (self.warmup_steps or self.warmup_ratio))

    @staticmethod
    def interval(value: float, max_steps: int) -> int:
        """Return the whole steps that logging_steps, eval_steps or save_steps stand for; below 1 they are a share."""
        return math.ceil(max_steps * value) if value < 1 else int(value)
