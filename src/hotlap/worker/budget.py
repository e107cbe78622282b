"""When a run has to stop so that what comes after its last step still fits into its budget."""

import time
from collections.abc import Callable
from typing import Final

from hotlap.train.distributed import broadcast_floats
from hotlap.train.evaluate import Evaluator
from hotlap.train.loop import Step
from hotlap.train.parts import Parts
from hotlap.worker.session import Session

_BYTES_PER_SECOND: Final = 100e6  # a slow disk
_STATE_RATIO: Final = 3  # weights and two moments


class Budget:
    """The limits of a run; on the wall clock they hold with the last evaluation and the saving included."""

    def __init__(self, session: Session, parts: Parts, *, saves_checkpoints: bool) -> None:
        self._session = session
        self._parts = parts
        size = sum(p.numel() * p.element_size() for p in parts.model.parameters())
        kept = (1 if parts.config.training.save_model else 0) + (_STATE_RATIO if saves_checkpoints else 0)
        self._saving = kept * size / _BYTES_PER_SECOND
        self._evaluation = 0.0
        self._last_train_seconds = 0.0

    def start(self, evaluator: Evaluator, train_seconds: float, sample: Callable[[], object] | None = None) -> None:
        """Note where the training clock stands, and time one evaluation where the wall clock is limited.

        `sample` is what comes with each evaluation. That changes nothing of the training.
        """
        self._last_train_seconds = train_seconds
        if self._session.limit("wall") is None:
            return
        start = time.monotonic()
        evaluator.cheap_metrics()
        if evaluator.can_generate:
            evaluator.generation_metrics()
        if sample is not None and self._parts.world.is_main:
            sample()
        (self._evaluation,) = broadcast_floats(self._parts.world, [time.monotonic() - start])

    def passed(self, step: Step, *, is_evaluated: bool = False) -> str | None:
        """Say which limit another step would break, or None; all processes come to the same, by shared readings.

        `is_evaluated` says that an evaluation comes before that step.
        """
        step_seconds = step.train_seconds - self._last_train_seconds
        self._last_train_seconds = step.train_seconds
        rest = self._saving + self._evaluation * (2 if is_evaluated else 1)
        for clock, reading, after in (("train", step.train_seconds, 0.0), ("wall", step.wall_seconds, rest)):
            limit = self._session.limit(clock)
            if limit is not None and reading + step_seconds + after > limit:
                kept = f", {after:.1f} s of it for the last evaluation and saving" if after else ""
                return f"{reading:.1f} s on the {clock} clock, the limit is {limit:.1f} s{kept}"
        return None
