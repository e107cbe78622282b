"""When a run saves checkpoints, and which of them it keeps."""

from typing import Any

from hotlap.core.records import Outcome
from hotlap.train.checkpoint import capture_rng, load_checkpoint, prune_checkpoints, save_checkpoint
from hotlap.train.distributed import gather_objects
from hotlap.train.parts import Parts
from hotlap.worker.session import Session


class Saver:
    """Saves by steps, by epochs, by the wall clock, or whenever the chosen metric is the best so far."""

    def __init__(self, session: Session, parts: Parts) -> None:
        training = parts.config.training
        self._folder = session.folder
        self._parts = parts
        self._training = training
        steps = training.save_steps
        self._every_steps = training.interval(steps, parts.horizon.max_steps) if steps is not None else None
        self._saved_wall = 0.0
        self._last_step = 0
        self.best_step = 0
        self.best_value: float | None = None
        self.best_metrics: dict[str, float] = {}

    @property
    def is_wanted(self) -> bool:
        """Whether this run makes checkpoints at all; otherwise a signal has nothing to save for."""
        training = self._training
        by_steps = training.save_strategy == "steps" and self._every_steps is not None
        return by_steps or training.save_strategy in ("epoch", "best") or training.save_every is not None

    def is_due(self, step: int, wall_seconds: float, *, is_last: bool) -> bool:
        """Say whether a checkpoint is due at a step's end; the same on every device, since the readings are."""
        training = self._training
        if training.save_every is not None and (is_last or wall_seconds - self._saved_wall >= training.save_every):
            return True
        if training.save_strategy == "steps" and self._every_steps is not None:
            return step % self._every_steps == 0 or is_last
        return training.save_strategy == "epoch" and (step % self._parts.steps_per_epoch == 0 or is_last)

    def note_metrics(self, step: int, metrics: dict[str, float]) -> bool:
        """Remember the best evaluation; return whether it is one to save for its own sake."""
        training = self._training
        name = training.metric_for_best_model
        if name is None or name not in metrics:
            return False
        sign = 1.0 if training.greater_is_better else -1.0
        if self.best_value is not None and sign * metrics[name] <= sign * self.best_value:
            return False
        self.best_value, self.best_step, self.best_metrics = metrics[name], step, metrics
        return training.save_strategy == "best" or training.load_best_model_at_end

    def save(self, state: dict[str, Any], wall_seconds: float) -> None:
        """Write a checkpoint of the present step, then delete what is no longer to be kept."""
        step = int(state["step"])
        if step == self._last_step:
            return
        parts = self._parts
        state = {**state, "best_step": self.best_step, "best_value": self.best_value, "best_metrics": self.best_metrics}
        state |= {"max_steps": parts.horizon.max_steps, "world_size": parts.world.size}
        state |= {"batch_size": parts.batch_size, "accumulation_steps": parts.accumulation_steps}
        rng_states = gather_objects(self._parts.world, capture_rng(self._parts.device))
        if self._parts.world.is_main:
            optimizers = None if self._training.save_only_model else self._parts.optimizers
            save_checkpoint(self._folder.path, self._parts.model, optimizers, state, rng_states)
            keep = [self._folder.checkpoint_path(self.best_step).name] if self.best_step else []
            prune_checkpoints(self._folder.path, self._training.save_total_limit, keep)
        self._saved_wall, self._last_step = wall_seconds, step

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what a checkpoint says of the ones before it."""
        self.best_step, self.best_value = state["best_step"], state["best_value"]
        self.best_metrics = dict(state["best_metrics"])
        self._saved_wall, self._last_step = state["wall_seconds"], int(state["step"])

    def load_best(self, metrics: dict[str, float]) -> tuple[str, dict[str, float]]:
        """Put the best checkpoint's weights back; return what was done, for people, and the metrics of the weights."""
        path = self._folder.checkpoint_path(self.best_step)
        if not self.best_step or not path.exists():
            return "no checkpoint of the best evaluation was saved: the last weights stay", metrics
        load_checkpoint(path, self._parts.model, None, self._parts.device)
        return f"the weights of step {self.best_step} are back (best value {self.best_value:.4g})", self.best_metrics


KEEPS_WEIGHTS: frozenset[Outcome] = frozenset(("reached", "missed", "out_of_budget"))
"""Outcomes after which the final weights are worth writing."""
